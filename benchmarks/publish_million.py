"""What it takes to publish a run of a thousand changed tracks among a million: wall time and peak of that alone.

    python -m benchmarks.publish_million FOLDER [TRACKS]

The first call writes the predictions of so many tracks below FOLDER (a million want some 4 GB) and publishes them;
each further one commits a run in which 1,000 changed, publishes it, and prints what that took. So two versions of mgc
can be measured in turn, each with a folder of its own.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of, parquet_bytes
from mgc.tables.publish import CatalogueUris, publish
from mgc.tables.run_index import index_rows, run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.schema import marked
from mgc.tables.slices import Slices

BUNDLE = "b" * 16
CHANGED = 1_000
DIMENSIONS = 64
GENRES = [f"genre {number}" for number in range(10)]
TAGS = [f"tag {number}" for number in range(18)]
ROWS_A_PART = 25_000


def main() -> None:
    folder, tracks = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    output = OutputDirectory(Store.open(str(folder)), "predictions")
    names = np.array([f"artist {n % 40_000:05}/album/{n:07} a title of some length.flac" for n in range(tracks)])
    ids = np.array([hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names])
    runs = len(output.commits())
    chosen = np.arange(tracks) if not runs else np.random.default_rng(runs).choice(tracks, CHANGED, replace=False)
    commit_run(output, ids[chosen], names[chosen], runs)
    places = pl.DataFrame({"track_id": ids, "uri": [f"s3://music/{name}" for name in names]})
    before, started = _peak_mb(), time.perf_counter()
    shown = publish(output, uris=CatalogueUris(Slices.of(places)))
    if shown != tracks:
        raise SystemExit(f"{shown} of {tracks} tracks are shown")
    if runs:
        print("publish_seconds", round(time.perf_counter() - started, 2))
        print("peak_mb", _peak_mb(), "before", before)


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def commit_run(output: OutputDirectory, ids: np.ndarray, names: np.ndarray, seed: int) -> None:
    """Commit a run of made predictions for these tracks."""
    run = output.start_run(BUNDLE, {})
    schema = marked("predictions", fingerprint=BUNDLE)
    indices = []
    for number, start in enumerate(range(0, len(ids), ROWS_A_PART)):
        rows = slice(start, start + ROWS_A_PART)
        table = part_of(ids[rows], names[rows], seed, run.run_id, run.sequence).cast(schema)
        output.store.write_atomic(run.part_key(number), parquet_bytes(table))
        indices.append(frame_of(index_rows(table, run.part_key(number), run.sequence, BUNDLE)))
    index, key = pl.concat(indices), f"{run.folder}/index.parquet"
    write_index(output, key, index)
    output.commit(Commit(run.run_id, run.sequence, key, run_part_refs(run, index), {"rows": index.height}))


def part_of(ids: np.ndarray, names: np.ndarray, seed: int, run_id: str, sequence: int) -> pa.Table:
    """Return made predictions."""
    generator, n = np.random.default_rng((seed, len(ids))), len(ids)

    def lists(width: int) -> tuple[pa.Array, pa.Array]:
        values = pa.array(generator.random(n * width, dtype=np.float32))
        return pa.array(np.arange(0, n * width + 1, width, dtype=np.int32)), values

    def maps(keys: list[str]) -> pa.Array:
        offsets, values = lists(len(keys))
        return pa.MapArray.from_arrays(offsets, pa.array(keys * n), values)

    columns = {
        "track_id": pa.array(ids),
        "uri": pa.array([f"s3://music/{name}" for name in names]),
        "content_id": pa.array([f"{seed}-{one}" for one in ids]),
        "duration_seconds": pa.repeat(213.7, n),
        "genre": pa.array(np.array(GENRES)[generator.integers(0, len(GENRES), n)]),
        "genre_probability": pa.array(generator.random(n, dtype=np.float32)),
        "abstained": pa.repeat(False, n),
        "genre_probabilities": maps(GENRES),
        "tags": pa.array([TAGS[:4]] * n),
        "tag_probabilities": maps(TAGS),
        "embedding": pa.ListArray.from_arrays(*lists(DIMENSIONS)),
        "windows": pa.repeat(pa.scalar(10, pa.int32()), n),
        "bundle_fingerprint": pa.repeat(BUNDLE, n),
        "run_id": pa.repeat(run_id, n),
        "sequence": pa.repeat(sequence, n),
        "tagged_at": pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), n),
    }
    return pa.table([columns.get(name, pa.nulls(n, kind)) for name, kind in _kinds()], names=[n for n, _ in _kinds()])


def _kinds() -> list[tuple[str, pa.DataType]]:
    return [(each.name, each.type) for each in marked("predictions")]


if __name__ == "__main__":
    main()
