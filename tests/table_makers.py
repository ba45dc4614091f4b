"""Small tables for tests: catalogues and parts, without audio."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.config import FeatureConfig
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import index_rows, run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory, OutputRun
from mgc.tables.schema import CATALOGUE, marked

TINY = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=8, window_seconds=0.5, max_windows=2)


def catalogue(
    contents: dict[str, str], *, genre: str = "jazz", split: str = "train", root: str = "/music"
) -> pl.DataFrame:
    """Return a catalogue of `track_id → content_id`."""
    rows = [
        {
            "track_id": track_id,
            "uri": f"{root}/{track_id}.wav",
            "content_id": content_id,
            "size_bytes": 1,
            "genre": genre,
            "tags": ["drums"],
            "tags_known": True,
            "group": track_id,
            "split": split,
        }
        for track_id, content_id in contents.items()
    ]
    return frame_of(pa.Table.from_pylist(rows, schema=CATALOGUE))


def feature_part(contents: dict[str, str], config: FeatureConfig = TINY, failed: tuple[str, ...] = ()) -> pa.Table:
    """Return feature rows whose log-mels are filled with the row's number."""
    rows = []
    for number, (track_id, content_id) in enumerate(contents.items()):
        bad = track_id in failed
        log_mel = np.full((1, config.n_frames, config.n_mels), -number, dtype="<f2")
        rows.append(
            {
                "track_id": track_id,
                "view": "clean",
                "recipe": "",
                "uri": f"/music/{track_id}.wav",
                "content_id": content_id,
                "duration_seconds": None if bad else 0.5,
                "n_windows": 0 if bad else 1,
                "n_frames": 0 if bad else config.n_frames,
                "n_mels": 0 if bad else config.n_mels,
                "log_mel": None if bad else log_mel.tobytes(),
                "error_code": "T202_NOT_AUDIO" if bad else None,
                "error_stage": "decode" if bad else None,
                "error_message": "text" if bad else None,
            }
        )
    schema = marked("features", fingerprint=config.fingerprint(), feature_config=config.model_dump_json())
    return pa.Table.from_pylist(rows, schema=schema)


def write_part(output: OutputDirectory, run: OutputRun, chunk: int, part: pa.Table) -> pa.Table:
    """Write a part as an actor does and return its index rows."""
    buffer = io.BytesIO()
    pq.write_table(part, buffer)
    output.store.write_atomic(run.part_key(chunk), buffer.getvalue())
    return index_rows(part, run.part_key(chunk), run.sequence, run.fingerprint)


def commit_part(output: OutputDirectory, contents: dict[str, str], config: FeatureConfig = TINY) -> OutputRun:
    """Run and commit one part."""
    return commit_table(output, feature_part(contents, config), config.fingerprint())


def commit_table(output: OutputDirectory, part: pa.Table, fingerprint: str) -> OutputRun:
    """Run and commit one part that is there already."""
    run = output.start_run(fingerprint, {})
    index = frame_of(write_part(output, run, 0, part))
    write_index(output, f"{run.folder}/index.parquet", index)
    output.commit(Commit(run.run_id, run.sequence, f"{run.folder}/index.parquet", run_part_refs(run, index), {}))
    return run


def commit_items(output: OutputDirectory, items: pl.DataFrame, config: FeatureConfig = TINY) -> OutputRun:
    """Run and commit one part of items (schema PLAN); row k's log-mel is filled with -k."""
    part = feature_part({str(number): "1" for number in range(items.height)}, config)
    for name in ("track_id", "view", "recipe", "uri", "content_id"):
        part = part.set_column(part.schema.get_field_index(name), part.schema.field(name), [items[name].to_list()])
    run = output.start_run(config.fingerprint(), {})
    index = frame_of(write_part(output, run, 0, part))
    write_index(output, f"{run.folder}/index.parquet", index)
    output.commit(Commit(run.run_id, run.sequence, f"{run.folder}/index.parquet", run_part_refs(run, index), {}))
    return run
