"""A hundred kills on a cluster of several nodes: what is lost, doubled, torn or stale afterwards, and what it cost.

    python tests/fault/campaign.py [--kills 100] [--seed 1] [--folder DIR]

Each kill is one run of extract, tag or train on a local cluster of three nodes of one CPU each, in which a victim
that the seed chooses gets SIGKILL at a moment that the seed chooses: the driver, an actor or training worker, a
decoding child, the raylet of a node, a whole node, or the control store (GCS). Then the same command is run until it
ends well, on a new cluster where the old one died, and what readers see is compared with what an undisturbed run
wrote. The moment is a share of the undisturbed run's seconds, so on another machine the same seed kills about the
same work; an actor or a child that is not there by then dies as soon as it is. It prints one line a kill and a table
at the end; exit status 1 if anything was lost, doubled, torn, stale, or hung.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

HOME = Path(__file__).parents[2]
sys.path.insert(0, str(HOME / "tests"))

from killing import descendants, features_of, job  # noqa: E402
from ray_nodes import Nodes, local_nodes  # noqa: E402
from small_music import SETTINGS as ONE_FIT  # noqa: E402
from small_music import write_music  # noqa: E402

from mgc.catalogue.index import index_catalogue, read_catalogue  # noqa: E402
from mgc.config import CatalogueConfig  # noqa: E402
from mgc.models.bundle import load_bundle  # noqa: E402
from mgc.tables.predictions import read_predictions  # noqa: E402
from mgc.tables.publish import NOTES  # noqa: E402

TRACKS_PER_GENRE = 60
SETTINGS = [
    *ONE_FIT,
    "training.members=1",
    "training.epochs=6",
    "cluster.tracks_per_chunk=4",
    "cluster.lease_seconds=5",
]
VICTIMS = ("driver", "actor", "child", "raylet", "node", "gcs")
JOBS = ("extract", "tag", "train")
HANGS_AFTER_SECONDS = 300.0
WITHOUT_GCS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
"""How long a cluster whose control store died waits for it to come back; by default a minute."""
TRIES = 4
"""Runs after the kill, of which one must end well."""


@dataclass
class Kill:
    """One kill and what came of it."""

    number: int
    job: str
    victim: str
    share: float
    hit: bool = False
    first_status: int | None = None
    runs: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    stale: int = 0
    redone: int = 0
    hangs: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        status = "hung" if self.first_status is None else self.first_status
        what = f"kill {self.number:3d}  {self.job:7s} {self.victim:6s} at {self.share:4.0%}"
        if not self.hit:
            what += " (gone by then)"
        outcome = f"status {status}, {self.runs} runs, {self.seconds:.0f} s"
        bad = f"lost {self.lost}, doubled {self.doubled}, torn {self.torn}, stale {self.stale}, hangs {self.hangs}"
        return f"{what}: {outcome}; {bad}; done again {self.redone}"

    @property
    def faults(self) -> int:
        return self.lost + self.doubled + self.torn + self.stale + self.hangs


@dataclass
class Reference:
    """The inputs, and what undisturbed runs made of them in how many seconds."""

    folder: Path
    catalogue: Path
    features: Path
    bundle: Path
    predictions: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def command(self, name: str, output: Path, address: str | None) -> list[str]:
        where = ["--address", address] if address else []
        if name == "extract":
            return job("extract_features.py", str(self.catalogue), "-o", str(output), *where, settings=SETTINGS)
        if name == "tag":
            places = [str(self.catalogue), "-b", str(self.bundle), "-o", str(output)]
            return job("tag_catalogue.py", *places, *where, settings=SETTINGS)
        places = [str(self.catalogue), "-f", str(self.features), "-b", str(output)]
        return job("train_ensemble.py", *places, *where, settings=SETTINGS)


class Cluster:
    """Three nodes, built anew where something of them was killed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._own = stack, ExitStack()
        self.nodes: Nodes | None = None
        stack.callback(self._own.close)

    def whole(self) -> Nodes:
        if self.nodes is None:
            self._own.close()
            self.nodes = self._own.enter_context(local_nodes(1, 1, 1, **WITHOUT_GCS))
        return self.nodes

    def damaged(self) -> None:
        self.nodes = None


def make_reference(folder: Path, nodes: Nodes) -> Reference:
    """Make music, and what undisturbed runs make of it."""
    music, catalogue = write_music(folder / "music", TRACKS_PER_GENRE), folder / "catalogue.parquet"
    index_catalogue(str(music), str(catalogue), CatalogueConfig(manifest=str(music / "labels.csv")))
    made = Reference(folder, catalogue, folder / "features", folder / "bundle", folder / "predictions")
    for name, output in (("extract", made.features), ("train", made.bundle), ("tag", made.predictions)):
        started = time.monotonic()
        done = nodes.run(*made.command(name, output, nodes.address))
        assert done.returncode == 0, done.stdout + done.stderr
        made.seconds[name] = time.monotonic() - started
    return made


def victims_of(kind: str, driver: subprocess.Popen[bytes], nodes: Nodes, random: np.random.Generator) -> list[int]:
    """Return the processes that die together."""
    if kind == "driver":
        return [driver.pid]
    roots = [process.pid for process in nodes.processes]
    if kind == "gcs":
        return descendants(roots[0], "gcs_server")[:1]
    if kind in ("raylet", "node"):
        other = int(random.choice(roots[1:]))
        return descendants(other, "raylet/raylet")[:1] if kind == "raylet" else [-other]
    titles = ("ray::MapWorker", "ray::RayTrainWorker") if kind == "actor" else ("mgc.audio.sandbox.child",)
    found = [pid for root in roots for title in titles for pid in descendants(root, title)]
    return [int(random.choice(sorted(found)))] if found else []


def strike(pids: list[int]) -> bool:
    """SIGKILL processes, or a group where the number is negative; whether one was there."""
    hit = False
    for pid in pids:
        try:
            os.killpg(-pid, signal.SIGKILL) if pid < 0 else os.kill(pid, signal.SIGKILL)
            hit = True
        except ProcessLookupError:
            continue
    return hit


def one_kill(kill: Kill, reference: Reference, cluster: Cluster, random: np.random.Generator) -> None:
    """Kill once, run again until all is done, and look at what is there."""
    nodes = cluster.whole()
    output = reference.folder / f"kill-{kill.number:03d}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": nodes.environment, "cwd": HOME}
    began = time.monotonic()
    driver = subprocess.Popen(reference.command(kill.job, output, nodes.address), **quiet)  # type: ignore[call-overload]
    time.sleep(kill.share * reference.seconds[kill.job])
    while driver.poll() is None and not kill.hit:
        kill.hit = strike(victims_of(kill.victim, driver, nodes, random))
        time.sleep(0.1)  # an actor or a child that is not there yet
    try:
        kill.first_status = driver.wait(HANGS_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        kill.hangs += 1
        driver.kill()
        driver.wait()
    finished = finished_rows(kill.job, output)
    if kill.victim in ("raylet", "node", "gcs") and kill.hit:
        cluster.damaged()
    kill.runs = 1
    status = kill.first_status
    while status != 0 and kill.runs <= TRIES:
        nodes = cluster.whole()
        try:
            status = nodes.run(
                *reference.command(kill.job, output, nodes.address), seconds=HANGS_AFTER_SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            kill.hangs += 1
        kill.runs += 1
    kill.seconds = time.monotonic() - began
    compare(kill, reference, output, finished)


def finished_rows(name: str, output: Path) -> set[tuple[str, str]]:
    """Return (run, track) of each row in a finished part."""
    if name == "train" or not (output / "runs").is_dir():
        return set()
    tracks = {part: pl.read_parquet(part, columns=["track_id"])["track_id"] for part in output.glob("runs/*/part-*")}
    return {(part.parent.name, track) for part, rows in tracks.items() for track in rows}


def compare(kill: Kill, reference: Reference, output: Path, finished: set[tuple[str, str]]) -> None:
    """Count what differs from what an undisturbed run made."""
    if kill.job == "train":
        one, other = (load_bundle(str(place)) for place in (output, reference.bundle))
        kill.stale = int(one.facts["histories"][0][-1]["train_loss"] != other.facts["histories"][0][-1]["train_loss"])
        return
    tracks = read_catalogue(str(reference.catalogue))
    if kill.job == "extract":
        have, want = features_of(output, tracks), features_of(reference.features, tracks)
        same = ["track_id", "content_id", "log_mel", "error_code"]
    else:
        have, want = (read_predictions(str(place)).sort("track_id") for place in (output, reference.predictions))
        same = ["track_id", "content_id", "genre", "genre_probability", "embedding", "error_code"]
    kill.lost = want.join(have, on="track_id", how="anti").height
    kill.doubled = have.height - have["track_id"].n_unique()
    once = have.unique("track_id", keep="first", maintain_order=True)
    if once.height == want.height:
        rows = zip(once.select(same).rows(), want.select(same).rows(), strict=True)
        kill.stale = sum(one != other for one, other in rows)
    notes = {key.rpartition("/")[2] for key in NOTES}
    # The notes that make a plain read of `current` fail loudly are no tables, on purpose.
    kill.torn = sum(not readable(path) for path in output.rglob("*.parquet") if path.name not in notes)
    # Of what had been finished when the run ended, what a later run did once more: all its rows that are not resumed.
    by_run = defaultdict(set)
    for run, track in finished_rows(kill.job, output):
        by_run[run].add(track)
    before = {track for _, track in finished}
    first = {run for run, _ in finished}
    kill.redone = sum(len(tracks & before) for run, tracks in by_run.items() if run not in first)


def readable(path: Path) -> bool:
    try:
        pl.read_parquet(path)
    except Exception:  # whatever a torn file makes of itself
        return False
    return True


HEAD = (
    "victim",
    "kills",
    "runs ended by it",
    "rows lost, doubled, torn, stale",
    "hangs",
    "finished rows done again",
    "seconds more than undisturbed: median, most",
)


def table(kills: list[Kill]) -> str:
    """Return the table of the campaign, as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for victim in (*VICTIMS, "all"):
        own = [kill for kill in kills if kill.hit and victim in (kill.victim, "all")]
        if own:
            lines.append(_row(victim, own))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(victim: str, kills: list[Kill]) -> tuple[str, ...]:
    def total(name: str) -> int:
        return sum(getattr(kill, name) for kill in kills)

    seconds = [kill.seconds for kill in kills]
    bad = ", ".join(str(total(name)) for name in ("lost", "doubled", "torn", "stale"))
    ended = sum(kill.first_status != 0 for kill in kills)
    more = f"{statistics.median(seconds):.0f}, {max(seconds):.0f}"
    return victim, str(len(kills)), str(ended), bad, str(total("hangs")), str(total("redone")), more


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="victims that were there and died")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="where outputs go; default: a temporary folder")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    kills: list[Kill] = []
    with ExitStack() as stack:
        if arguments.folder:
            arguments.folder.mkdir(parents=True, exist_ok=True)
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mgc-campaign")))
        cluster = Cluster(stack)
        reference = make_reference(folder, cluster.whole())
        undisturbed = (f"{name} {seconds:.0f} s" for name, seconds in reference.seconds.items())
        print("undisturbed:", ", ".join(undisturbed), flush=True)
        # A victim that had gone by its moment is no kill: the campaign goes on until so many have died.
        while sum(kill.hit for kill in kills) < arguments.kills:
            number = len(kills)
            name, victim = JOBS[number % len(JOBS)], VICTIMS[int(random.integers(len(VICTIMS)))]
            if name == "train" and victim == "child":
                victim = "actor"  # training decodes nothing
            kill = Kill(number, name, victim, float(random.uniform(0.1, 0.8)))
            one_kill(kill, reference, cluster, random)
            # What undisturbed runs take is not the kill's.
            kill.seconds -= reference.seconds[name]
            kills.append(kill)
            print(kill, flush=True)
    print(table(kills))
    sys.exit(1 if sum(kill.faults for kill in kills) else 0)


if __name__ == "__main__":
    main()
