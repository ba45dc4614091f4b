"""Made-up predictions, as many as wanted, and the page of them; run as a program it prints what that took.

python -m benchmarks.made_page FOLDER TRACKS
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.cli.report_command import page_of
from mgc.storage.store import Store
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import COUNTED, RunRecord, summarise_predictions, write_record
from mgc.tables.schema import SCHEMA_VERSIONS, marked

GENRES = [f"genre {number:02}" for number in range(10)]
TAGS = [f"tag {number:02}" for number in range(50)]
DIMENSIONS = 128
FAILED_SHARE = 0.005
FILES = 16
BUNDLE = "b" * 16


def main() -> None:
    folder, tracks = Path(sys.argv[1]), int(sys.argv[2])
    if not folder.exists():
        make_predictions(folder, tracks)
        return
    record = _record(folder, tracks)
    started = time.perf_counter()
    made = page_of(record, str(folder / "catalogue.parquet"))
    print("seconds", round(time.perf_counter() - started, 2))
    print("peak_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print("page_mb", round(Path(made.uri).stat().st_size / 1e6, 2))


def make_predictions(folder: Path, tracks: int) -> None:
    """Write a catalogue and the current predictions of as many tracks, by albums of ten."""
    (folder / "predictions" / "current").mkdir(parents=True)
    uris = [
        f"s3://music/artist {n // 50:05}/album {n // 10:06}/{n % 10:02} a title of {n}.flac" for n in range(tracks)
    ]
    ids = [hashlib.blake2b(uri.encode(), digest_size=16).hexdigest() for uri in uris]
    order = np.argsort(ids)
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(len(GENRES), DIMENSIONS))
    for part, rows in enumerate(np.array_split(order, FILES)):
        table = _part([ids[row] for row in rows], [uris[row] for row in rows], rows, middles, part)
        pq.write_table(table, folder / "predictions" / "current" / f"part-{part:x}.parquet", compression="zstd")
    none = {"size_bytes": 1, "genre": None, "tags": [], "tags_known": False, "split": "unlisted", "content_id": "c"}
    catalogue_rows = [{"track_id": one, "uri": uri, "group": one, **none} for one, uri in zip(ids, uris, strict=True)]
    catalogue = pa.Table.from_pylist(catalogue_rows, schema=marked("catalogue", root="s3://music"))
    pq.write_table(catalogue, folder / "catalogue.parquet")


def _part(ids: list[str], uris: list[str], rows: np.ndarray, middles: np.ndarray, seed: int) -> pa.Table:
    generator = np.random.default_rng((1, seed))
    n = len(ids)
    genre = rows // 50 % len(GENRES)
    logits = generator.normal(size=(n, len(GENRES))) + 3.0 * np.eye(len(GENRES))[genre]
    genres = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tags = generator.beta(0.5, 3.0, size=(n, len(TAGS)))
    vectors = middles[genre] + generator.normal(size=(n, DIMENSIONS))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    failed = generator.random(n) < FAILED_SHARE
    sure = genres.max(axis=1)
    schema = marked("predictions")

    def named(names: list[str], shares: np.ndarray) -> list[list[tuple[str, float]]]:
        return [list(zip(names, row, strict=True)) for row in shares.tolist()]

    answers: dict[str, Sequence[object]] = {
        "duration_seconds": generator.uniform(90, 420, n).tolist(),
        "genre": [GENRES[k] for k in genres.argmax(axis=1)],
        "genre_probability": sure.tolist(),
        "abstained": (sure < 0.5).tolist(),
        "genre_probabilities": named(GENRES, genres),
        "tags": [[TAGS[k] for k in np.flatnonzero(row > 0.4)] for row in tags],
        "tag_probabilities": named(TAGS, tags),
        "embedding": list(vectors),
    }
    answers = {
        name: [None if bad else value for bad, value in zip(failed, values, strict=True)]
        for name, values in answers.items()
    }
    columns = {
        "track_id": ids,
        "uri": uris,
        "content_id": ["c"] * n,
        **answers,
        "windows": [6] * n,
        "error_code": ["T203_DECODE_FAILED" if bad else None for bad in failed],
        "error_stage": ["decode" if bad else None for bad in failed],
        "error_message": ["Invalid data found when processing input" if bad else None for bad in failed],
        "bundle_fingerprint": [BUNDLE] * n,
        "run_id": ["run"] * n,
        "sequence": [1] * n,
        "tagged_at": [datetime(2026, 1, 1, tzinfo=UTC)] * n,
        "deleted_at": [None] * n,
    }
    return pa.Table.from_pydict(columns, schema=schema)


def _record(folder: Path, tracks: int) -> RunRecord:
    output = str(folder / "predictions")
    prediction_summary = summarise_predictions(read_predictions(output, COUNTED))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"audio_seconds": 255.0 * tracks, "wall_seconds": 3_600.0, "started_at": now, "finished_at": now}
    record = RunRecord(
        run_id="run",
        sequence=1,
        bundle_fingerprint=BUNDLE,
        catalogue=str(folder / "catalogue.parquet"),
        output=output,
        tracks_total=tracks,
        tagged_now=tracks,
        unchanged=0,
        failed=prediction_summary.failed,
        cores=16,
        prediction_summary=prediction_summary,
        **times,  # type: ignore[arg-type]
    )
    mark = {"kind": "predictions", "schema_version": SCHEMA_VERSIONS["predictions"]}
    Store.open(output).write_atomic("_mgc.json", json.dumps(mark).encode())
    write_record(OutputDirectory(Store.open(output), "predictions"), record)
    return record


if __name__ == "__main__":
    main()
