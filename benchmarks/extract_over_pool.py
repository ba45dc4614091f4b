"""Extraction against a bare pool, in turn: pool, mgc, pool, mgc, …"""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import figure
from benchmarks.process import run_module
from mgc.config import CatalogueConfig
from mgc.data.catalogue import index_catalogue

WORKERS = 2


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `extract_over_pool`, the same in steady state, and × realtime per core."""
    catalogue = folder / "extract.parquet"
    index_catalogue(str(clips), str(catalogue), CatalogueConfig())
    count = sum(1 for _ in clips.iterdir())
    whole, steady, realtime = [], [], []
    for number in range(rounds):
        pool = run_module("benchmarks.bare_pool", str(clips), str(folder / f"pool-{number}"), str(WORKERS))
        ours = run_module("benchmarks.timed_job", "extract", str(catalogue), str(folder / f"shards-{number}"))
        whole.append(pool.seconds / ours.seconds)
        steady.append(ours.values["steady"] / pool.values["steady"])
        seconds_a_clip = ours.values["audio"] / count
        realtime.append(ours.values["steady"] * seconds_a_clip / ours.values["cores"])
    figure("extract_over_pool", whole, "ratio")
    figure("extract_over_pool_steady", steady, "ratio")
    figure("extract_xrealtime_per_core", realtime, "×realtime/core")
