"""What there is to do: the anti-join of a catalogue with what an output directory already holds.

A row is current if its `track_id`, its `content_id` and the fingerprint of what made it are unchanged. That
one join is resume, incremental nightly run and re-tag, all in one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.data.outputs import OutputDirectory, PartRef, Run
from mgc.errors import Stage

INDEX = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("error_code", pa.string()),
        pa.field("error_stage", pa.string()),
        pa.field("part", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
    ]
)
"""Which row of a track is where, and whether it went through; one small file a run."""

PART_COLUMNS = ["track_id", "content_id", "duration_seconds", "error_code", "error_stage"]

RETRIED_STAGES = (Stage.FETCH.value,)
"""A fetch that failed says nothing about the track: it is tried again every run."""


@dataclass(frozen=True)
class WorkPlan:
    """What a run has to do, and why.

    Parameters
    ----------
    todo
        Catalogue rows to work on, in track_id order.
    unchanged, new, changed, remade, retried
        Tracks whose row is current; never seen; of other content; made with another fingerprint; failed and
        tried again.
    gone
        Tracks that have a row but are no longer in the catalogue.
    """

    todo: pl.DataFrame
    unchanged: int
    new: int
    changed: int
    remade: int
    retried: int
    gone: int


@dataclass(frozen=True)
class Adopted:
    """Finished parts of killed runs, taken up by the run at hand."""

    parts: list[PartRef]
    index: pl.DataFrame


def index_rows(part: pa.Table, key: str, sequence: int, fingerprint: str) -> pa.Table:
    """Return the index rows of a part."""
    n_rows = part.num_rows
    return (
        part.select(PART_COLUMNS)
        .append_column("part", pa.array([key] * n_rows, pa.string()))
        .append_column("sequence", pa.array([sequence] * n_rows, pa.int64()))
        .append_column("fingerprint", pa.array([fingerprint] * n_rows, pa.string()))
        .cast(INDEX)
    )


def empty_index() -> pl.DataFrame:
    """Return an index without rows."""
    return frame_of(INDEX.empty_table())


def frame_of(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a polars frame."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("an Arrow table gives a frame")
    return frame


def write_index(output: OutputDirectory, key: str, index: pl.DataFrame) -> None:
    """Write an index file."""
    buffer = io.BytesIO()
    pq.write_table(index.to_arrow().cast(INDEX), buffer, compression="zstd")
    output.store.write_atomic(key, buffer.getvalue())


def visible_index(output: OutputDirectory) -> pl.DataFrame:
    """Return the index of everything that commits show, history included."""
    keys = [commit.index_key for commit in output.commits()]
    frames = [frame_of(pq.read_table(io.BytesIO(output.store.read_bytes(key)))) for key in keys]
    return pl.concat([empty_index(), *frames]).unique(maintain_order=True)


def adopt_unfinished(output: OutputDirectory, fingerprint: str) -> Adopted:
    """Return what killed runs of the same fingerprint had finished.

    A part is written whole or not at all, so a part that is there is done.
    """
    parts: list[PartRef] = []
    frames = [empty_index()]
    for run in output.unfinished_runs(fingerprint):
        for key in output.finished_parts(run):
            with output.store.open_input(key) as source:
                table = pq.read_table(source, columns=PART_COLUMNS)
            parts.append(PartRef(key, table.num_rows, fingerprint, run.sequence))
            frames.append(frame_of(index_rows(table, key, run.sequence, fingerprint)))
    return Adopted(parts, pl.concat(frames))


def newest(index: pl.DataFrame) -> pl.DataFrame:
    """Return the newest row of each track: of the highest sequence, then of the last part by name."""
    return index.sort("sequence", "part").unique("track_id", keep="last", maintain_order=True)


def plan_work(
    catalogue: pl.DataFrame,
    index: pl.DataFrame,
    fingerprint: str,
    *,
    retry_failed: bool = False,
    force: bool = False,
) -> WorkPlan:
    """Return what has to be done for `catalogue` given the `newest` rows there are.

    Parameters
    ----------
    catalogue
        Schema CATALOGUE.
    index
        At most one row a track, schema INDEX.
    fingerprint
        What rows are to be made with.
    retry_failed
        Also redo tracks that failed for a reason of their own (a failed fetch is always redone).
    force
        Redo everything.
    """
    have = index.select(
        "track_id",
        pl.col("content_id").alias("had_content"),
        pl.col("fingerprint").alias("had_fingerprint"),
        (
            pl.col("error_code").is_not_null()
            & (pl.lit(retry_failed) | pl.col("error_stage").is_in(list(RETRIED_STAGES)))
        ).alias("retry"),
    )
    joined = catalogue.join(have, on="track_id", how="left")
    reason = (
        pl.when(pl.col("had_content").is_null())
        .then(pl.lit("new"))
        .when(pl.col("had_content") != pl.col("content_id"))
        .then(pl.lit("changed"))
        .when((pl.col("had_fingerprint") != fingerprint) | pl.lit(force))
        .then(pl.lit("remade"))
        .when(pl.col("retry"))
        .then(pl.lit("retried"))
        .otherwise(pl.lit("unchanged"))
    )
    judged = joined.with_columns(reason.alias("reason"))
    counts = dict(judged.group_by("reason").len().iter_rows())
    todo = judged.filter(pl.col("reason") != "unchanged").select(catalogue.columns).sort("track_id")
    gone = index.join(catalogue.select("track_id"), on="track_id", how="anti").height
    return WorkPlan(
        todo=todo,
        unchanged=counts.get("unchanged", 0),
        new=counts.get("new", 0),
        changed=counts.get("changed", 0),
        remade=counts.get("remade", 0),
        retried=counts.get("retried", 0),
        gone=gone,
    )


def run_part_refs(run: Run, index: pl.DataFrame) -> list[PartRef]:
    """Return the parts that a run's own index names."""
    counts = index.filter(pl.col("sequence") == run.sequence).group_by("part").len().sort("part")
    return [PartRef(part, rows, run.fingerprint, run.sequence) for part, rows in counts.iter_rows()]
