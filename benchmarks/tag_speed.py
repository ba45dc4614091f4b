"""Tagging speed of a two-member ensemble on CPU, fetch, decode and features included."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import figure
from benchmarks.process import run_module
from benchmarks.untrained import write_untrained_bundle
from mgc.config import CatalogueConfig
from mgc.data.catalogue import index_catalogue


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `tag_xrealtime_per_core` in steady state; weights do not change how long a network takes."""
    catalogue, bundle = folder / "tag.parquet", str(folder / "bundle")
    index_catalogue(str(clips), str(catalogue), CatalogueConfig())
    write_untrained_bundle(bundle)
    count = sum(1 for _ in clips.iterdir())
    realtime = []
    for number in range(rounds):
        job = run_module("benchmarks.timed_job", "tag", str(catalogue), str(folder / f"tags-{number}"), bundle)
        realtime.append(job.values["steady"] * job.values["audio"] / count / job.values["cores"])
    figure("tag_xrealtime_per_core", realtime, "×realtime/core")
