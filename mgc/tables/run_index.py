"""Index rows: which row of an item is where, one small file a run, and which of several is the newest.

What all commits show is put together once (`IndexSnapshot`) and then only added to, from the checkpoint on where
there is one: neither requests nor rows grow with the number of runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mgc.config.view_settings import CLEAN
from mgc.errors import SchemaError
from mgc.logs import log
from mgc.storage.objects import ChangedError, ObjectNotFoundError
from mgc.tables import slices
from mgc.tables.parquet_batches import (
    READERS,
    frame_of,
    groups_between,
    named_if_damaged,
    parquet_bytes,
    prefetched,
    rows_within,
)
from mgc.tables.retry import RETRY_COLUMNS
from mgc.tables.run_log import SMALL_READERS, Commit, IndexSnapshot, OutputDirectory, OutputRun, PartRef
from mgc.tables.schema import KINDS, completed, require_kind
from mgc.tables.slices import ALL_IDS, Span, spans_by_digits

INDEX = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("error_code", pa.string()),
        pa.field("error_stage", pa.string()),
        pa.field("part", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("deleted", pa.bool_()),
        pa.field("attempts", pa.int32()),
        pa.field("tried_at", pa.timestamp("us", tz="UTC")),
        pa.field("decoder", pa.string()),
    ]
)
"""Which row of an item is where, and whether it went through; one small file a run.

`deleted` marks a track that left the catalogue. Of a failed row, `attempts` counts the failures in a row of one
content by one fingerprint, `tried_at` is the last one's time and `decoder` what decoded (`mgc.tables.retry`).
"""

ITEM = ["track_id", "view"]
"""What names a row. Parts of predictions have no views: all their rows are of the clean one."""

_KEY = ["track_id", "sequence"]
_CONTENT = [*ITEM, "content_id"]
_ROW = [*_CONTENT, "sequence", "part"]

_STAMPED = ("part", "sequence", "fingerprint", "deleted", "attempts", "tried_at", "decoder")
_PART_COLUMNS = [name for name in INDEX.names if name not in _STAMPED]
_CLEAN = {"view": CLEAN, "recipe": ""}
"""What the index says where the parts have no such column."""

_BETWEEN, _LAST = "tracks_between", "\U0010ffff"

SMALL_INDEX_ROWS = 10_000
"""Of an index file that is read whole for a span, and then held for the others."""

LOT_ROWS = 100_000
"""Index rows that are read before they are put together with those before them."""


@dataclass(frozen=True)
class ResumedParts:
    """Finished parts of killed runs, resumed by the run at hand."""

    parts: list[PartRef]
    index: pl.DataFrame


def index_rows(part: pa.Table, key: str, sequence: int, fingerprint: str) -> pa.Table:
    """Return the index rows of a part."""
    n_rows = part.num_rows
    for name, value in _CLEAN.items():
        if name not in part.column_names:
            part = part.append_column(name, pa.array([value] * n_rows, pa.string()))
    deleted = part["deleted_at"].is_valid() if "deleted_at" in part.column_names else pa.repeat(False, n_rows)
    stamps = {
        "part": pa.repeat(key, n_rows),
        "sequence": pa.repeat(sequence, n_rows),
        "fingerprint": pa.repeat(fingerprint, n_rows),
        "deleted": deleted,
    }
    rows = part.select(_PART_COLUMNS)
    for name in _STAMPED:
        rows = rows.append_column(name, stamps.get(name, pa.nulls(n_rows)))
    return rows.select(INDEX.names).cast(INDEX)


def empty_index() -> pl.DataFrame:
    """Return an index without rows."""
    return frame_of(INDEX.empty_table())


def write_index(output: OutputDirectory, key: str, index: pl.DataFrame) -> None:
    """Write an index file, by track id."""
    output.store.write_atomic(key, parquet_bytes(index.sort("track_id", maintain_order=True).to_arrow().cast(INDEX)))


def index_facts(index: pl.DataFrame) -> dict[str, object]:
    """Return what a commit says of the ids in its index: so who looks for others need not open it."""
    return {_BETWEEN: [index["track_id"].min(), index["track_id"].max()]} if index.height else {}


def ids_between(commit: Commit) -> tuple[str, str]:
    """Return the least and the greatest track id that a commit may have a row of."""
    least, most = commit.facts.get(_BETWEEN, ("", _LAST))
    return least, most


def newest_index(
    output: OutputDirectory, commits: Sequence[Commit] | None = None, span: Span = ALL_IDS
) -> pl.DataFrame:
    """Return the newest visible row of each item: `newest` of all that commits show, held a lot of commits at a time.

    Of a million tracks and years of runs no more is in memory than their newest rows and one run's; of a span of
    track ids, no more than its rows.

    Parameters
    ----------
    commits
        Visible ones; None: those that are listed now.
    """
    return _snapshot(output, commits, span).newest


def rows_shown(output: OutputDirectory, commits: Sequence[Commit]) -> int:
    """Return about how many rows the index of commits has: those that later ones replace are counted, too."""
    checkpoint = output.checkpoint
    known = checkpoint.commits if checkpoint else {}
    rows = sum(sum(part.rows for part in commit.parts) for commit in commits if commit.name not in known)
    return rows + (checkpoint.rows if checkpoint else 0)


def write_checkpoint(output: OutputDirectory) -> None:
    """Write what was read of the commits as one object, where the last such object lacks too many of them."""
    seen = output.snapshot
    if seen is None or not output.lacks_checkpoint(seen.commits):
        return
    commits = list(seen.commits.values())
    spans = [ALL_IDS] if seen.span == ALL_IDS else spans_by_digits(rows_shown(output, commits))
    output.write_checkpoint((_snapshot(output, commits, span) for span in spans), commits)


def _snapshot(output: OutputDirectory, commits: Sequence[Commit] | None, span: Span) -> IndexSnapshot:
    """Return what commits show of a span, from what was read before or is in the checkpoint, and from the others."""
    wanted = {commit.name: commit for commit in (output.commits() if commits is None else commits)}
    have = output.snapshot
    if have is None or not have.span.holds(span) or not have.is_of(wanted) or _outgrown(have, wanted, span):
        # What is small is read whole, and once.
        small = rows_shown(output, list(wanted.values())) <= _most_whole()
        have = _checkpointed(output, wanted, ALL_IDS if small else span)
    missing = [commit for name, commit in wanted.items() if name not in have.commits]
    while missing:
        lot = _lot(missing, max(have.newest.height // 2, LOT_ROWS))
        missing = missing[len(lot) :]
        have = _with_rows(have, pl.concat([empty_index(), *_indices_within(output, lot, have.span)]), lot)
    output.snapshot = have
    return have if have.span == span else have.within(span)


def _most_whole() -> int:
    """Return how many rows are kept of all ids where only a span of them is asked for."""
    return slices.SLICE_TRACKS * 3 // 2


def _outgrown(have: IndexSnapshot, wanted: dict[str, Commit], span: Span) -> bool:
    """Return whether what is known of all ids is about to become too much, and only a span of them is asked for."""
    if have.span != ALL_IDS or span == ALL_IDS:
        return False
    missing = [commit for name, commit in wanted.items() if name not in have.commits]
    return have.newest.height + sum(part.rows for one in missing for part in one.parts) > _most_whole()


def _checkpointed(output: OutputDirectory, wanted: dict[str, Commit], span: Span) -> IndexSnapshot:
    """Return what the checkpoint shows of a span; nothing where it is damaged, or of commits that are not visible."""
    with suppress(ValueError, KeyError, OSError, ChangedError, pl.exceptions.PolarsError):
        if output.checkpoint:
            have = output.checkpoint.within(span)
            if have.is_of(wanted) and have.newest.schema == empty_index().schema:
                return have
    output.checkpoint, output.checkpointed = None, frozenset()
    return IndexSnapshot({}, empty_index(), empty_index(), span)


def _lot(commits: list[Commit], most_rows: int) -> list[Commit]:
    """Return the first commits whose rows are put together at once: not a million copied for each run's thousand."""
    totals = accumulate(sum(part.rows for part in commit.parts) for commit in commits)
    return commits[: max(1, sum(total <= most_rows for total in totals))]


def _indices_within(output: OutputDirectory, commits: Sequence[Commit], span: Span) -> Iterator[pl.DataFrame]:
    """Yield the index rows of a span of those commits that have any; small indices are read once, for all spans."""
    if span == ALL_IDS:
        yield from read_indices(output, commits)
        return
    held = output.small_indices

    def read(commit: Commit) -> pl.DataFrame:
        if commit.name in held:
            return span.of(held[commit.name])
        if sum(part.rows for part in commit.parts) > SMALL_INDEX_ROWS:
            return _read_index_within(output, commit.index_key, span)
        index = read_index(output, commit.index_key)
        if sum(one.height for one in held.values()) < slices.SLICE_TRACKS:
            held[commit.name] = index
        return span.of(index)

    yield from prefetched(read, [one for one in commits if span.meets(*ids_between(one))], SMALL_READERS)


def _read_index_within(output: OutputDirectory, key: str, span: Span) -> pl.DataFrame:
    with named_if_damaged(output.store.uri(key)), output.store.open_input(key) as source:
        return _completed(rows_within(pq.ParquetFile(source), span))


def _with_rows(have: IndexSnapshot, rows: pl.DataFrame, commits: list[Commit]) -> IndexSnapshot:
    """Return what is to be known once the rows of more commits are there; only their items are looked at."""
    by = item_key(have.newest, rows)
    items = rows.select(by).unique()
    again = [rows]
    if have.newest.height:
        again += [frame.join(items, on=by, how="semi") for frame in (have.newest, have.others)]
        have = IndexSnapshot(
            have.commits,
            have.newest.join(items, on=by, how="anti", maintain_order="left"),
            have.others.join(items, on=by, how="anti", maintain_order="left"),
            have.span,
        )
    touched = pl.concat(again)
    last = newest(touched)
    others = [have.others, answers_to_keep(touched, last)] if last.height < touched.height else [have.others]
    commits_by_name = {commit.name: commit for commit in commits}
    return IndexSnapshot(have.commits | commits_by_name, pl.concat([have.newest, last]), pl.concat(others), have.span)


def item_key(*frames: pl.DataFrame) -> list[str]:
    """Return the columns that identify items of frames: by the track alone where all views are clean.

    A join of a million rows on one column takes half the time and memory of one on two.
    """
    return ITEM[:1] if all(bool((frame["view"] == CLEAN).all()) for frame in frames) else ITEM


def read_index(output: OutputDirectory, key: str) -> pl.DataFrame:
    """Return an index file; columns that older ones lack are null.

    Raises
    ------
    SchemaError
        It is damaged.
    """
    with named_if_damaged(output.store.uri(key)):
        # polars reads it itself: by way of an Arrow table a million rows would be in memory twice.
        return _completed(pl.read_parquet(io.BytesIO(output.store.read_bytes(key))))


def _completed(index: pl.DataFrame) -> pl.DataFrame:
    lacking = {name: kind for name, kind in empty_index().schema.items() if name not in index}
    if needed := [name for name in lacking if not INDEX.field(name).nullable]:
        raise KeyError(f"no column {', '.join(needed)}")
    return index.with_columns(pl.lit(None, kind).alias(name) for name, kind in lacking.items()).select(INDEX.names)


def read_indices(output: OutputDirectory, commits: Sequence[Commit]) -> Iterator[pl.DataFrame]:
    """Yield the index of each commit, several read at once."""
    return prefetched(lambda commit: read_index(output, commit.index_key), commits, SMALL_READERS)


def resume_unfinished(output: OutputDirectory, fingerprint: str) -> ResumedParts:
    """Return what killed runs of the same fingerprint had finished.

    A part is written whole or not at all, so a part that is there is done; one that a disk or a store damaged since
    is not resumed, and its items are done again. Of features only the columns of the index are read: the others of a
    catalogue would take as long as a good part of the work.
    """
    parts: list[PartRef] = []
    frames = [empty_index()]
    for run in output.unfinished_runs(fingerprint):
        for key in output.finished_parts(run):
            try:
                rows = _finished_rows(output, key, run.sequence, fingerprint)
            except (SchemaError, ObjectNotFoundError) as error:
                log.warning("a part of a killed run is not resumed, its tracks are done again: %s", error.message)
                continue
            parts.append(PartRef(key, rows.num_rows, fingerprint, run.sequence))
            frames.append(frame_of(rows))
    return ResumedParts(parts, pl.concat(frames))


def _finished_rows(output: OutputDirectory, key: str, sequence: int, fingerprint: str) -> pa.Table:
    """Return the index rows of a part on the store; a part of predictions is read whole, as publishing will."""
    place = output.store.uri(key)
    with named_if_damaged(place), output.store.open_input(key) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, output.kind, place)
        names = [name for name in _PART_COLUMNS if name in file.schema_arrow.names]
        table = file.read(columns=None if output.kind == "predictions" else names)
        return index_rows(table, key, sequence, fingerprint)


def current_rows(
    output: OutputDirectory, wanted: pl.DataFrame, columns: Sequence[str] | None = None, readers: int = READERS
) -> Iterator[pa.Table]:
    """Yield the newest visible row of each wanted item, a part at a time.

    Parameters
    ----------
    wanted
        Rows of `newest_index(output)`: which items, and in which part.
    columns
        Columns to read, besides those that name the item; None: all.
    readers
        Parts that are read at once, and so are in memory.

    Raises
    ------
    SchemaError
        A part is damaged, or of another kind or version.
    """
    if output.kind == "predictions":
        yield from _with_history(output, wanted, readers)
    else:
        yield from prefetched(lambda rows: _rows_of(output, rows["part"][0], rows, columns), by_part(wanted), readers)


def _with_history(output: OutputDirectory, wanted: pl.DataFrame, readers: int) -> Iterator[pa.Table]:
    """Yield rows of predictions from `history`, and those that are not there yet from their parts."""
    missing = [wanted.clear()]
    runs = wanted.with_columns(run=pl.col("part").str.split("/").list.get(1)).partition_by("run", as_dict=True)
    for (run,), rows in runs.items():
        left = rows.select(wanted.columns)
        for key in output.history_of(str(run)):
            found = [left.select(_KEY).clear()]
            for table in _in_history(output, key, left) if left.height else ():
                found.append(frame_of(table.select(_KEY)))
                yield table
            left = left.join(pl.concat(found), on=_KEY, how="anti")
        missing.append(left)
    in_parts = by_part(pl.concat(missing))
    yield from prefetched(lambda rows: _rows_of(output, rows["part"][0], rows, None), in_parts, readers)


def _in_history(output: OutputDirectory, key: str, wanted: pl.DataFrame) -> Iterator[pa.Table]:
    """Yield those of the rows wanted that a file of `history` has, a row group at a time."""
    first, last = wanted["track_id"].min(), wanted["track_id"].max()
    with named_if_damaged(output.store.uri(key)), output.store.open_input(key) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, output.kind, output.store.uri(key))
        for group in groups_between(file, str(first), str(last)):
            keys = frame_of(file.read_row_group(group, columns=_KEY)).with_row_index()
            here = keys.join(wanted, on=_KEY, how="semi")["index"].sort()
            if here.len():
                table = file.read_row_group(group).take(pc.cast(here.to_arrow(), pa.int64()))
                yield completed(table, KINDS[output.kind])


def by_part(wanted: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows of each part, in the order of parts and of rows."""
    rows = wanted.sort("part", maintain_order=True)
    start = 0
    for length in rows["part"].rle().struct.field("len"):
        yield rows.slice(start, length)
        start += length


def _rows_of(output: OutputDirectory, part: str, rows: pl.DataFrame, columns: Sequence[str] | None) -> pa.Table:
    """Return those of the rows wanted that a part has."""
    table = _read_part(output, part, columns)
    by = [name for name in ITEM if name in table.column_names]
    keep = rows.select(by).with_columns(pl.lit(True).alias("keep"))
    found = frame_of(table.select(by)).join(keep, on=by, how="left", maintain_order="left")
    if not found["keep"].null_count():
        return table  # most are wanted whole, and large
    return table.filter(pa.array(found["keep"].fill_null(False).to_list(), pa.bool_()))


def _read_part(output: OutputDirectory, part: str, columns: Sequence[str] | None) -> pa.Table:
    with named_if_damaged(output.store.uri(part)), output.store.open_input(part) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, output.kind, output.store.uri(part))
        by = [name for name in ITEM if name in file.schema_arrow.names]
        if columns:
            return file.read(columns=sorted({*columns, *by}))
        return completed(file.read(), KINDS[output.kind])


def current_index(output: OutputDirectory, items: pl.DataFrame) -> pl.DataFrame:
    """Return where the newest row of each item is; items without a row are left out.

    Parameters
    ----------
    items
        With columns `track_id` and `view`; where there is no `view`, as in a catalogue, the clean one is meant.
    """
    wanted = items if "view" in items.columns else items.with_columns(view=pl.lit(CLEAN))
    return newest_index(output).join(wanted.select(ITEM), on=ITEM, how="semi")


def newest(index: pl.DataFrame) -> pl.DataFrame:
    """Return the newest row of each item: of the highest sequence, then of the last part by name.

    Two runs that raced may have the same sequence, and may both have read one part at different times: the rest of
    the row decides then (a row without error before one with), so that every reader sees the same one.
    """
    return _last(index, item_key(index))


def _last(index: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    rest = [name for name in INDEX.names if name not in (*ITEM, "sequence", "part", *RETRY_COLUMNS)]
    several = index.select(by).is_duplicated() if len(by) > 1 else index[by[0]].is_duplicated()
    if not several.any():
        return index
    # Most items have but one row: only the others are put in order.
    ordered = index.filter(several).sort(["sequence", "part", "error_code", *rest], nulls_last=True)
    last = ordered.unique(by, keep="last", maintain_order=True)
    return pl.concat([index.filter(~several), last])


STALE: dict[str, pl.DataType] = {"stale_since": pl.Datetime("us", "UTC"), "stale_reason": pl.String()}
"""Of an answer that stands in for a failure: when the first try after it failed, and the code of the last."""


def with_last_answers(
    output: OutputDirectory, rows: pl.DataFrame, commits: Sequence[Commit] | None = None, span: Span = ALL_IDS
) -> pl.DataFrame:
    """Return `newest` rows of a span, with the last answer of its content, if any, in place of each failed one.

    A failure says nothing about an answer that the same bytes had. Returns schema INDEX, and `STALE`: null in rows
    that were not replaced.
    """
    failed = rows.filter(pl.col("error_code").is_not_null())
    if failed.is_empty():
        return rows.with_columns(_not_stale())
    seen, wanted = _snapshot(output, commits, span), failed.select(_CONTENT)
    tries = pl.concat(frame.join(wanted, on=_CONTENT, how="semi") for frame in (seen.newest, seen.others))
    answers = _stale(tries, failed)
    kept = rows.join(answers.select(ITEM), on=ITEM, how="anti")
    return pl.concat([kept.with_columns(_not_stale()), answers])


def answers_to_keep(index: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that `with_last_answers` needs beside `newest` ones, whatever content comes and fails next.

    Of each content of an item, the last answer and the first failure since.

    Parameters
    ----------
    index, rows
        Rows, and the `newest` ones of all.
    """
    older = index.join(rows.select(_ROW), on=_ROW, how="anti")
    items = older.select(ITEM).unique()
    tries = pl.concat([older, rows.join(items, on=ITEM, how="semi")])
    answers = _last(tries.filter(pl.col("error_code").is_null()), _CONTENT)
    failures = _failures_since(tries, answers).sort("tried_at", "sequence", "part", nulls_last=True)
    first = failures.unique(_CONTENT, keep="first", maintain_order=True)
    return pl.concat([answers, first]).join(rows.select(_ROW), on=_ROW, how="anti")


def _stale(tries: pl.DataFrame, failed: pl.DataFrame) -> pl.DataFrame:
    """Return the last answers among the tries of one content, dated by the failures after them."""
    answers = newest(tries.filter(pl.col("error_code").is_null())).with_columns(deleted=pl.lit(False))
    since = _failures_since(tries, answers).group_by(ITEM).agg(stale_since=pl.col("tried_at").min())
    reasons = failed.select(*ITEM, stale_reason="error_code")
    dated = answers.join(since, on=ITEM, how="left").join(reasons, on=ITEM)
    return dated.select(*INDEX.names, *(pl.col(name).cast(kind) for name, kind in STALE.items()))


def _failures_since(tries: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    answered = answers.select(*_CONTENT, answered="sequence")
    later = tries.filter(pl.col("error_code").is_not_null()).join(answered, on=_CONTENT)
    return later.filter(pl.col("sequence") > pl.col("answered")).drop("answered")


def _not_stale() -> list[pl.Expr]:
    return [pl.lit(None, kind).alias(name) for name, kind in STALE.items()]


def run_part_refs(run: OutputRun, index: pl.DataFrame) -> list[PartRef]:
    """Return the parts that a run's own index names."""
    own = index.filter(pl.col("sequence") == run.sequence)
    counts = own.group_by("part", "fingerprint").len().sort("part")
    return [PartRef(part, rows, fingerprint, run.sequence) for part, fingerprint, rows in counts.iter_rows()]
