"""Tagging speed on CPU, whole 4-minute MP3s, fetch, decode, features, networks and writing included.

One member, the ensemble of five and a student; one member and the ensemble again from feature shards, where nothing
is decoded; the same work without Ray; and, where published weights are given (`--peers FOLDER`), FCN, CRNN and
musicnn: all in turn, on the same files. Speed per core is by the clock, in the steady state of a job. A CPU figure
counts what all processes of the job had of the processors together, which other work on the machine changes less.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.material import DISTINCT_SONGS, SONG_SECONDS, figure, make_songs
from benchmarks.peers import PEERS
from benchmarks.process import run_module
from benchmarks.untrained import write_untrained_bundle
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig, Config

MEMBERS = 5
SONGS_AT_LEAST = 80


@dataclass(frozen=True)
class Given:
    """What the benchmark cannot make by itself.

    Parameters
    ----------
    peers
        Folder of published weights (`benchmarks.peers`); None: the peers are left out.
    student
        Bundle of a student; None: the network of `[distill]`, untrained.
    """

    peers: str | None = None
    student: str | None = None


def run(clips: Path, folder: Path, rounds: int, given: Given | None = None) -> None:
    """Print `tag_xrealtime_per_core_*`; weights do not change how long a network takes."""
    given = given or Given()
    songs = make_songs(folder / "songs", max(SONGS_AT_LEAST, sum(1 for _ in clips.iterdir()) * 2 // 5))
    catalogue = folder / "tag.parquet"
    index_catalogue(str(songs), str(catalogue), CatalogueConfig())
    bundles = _bundles(folder, given)
    shards = str(folder / "tag-features")
    run_module("benchmarks.timed_job", "extract", str(catalogue), shards)
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for name, bundle in bundles.items():
            output = folder / f"tags-{name}-{number}"
            job = run_module("benchmarks.timed_job", "tag", str(catalogue), str(output), bundle).values
            found[f"per_core_{name}"].append(job["pace"] * SONG_SECONDS / job["cores"])
            found[f"per_cpu_{name}"].append(1e3 * SONG_SECONDS / job["cpu_ms"])
            if name != "student":
                places = [str(catalogue), f"{output}-again", bundle, shards]
                again = run_module("benchmarks.timed_job", "tag", *places).values
                found[f"retag_{name}"].append(again["pace"] / job["pace"])
            if name == "ensemble":
                _without_ray(job, str(catalogue), str(folder / f"plain-{number}"), bundle, found)
        if given.peers:
            _peers(given.peers, songs, found)
    _print(found, given)


def _bundles(folder: Path, given: Given) -> dict[str, str]:
    bundles = {"member": str(folder / "bundle-1"), "ensemble": str(folder / f"bundle-{MEMBERS}")}
    write_untrained_bundle(bundles["member"], members=1)
    write_untrained_bundle(bundles["ensemble"], members=MEMBERS)
    if given.student:
        return {**bundles, "student": given.student}
    write_untrained_bundle(str(folder / "student"), members=1, model=Config().distill.model)
    return {**bundles, "student": str(folder / "student")}


def _without_ray(
    job: dict[str, float], catalogue: str, output: str, bundle: str, found: dict[str, list[float]]
) -> None:
    plain = run_module("benchmarks.without_ray", catalogue, output, bundle).values
    found["ray_share"].append(1.0 - job["pace"] / plain["pace"])
    found["ray_share_cpu"].append(1.0 - plain["cpu_ms"] / job["cpu_ms"])


def _peers(weights: str, songs: Path, found: dict[str, list[float]]) -> None:
    paths = [str(songs / f"song{number:05d}.mp3") for number in range(DISTINCT_SONGS)]
    for name, value in run_module("benchmarks.peers", weights, *paths).values.items():
        found[f"peer_{name}"].append(value)
        found[f"over_{name}"].append(found["per_cpu_ensemble"][-1] / value)


def _print(found: dict[str, list[float]], given: Given) -> None:
    for name in ("member", "ensemble", "student"):
        figure(f"tag_xrealtime_per_core_{name}", found[f"per_core_{name}"], "×realtime/core")
        figure(f"tag_xrealtime_per_cpu_second_{name}", found[f"per_cpu_{name}"], "×realtime/CPU-s")
    for name in ("member", "ensemble"):
        figure(f"retag_over_tag_{name}", found[f"retag_{name}"], "ratio")
    figure("tag_ray_share", found["ray_share"], "of_time")
    figure("tag_ray_share_cpu", found["ray_share_cpu"], "of_CPU_time")
    if not given.student:
        print("# tag: the student is the network of [distill], untrained; --student BUNDLE for another")
    if not given.peers:
        print(f"# tag: left out, no published weights given (--peers FOLDER): {', '.join(PEERS)}")
        return
    for peer in PEERS:
        for length in ("whole", "60s"):
            figure(f"tag_xrealtime_per_cpu_second_{peer}_{length}", found[f"peer_{peer}_{length}"], "×realtime/CPU-s")
            figure(f"tag_ensemble_over_{peer}_{length}", found[f"over_{peer}_{length}"], "ratio")
