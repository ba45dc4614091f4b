"""What an output of predictions takes on the store after thirty runs, over its rows written once.

Rows written once are each run's rows in one Parquet file. The first run tags all tracks; then each run does a
hundredth of them, or, under another bundle, all. A day lies between two runs: what the day before replaced is gone,
and what the last run replaced, which stays for a day, is a figure of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import publish_million
from benchmarks.material import figure
from mgc.storage.store import Store
from mgc.tables import publish as published
from mgc.tables.parquet_batches import parquet_bytes
from mgc.tables.run_index import write_checkpoint
from mgc.tables.run_log import OutputDirectory
from mgc.tables.slices import Slices

TRACKS = 4_000
DIMENSIONS = 512
"""Of the embedding, which is most of a row."""
RUNS = 30
SCHEDULES = {"hundredth": TRACKS // 100, "all": TRACKS}
"""Tracks of each run but the first."""


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print the ratio for both schedules, and what of it is `current`, index rows and the last day's files."""
    del clips, rounds
    names = np.array([f"artist {n % 400:05}/album/{n:07} a title of some length.flac" for n in range(TRACKS)])
    ids = np.array([hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names])
    grace_seconds = published.GRACE_SECONDS
    publish_million.DIMENSIONS = DIMENSIONS
    for schedule, changed in SCHEDULES.items():
        output = OutputDirectory(Store.open(str(folder / f"stored-{schedule}")), "predictions")
        for number in range(RUNS):
            chosen = np.random.default_rng(number).permutation(TRACKS)[: changed if number else TRACKS]
            publish_million.commit_run(output, ids[np.sort(chosen)], names[np.sort(chosen)], number)
            published.GRACE_SECONDS = grace_seconds if number + 1 == RUNS else -1
            published.publish(
                output, uris=published.CatalogueUris(Slices.of(pl.DataFrame({"track_id": ids, "uri": names})))
            )
            write_checkpoint(output)
        published.GRACE_SECONDS = grace_seconds
        _print(schedule, output)


def _print(schedule: str, output: OutputDirectory) -> None:
    current = published.open_current(output.store)
    shown = set(current.files) if current else set()
    sizes = {item.key: item.size_bytes for item in output.store.list("")}
    replaced = {key for key in sizes if key.startswith("current/_data/") and key.endswith(".parquet")} - shown
    replaced -= set(published.NOTES)
    once = _once(output)
    stored = sum(size for key, size in sizes.items() if key not in replaced)
    figure(f"stored_bytes_over_once_{schedule}", [stored / once], "ratio")
    parts = {
        "current": shown,
        "index": {key for key in sizes if key.startswith(("runs/", "_checkpoint"))},
        "replaced_on_the_last_day": replaced,
    }
    for name, keys in parts.items():
        figure(f"stored_{name}_over_once_{schedule}", [sum(sizes[key] for key in keys) / once], "ratio")


def _once(output: OutputDirectory) -> int:
    files: dict[str, list[pl.DataFrame]] = {}
    for run_id, keys in output.list_history().items():
        files[run_id] = [pl.read_parquet(output.store.read_bytes(key)) for key in keys]
    return sum(len(parquet_bytes(pl.concat(some).to_arrow())) for some in files.values())
