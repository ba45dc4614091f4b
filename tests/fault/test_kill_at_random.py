"""SIGKILL at random moments: the driver, an actor, a decoding child; each track comes out once, as it should.

The long test is reproducible as far as a seed goes: who is killed, in which order, and after how long. It prints what
it did (`MGC_KILL_SEED=7 pytest -s tests/fault/test_kill_at_random.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from audio_samples import m4a, music
from killing import descendants, features_of, job, run, wait_until
from small_music import SETTINGS, add_bad_files, write_music

from mgc.audio.decode.sndfile import encode
from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, load_config

pytestmark = pytest.mark.ray

KILLS = {"driver": 6, "actor": 7, "child": 7}
TRACKS = 240
SLOWLY = [
    "features.statistics=all",
    "features.frames=mfcc",
    "features.window_seconds=3",
    "cluster.tracks_per_chunk=4",
    "cluster.lease_seconds=5",
]
"""Work for some ten seconds on two cores, in many chunks."""
MOST_PARTS = 8
"""Parts that may be written between two kills; half of the time a kill follows at once, whatever is going on."""
LONGEST_SECONDS = 2.0
"""Waited on top, at most."""
ACTOR, CHILD = "ray::MapWorker", "mgc.audio.sandbox.child"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 good tracks in six formats, and every bad file; the path of their catalogue."""
    folder = tmp_path_factory.mktemp("random")
    samples = [music(12.0, 22_050, seed=seed) for seed in range(2)]
    kinds = ("wav", "flac", "mp3", "ogg", "au")
    files = {f"{kind}{seed}.{kind}": encode(samples[seed], 22_050, kind) for kind in kinds for seed in range(2)}
    files |= {f"m4a{seed}.m4a": m4a(samples[seed], 22_050) for seed in range(2)}
    for copy in range(TRACKS // len(files)):
        (folder / "music" / f"{copy:02d}").mkdir(parents=True)
        for name, data in files.items():
            (folder / "music" / f"{copy:02d}" / name).write_bytes(data)
    add_bad_files(folder / "music")
    index_catalogue(str(folder / "music"), str(folder / "catalogue.parquet"), CatalogueConfig(labels_from="folder"))
    return folder / "catalogue.parquet"


class Killer:
    """Starts the same command again and again, and kills it or what belongs to it."""

    def __init__(self, catalogue: Path, folder: Path, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.catalogue, self.folder = catalogue, folder
        self.began = time.monotonic()
        self.rounds: list[Path] = []
        self.driver: subprocess.Popen[bytes] | None = None

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def start(self, *, again: bool = False) -> subprocess.Popen[bytes]:
        """Start the command where it does not run: in a new place, or again where it was killed."""
        if not again or not self.rounds:
            self.rounds.append(self.folder / f"round-{len(self.rounds)}")
        command = job("extract_features.py", str(self.catalogue), "--output", str(self.rounds[-1]), settings=SLOWLY)
        with (self.folder / "said.txt").open("ab") as said:
            self.driver = subprocess.Popen(command, stdout=said, stderr=said)
        self.say(f"driver {self.driver.pid} starts in {self.rounds[-1].name}")
        return self.driver

    def kill(self, victim: str) -> None:
        """Kill one of a kind, at a random moment."""
        while True:
            driver = self.driver or self.start()
            pids = self._await(driver, victim)
            if driver.poll() is None and pids:
                break
            self._end(driver)
        pid = int(self.random.choice(pids))
        os.kill(pid, signal.SIGKILL)
        self.say(f"{victim} {pid} killed; {self._parts()} parts are there")
        if victim == "driver":
            driver.wait()
            self.start(again=True)

    def _await(self, driver: subprocess.Popen[bytes], victim: str) -> list[int]:
        """Wait for a random moment at which there is somebody to kill, or for the driver's end.

        Measured in parts and not only in seconds: on a busy machine the seconds would all pass before the first part.
        """
        parts = self._parts() + int(self.random.integers(0, MOST_PARTS + 1) * self.random.integers(0, 2))
        while driver.poll() is None and (self._parts() < parts or not self._victims(driver, victim)):
            time.sleep(0.02)
        moment = time.monotonic() + float(self.random.uniform(0.0, LONGEST_SECONDS))
        while driver.poll() is None and time.monotonic() < moment:
            time.sleep(0.01)
        return self._victims(driver, victim)

    def _parts(self) -> int:
        return len(list(self.rounds[-1].glob("runs/*/part-*.parquet")))

    def _victims(self, driver: subprocess.Popen[bytes], victim: str) -> list[int]:
        if victim == "driver":
            return [driver.pid]
        return descendants(driver.pid, ACTOR if victim == "actor" else CHILD)

    def _end(self, driver: subprocess.Popen[bytes]) -> None:
        """See a driver to its end, which must be a good one."""
        assert driver.wait() == 0, (self.folder / "said.txt").read_text()
        self.say("driver ended by itself")
        self.driver = None

    def finish(self) -> None:
        """Let what runs come to its end."""
        if self.driver:
            self._end(self.driver)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_twenty_kills_leave_no_trace(many: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("MGC_KILL_SEED", "3"))
    killer = Killer(many, tmp_path, seed)
    victims = [victim for victim, count in KILLS.items() for _ in range(count)]
    killer.random.shuffle(victims)
    try:
        for victim in victims:
            killer.kill(victim)
        killer.finish()
    finally:
        if killer.driver:
            killer.driver.kill()
            killer.driver.wait()
    whole = tmp_path / "whole"
    run(job("extract_features.py", str(many), "--output", str(whole), settings=SLOWLY))
    tracks = read_catalogue(str(many))
    expected = features_of(whole, tracks)
    assert expected["track_id"].to_list() == sorted(tracks["track_id"])
    assert expected["error_code"].null_count() == TRACKS
    for place in killer.rounds:
        assert_same_table(features_of(place, tracks), expected)
    killer.say(
        f"{len(victims)} kills, {len(killer.rounds)} tables of {expected.height} rows, all alike (seed {seed})"
    )


def assert_same_table(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Check rows and features; where they differ, say which tracks."""
    assert found["track_id"].to_list() == expected["track_id"].to_list()
    differ = [number for number in range(expected.height) if not found[number].equals(expected[number])]
    shown = found[differ].select("uri", "error_code", "error_message").rows()
    assert not differ, f"differ from the uninterrupted run: {shown}"


@pytest.mark.usefixtures("ray_two")
def test_an_actor_and_a_decoder_are_killed_and_the_run_goes_on(tmp_path: Path) -> None:
    """The same in short, and in this process: one of each is killed in the middle of a run."""
    write_music(tmp_path / "music", 40)
    index_catalogue(str(tmp_path / "music"), str(tmp_path / "c.parquet"), CatalogueConfig(labels_from="folder"))
    tracks = read_catalogue(str(tmp_path / "c.parquet"))
    config = load_config(None, [*SETTINGS, "features.statistics=all", "cluster.tracks_per_chunk=2"])
    killed: list[int] = []

    def kill_one(title: str, parts: int) -> None:
        def is_time() -> bool:
            return len(list(tmp_path.glob("killed/runs/*/part-*"))) >= parts and bool(descendants(os.getpid(), title))

        wait_until(is_time, 120.0)
        killed.append(descendants(os.getpid(), title)[0])
        os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=lambda: (kill_one(CHILD, 4), kill_one(ACTOR, 8)))
    killer.start()
    outcome = extract_features(tracks, str(tmp_path / "killed"), config, RunOptions())
    killer.join()
    extract_features(tracks, str(tmp_path / "whole"), config, RunOptions())
    assert len(killed) == 2
    assert outcome.failed_by_code == {}
    assert_same_table(features_of(tmp_path / "killed", tracks), features_of(tmp_path / "whole", tracks))
