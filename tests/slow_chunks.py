"""A run whose chunks take as long as one wishes: `python slow_chunks.py ADDRESS OUTPUT CHUNKS SECONDS [WORKERS]`.

A chunk of the track named "stalls" takes an hour where it is done first, and as long as the others elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from table_makers import TINY, catalogue, feature_part

import mgc.cluster.actor_pool as pool
from mgc.cluster.run import CatalogueJob, RunOptions, run_incrementally
from mgc.config import ClusterConfig, Config
from mgc.logs import configure_logging
from mgc.storage.store import Store
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.slices import Slices
from mgc.tables.work_items import clean_items


@dataclass(frozen=True)
class SlowWorker:
    """Writes tiny features, after a while; leaves a note of who did it."""

    notes: Path
    seconds: float

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        contents = dict(zip(rows["track_id"].to_pylist(), rows["content_id"].to_pylist(), strict=True))
        (chunk,) = contents
        others = list(self.notes.glob(f"{chunk}.*"))
        (self.notes / f"{chunk}.{os.getpid()}").touch()
        time.sleep(3_600.0 if chunk == "stalls" and not others else self.seconds)
        return feature_part(contents, TINY)


def done_by(notes: Path) -> Counter[str]:
    """Return how many chunks each process began."""
    return Counter(path.suffix for path in notes.iterdir())


def main(address: str, output: str, n_chunks: int, seconds: float, workers: int | None, stalls: bool) -> None:
    """Do the run, and print how many rows came of it and how many actors worked."""
    pool.STRAGGLER_SECONDS = 3.0
    pool.WAIT_LINE_SECONDS = 3.0
    configure_logging()
    notes = Path(output + "-notes")
    notes.mkdir()
    names = [f"track{number}" for number in range(n_chunks - stalls)] + ["stalls"] * stalls
    config = Config(features=TINY, cluster=ClusterConfig(tracks_per_chunk=1, address=address, workers=workers))
    job = CatalogueJob(
        OutputDirectory(Store.open(output), "features"),
        Slices.of(clean_items(catalogue(dict.fromkeys(names, "1")))),
        TINY.fingerprint(),
        lambda: SlowWorker(notes, seconds),
        config,
    )
    outcome = run_incrementally(job, RunOptions())
    print(f"{outcome.rows} rows of {outcome.cores} workers")


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        float(sys.argv[4]),
        int(sys.argv[5]) if len(sys.argv) > 5 and sys.argv[5] != "-" else None,
        "stalls" in sys.argv,
    )
