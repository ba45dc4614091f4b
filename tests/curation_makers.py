"""A folder of music with a catalogue and predictions of it, without any audio decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from table_makers import write_part

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.config import CatalogueConfig
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of
from mgc.tables.publish import publish
from mgc.tables.run_index import run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory, OutputRun
from mgc.tables.schema import PREDICTIONS, marked

BUNDLE = "b" * 16
GENRES = ("jazz", "rock")


def prediction(track_id: str, uri: str, content_id: str, **changes: Any) -> dict[str, Any]:
    """Return a row of PREDICTIONS: jazz at 0.9, tagged piano, by default."""
    genre, probability = changes.pop("genre", "jazz"), changes.pop("genre_probability", 0.9)
    others = [name for name in GENRES if name != genre]
    failed = changes.get("error_code") is not None
    row: dict[str, Any] = {
        "track_id": track_id,
        "uri": uri,
        "content_id": content_id,
        "duration_seconds": 10.0,
        "genre": genre,
        "genre_probability": probability,
        "genre_probabilities": [(genre, probability), (others[0], 1 - probability)],
        "tags": ["piano"],
        "tag_probabilities": [("piano", 0.8), ("drums", 0.1)],
        "embedding": [1.0, 0.0],
        "windows": 1,
        "error_code": None,
        "error_stage": None,
        "error_message": None,
        "bundle_fingerprint": BUNDLE,
        "run_id": "run",
        "sequence": 1,
        "tagged_at": datetime(2026, 1, 1, tzinfo=UTC),
        "deleted_at": None,
    }
    answers = ("genre", "genre_probability", "genre_probabilities", "tags", "tag_probabilities", "embedding")
    return row | (dict.fromkeys(answers) | {"windows": 0} if failed else {}) | changes


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return rows as a table of predictions."""
    return pa.Table.from_pylist(list(rows), schema=marked("predictions", fingerprint=BUNDLE))


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return rows as a frame of predictions."""
    return frame_of(pa.Table.from_pylist(list(rows), schema=PREDICTIONS))


def commit_predictions(output: OutputDirectory, rows: Sequence[dict[str, Any]], bundle: str = BUNDLE) -> OutputRun:
    """Commit rows as one run of a bundle."""
    run = output.start_run(bundle, {})
    made = [{**row, "run_id": run.run_id, "sequence": run.sequence, "bundle_fingerprint": bundle} for row in rows]
    index = frame_of(write_part(output, run, 0, table_of(made)))
    write_index(output, f"{run.folder}/index.parquet", index)
    output.commit(Commit(run.run_id, run.sequence, f"{run.folder}/index.parquet", run_part_refs(run, index), {}))
    return run


@dataclass(frozen=True)
class Tagged:
    """A tagged folder."""

    music: Path
    catalogue: Path
    predictions: Path

    def tracks(self) -> pl.DataFrame:
        """Return the catalogue."""
        return read_catalogue(str(self.catalogue))


def tagged_folder(folder: Path, files: dict[str, bytes], **changes: dict[str, Any]) -> Tagged:
    """Write files, index them and commit a prediction of each; `changes` by the file's stem."""
    music = folder / "music"
    for name, data in files.items():
        (music / name).parent.mkdir(parents=True, exist_ok=True)
        (music / name).write_bytes(data)
    made = Tagged(music, folder / "catalogue.parquet", folder / "predictions")
    index_catalogue(str(music), str(made.catalogue), CatalogueConfig())
    rows = [
        prediction(*row, **changes.get(Path(row[1]).stem, {}))
        for row in made.tracks().select("track_id", "uri", "content_id").iter_rows()
    ]
    output = OutputDirectory(Store.open(str(made.predictions)), "predictions")
    commit_predictions(output, rows)
    publish(output)
    return made


def unit_rows(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return rows of length one."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
