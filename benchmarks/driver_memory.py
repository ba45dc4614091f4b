"""What the driver of a tagging run holds where all tracks are new: its peak, and how it grows, stage by stage.

    python -m benchmarks.driver_memory FOLDER TRACKS

writes a catalogue below FOLDER where there is none, else tags it and prints the driver's memory after each stage.
Plan, index, commit and publishing are the real ones. The work is left out: the chunks are done by one child process,
which writes parts of made rows.
"""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.made_history import make_catalogue
from benchmarks.material import figure
from benchmarks.process import run_module
from benchmarks.publish_million import part_of
from mgc.catalogue.index import catalogue_slices
from mgc.cluster import actor_pool
from mgc.cluster import run as cluster_run
from mgc.cluster.run import CatalogueJob, RunOptions, run_incrementally
from mgc.cluster.runtime import RaySession
from mgc.config import ClusterConfig, Config
from mgc.storage.store import Store
from mgc.tables.deletions import DeletionRule
from mgc.tables.publish import CatalogueUris, publish
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import CATALOGUE, marked
from mgc.tables.work_items import clean_items

SIZES = (100_000, 1_000_000)
TRACKS_A_CHUNK = 500
BUNDLE = "b" * 16


class MadeWorker:
    """Answers from random numbers."""

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        """Return a row for each item."""
        names = np.array([uri.removeprefix("s3://music/") for uri in rows["uri"].to_pylist()])
        made = part_of(np.array(rows["track_id"].to_pylist()), names, 0, run.run_id, run.sequence)
        content = made.schema.get_field_index("content_id")
        made = made.set_column(content, "content_id", rows["content_id"])
        return made.cast(marked("predictions", fingerprint=run.fingerprint))


class ChildPool:
    """Stands where a `ray.data.Dataset` does: one child process does the chunks, one after another."""

    def __init__(self, n_chunks: int, size: object, actor_arguments: tuple[Any, ...], needs: object) -> None:
        self._n_chunks, self._arguments = n_chunks, actor_arguments

    def results(self) -> Iterator[pa.Table]:
        """Yield the index rows of each chunk."""
        with multiprocessing.get_context("spawn").Pool(1, _begin, self._arguments) as pool:
            yield from pool.imap(_do, range(self._n_chunks))


def _begin(*arguments: Any) -> None:
    global _ACTOR
    _ACTOR = actor_pool.ChunkActor(*arguments)


def _do(chunk: int) -> pa.Table:
    return _ACTOR(pa.table({actor_pool.CHUNK: [chunk]}))


_ACTOR: Any = None


@contextmanager
def _no_ray(config: ClusterConfig) -> Iterator[RaySession]:
    yield RaySession(({"CPU": 1.0},), joined=False)


def main() -> None:
    folder = Path(sys.argv[1])
    if not folder.exists():
        folder.mkdir(parents=True)
        table = make_catalogue(int(sys.argv[2])).to_arrow().select(CATALOGUE.names)
        marks = marked("catalogue", root="s3://music")
        pq.write_table(table.cast(marks), folder / "catalogue.parquet", row_group_size=100_000)
        return
    _note("imports")
    actor_pool._dataset = ChildPool  # type: ignore[assignment]
    actor_pool._pool_results = ChildPool.results  # type: ignore[assignment]
    cluster_run.ray_session = _no_ray  # type: ignore[assignment,attr-defined]
    stages = {"_Planner": cluster_run, "_write_plan": actor_pool, "_work": cluster_run, "_commit": cluster_run}
    for name, owner in stages.items():
        setattr(owner, name, _noted(name.strip("_").lower(), getattr(owner, name)))
    catalogue = str(folder / "catalogue.parquet")
    tracks, uris = catalogue_slices(catalogue, CATALOGUE.names, ["track_id", "uri"])
    started = time.perf_counter()
    job = CatalogueJob(
        OutputDirectory(Store.open(str(folder / "predictions")), "predictions"),
        tracks.changed(clean_items),
        BUNDLE,
        MadeWorker,
        Config(cluster=ClusterConfig(tracks_per_chunk=TRACKS_A_CHUNK)),
        deletions=DeletionRule(0.5),
        publish=partial(_noted("publish", publish), uris=CatalogueUris(uris)),
    )
    outcome = run_incrementally(job, RunOptions())
    _note("run")
    print(f"run_seconds {time.perf_counter() - started:.1f}")
    print(f"beside_the_work_seconds {outcome.wall_seconds - outcome.work_seconds:.1f}")
    print(f"commits {len(job.output.commits())}")


def _noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        _note(name)
        return found

    return call


def _note(stage: str) -> None:
    """Print what is resident now, and what was at the most."""
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024**2
    print(f"{stage}_mb {held}", flush=True)
    print(f"{stage}_peak_mb {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}", flush=True)


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print the driver's peak for both sizes, after each stage, the seconds beside the work, and the ratio."""
    del clips
    peaks: dict[int, list[float]] = {}
    for size in SIZES:
        for number in range(rounds):
            place = folder / f"driver-{size}-{number}"
            run_module("benchmarks.driver_memory", str(place), str(size))
            values = run_module("benchmarks.driver_memory", str(place), str(size)).values
            shutil.rmtree(place)
            print(f"{size:>9,} tracks: {values}", flush=True)
            peaks.setdefault(size, []).append(values["run_peak_mb"])
        figure(f"driver_peak_mb_{size}", peaks[size], "MB")
    few, many = (peaks[size] for size in SIZES)
    figure("driver_peak_mb_1m_over_100k", [one / other for one, other in zip(many, few, strict=True)], "ratio")


if __name__ == "__main__":
    main()
