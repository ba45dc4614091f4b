"""The two data sets of predictions that readers open, made from what commits show.

Below the output directory::

    current/                                            a Delta table: the newest row of each track that is not
                                                        deleted; where it failed, the last answer of the same content;
                                                        under the URI that the catalogue has now
    current/_data/<x>-<mark>-<unique>.parquet           its files, by the first hex digit of the track id
    history/run_date=<day>/<sequence>-<run_id>-<n>.parquet  every row of every run, deletions included

The commits are the truth, and what a killed run left undone is done by the next. `current` is derived: it changes
by one transaction, which replaces the files of which something changed, and fails where another one was there first:
then all is derived anew. So no reader sees some of yesterday's files beside today's, and no writer that was held up
brings back what it read before. What is published stands in the transaction itself: a second record could disagree.

`history` keeps the rows: once a commit's are all there, and a transaction says so, plan and parts of its run are
deleted. A row is found by its track and sequence, in its run's files of `history`, else in its part (`run_index`).

One bucket's compressed rows, the index of a slice of it and a few thousand rows are all that is held in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from mgc.errors import SchemaError, StorageError
from mgc.logs import log
from mgc.storage.local_files import DISK_FULL_ERRNOS
from mgc.storage.objects import AccessDeniedError, DiskFullError, ObjectInfo, ObjectNotFoundError
from mgc.storage.store import Store
from mgc.tables.parquet_batches import (
    ROWS_A_GROUP,
    frame_of,
    give_back_memory,
    groups_between,
    in_batches,
    named_if_damaged,
    parquet_bytes,
    prefetched,
    read_whole,
    rows_within,
    text_columns,
)
from mgc.tables.run_index import (
    STALE,
    current_rows,
    ids_between,
    newest_index,
    read_index,
    rows_shown,
    with_last_answers,
)
from mgc.tables.run_log import HISTORY, SMALL_READERS, Commit, OutputDirectory, PartRef
from mgc.tables.schema import CURRENT_PREDICTIONS, completed, marked
from mgc.tables.slices import HEX_DIGITS, Slices, Span, spans_by_digits

CURRENT = "current"

GRACE_SECONDS = 24 * 3600
"""How long a file that was replaced stays: for readers that opened an older version, and to travel back by a day."""

WAITS_SECONDS = (0.1, 0.3, 1.0, 3.0, 9.0)
"""Between attempts where another writer came first: a listing may be late to show what it wrote."""

_DATA = f"{CURRENT}/_data/"
"""Begins with an underscore: whoever reads the folder as plain Parquet passes over replaced and living files."""

_NOTE = b"""This folder is a Delta table: some of its Parquet files are out of date. Read it as a table:
polars.scan_delta(...), deltalake.DeltaTable(...).to_pandas() or .to_pyarrow_dataset() (DuckDB),
spark.read.format("delta"), ray.data.read_delta(...), mgc.read_predictions(...). This file is no Parquet, on purpose.
"""
NOTES = (f"{CURRENT}/READ-AS-DELTA-TABLE.txt", f"{_DATA}READ-AS-DELTA-TABLE.parquet")
"""What reads the folder, or all Parquet below it, as plain files ends at one of these with an error that says why."""

_EARLIER_STATE = "_published.json"
"""What was published by an mgc whose `current` was plain Parquet."""

_OTHER = "x"
"""Bucket of ids that begin with no hex digit; mgc's own all do."""

_KEY = ["track_id", "sequence"]
_NAMED = ["track_id", "uri"]

_SCHEMA = Schema.from_arrow(CURRENT_PREDICTIONS)

_UNFIT = re.compile(r"%[0-9a-fA-F]{2}|[\\\x00-\x1f\x7f]")
"""What delta-rs takes for something else in a path."""


@dataclass(frozen=True)
class TableRecord:
    """What a version of `current` says of itself, in its own commit.

    Parameters
    ----------
    files
        Keys of its files. Others are there where two writers met on a store without conditional PUT, or another
        program rewrote the table: then all is derived anew.
    history
        What `history` holds: commits by name, with the mark of the parts that each brought there (`_HistoryFiles`).
    replaced
        Files that it no longer has, and when (seconds since the epoch) each was replaced.
    uris
        A number that changes with any URI of the catalogue; empty where some may be out of date.
    """

    files: list[str] = field(default_factory=list)
    history: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, float] = field(default_factory=dict)
    uris: str = ""


@dataclass(frozen=True)
class CurrentTable:
    """A version of `current`: its files with their bytes and rows, and what it says of itself."""

    table: DeltaTable | None = None
    files: dict[str, int] = field(default_factory=dict)
    record: TableRecord = field(default_factory=TableRecord)
    rows: dict[str, int] = field(default_factory=dict)

    def is_whole(self, there: dict[str, ObjectInfo]) -> bool:
        """Return whether its files are those that its writer meant, and are all on the store."""
        return sorted(self.files) == sorted(self.record.files) and all(self.has(key, there) for key in self.files)

    def has(self, key: str, there: dict[str, ObjectInfo]) -> bool:
        """Return whether a file is on the store, as long as it was written."""
        return key in there and there[key].size_bytes == self.files[key]


def open_current(store: Store) -> CurrentTable | None:
    """Return the newest version of an output's `current`; None where there is none yet.

    Raises
    ------
    SchemaError
        Its log is damaged.
    StorageError
        The store fails, or its path is none that a Delta table can have.
    """
    with _delta_errors(store):
        opened = _opened(store)
    if opened is None:
        return None
    table, added = opened
    keys = [f"{CURRENT}/{path}" for path in added["path"].to_pylist()]
    files = dict(zip(keys, added["size_bytes"].to_pylist(), strict=True))
    rows = (
        dict(zip(keys, added["num_records"].to_pylist(), strict=True)) if "num_records" in added.column_names else {}
    )
    return CurrentTable(table, files, _read_record(store, table.version()), rows)


def _opened(store: Store) -> tuple[DeltaTable, pa.Table] | None:
    """Return the newest version and its files; None where there is no table."""
    uri, options = _table_uri(store), store.object_store_options()
    # delta-rs asks once more where a request fails, but not where a body breaks off or is damaged on its way.
    waits = list(WAITS_SECONDS[:4]) if options else []
    while True:
        try:
            table = DeltaTable(uri, storage_options=options)
            return table, pa.table(table.get_add_actions(flatten=True))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            if not waits:
                raise
            log.info("'%s' is opened once more: %s", store.uri(CURRENT), _one_line(str(error)))
            time.sleep(waits.pop(0))


def _read_record(store: Store, version: int) -> TableRecord:
    """Return what a version says; nothing where another program made it: then it is found out anew."""
    try:
        lines = store.read_bytes(_log_key(version)).splitlines()
        return next(TableRecord(**info["mgc"]) for line in lines if (info := json.loads(line).get("commitInfo")))
    except (ObjectNotFoundError, StopIteration, ValueError, TypeError, KeyError, AttributeError):
        return TableRecord()


def _log_key(version: int) -> str:
    return f"{CURRENT}/_delta_log/{version:020d}.json"


class CatalogueUris:
    """Where the tracks of a catalogue are.

    Parameters
    ----------
    tracks
        Columns `track_id` and `uri`.
    """

    def __init__(self, tracks: Slices) -> None:
        self._tracks = tracks

    @cached_property
    def mark(self) -> str:
        """A number that changes with any URI."""
        return uris_mark(*(self.of(span) for span in self._tracks.spans))

    def of(self, span: Span) -> pl.DataFrame:
        """Return `track_id` and `uri` of some tracks."""
        return self._tracks.read(span).select(_NAMED)


def publish(
    output: OutputDirectory, require_lease: Callable[[], None] = lambda: None, uris: CatalogueUris | None = None
) -> int | None:
    """Bring `current/` and `history/` up to date; return the tracks in `current`, None where all was.

    Parameters
    ----------
    require_lease
        Called right before `current` changes: raises where another run has taken over. On a store without
        conditional PUT nothing else keeps a writer that was held up from undoing what came after it.
    uris
        Where the catalogue says that tracks are: a library that was moved keeps its answers, and readers find its
        files. None: where `current` says so.

    Raises
    ------
    StorageError
        The store fails, or others publish again and again at the same time.
    """
    for wait_seconds in WAITS_SECONDS:
        try:
            return _publish(output, require_lease, uris)
        except (CommitFailedError, ObjectNotFoundError) as error:
            # Of what was listed, another one that published meanwhile may have deleted some.
            log.info("'%s' has a newer version, all is derived anew: %s", output.store.uri(CURRENT), error)
            time.sleep(wait_seconds)
    try:
        return _publish(output, require_lease, uris)
    except CommitFailedError as error:
        raise StorageError(
            f"'{output.store.uri(CURRENT)}' cannot be committed: {error}",
            "start the command again when no other one publishes there; nothing is lost",
        ) from error
    except ObjectNotFoundError as error:
        raise SchemaError(
            f"answers of '{output.store.uri()}' are gone: {error.message}",
            "restore history/ from a backup, which keeps them; or give a new directory as --output",
        ) from error


def _publish(output: OutputDirectory, require_lease: Callable[[], None], uris: CatalogueUris | None) -> int | None:
    store = output.store
    # The version first, then the commits: whoever commits after they were listed publishes after this version.
    seen = open_current(store)
    commits = output.commits(also=seen.record.history if seen else ())
    if seen is None:
        seen = CurrentTable(record=TableRecord(history=_earlier_history(store, commits)))
    history = _history_files(commits)
    there = {item.key: item for item in store.list(f"{CURRENT}/")}
    record = TableRecord(
        history={name: each.mark for name, each in history.items()},
        uris=seen.record.uris if uris is None else uris.mark,
    )
    if not commits and seen.table is None:
        return None
    is_whole = seen.table is not None and seen.is_whole(there)
    if is_whole and (seen.record.history, seen.record.uris) == (record.history, record.uris):
        _tidy(output, seen.record, history, there)
        return None
    output.list_history()
    for name, each in history.items():
        if seen.record.history.get(name) != each.mark and not _is_whole(output, each):
            _write_history(output, each)
            output.list_history()
    live = _LiveRows(output, seen, commits, uris)
    change = _change(live, there, _changed_ids(seen, record, history) if is_whole else None)
    if change.has_unknown_uris:
        record = replace(record, uris="")  # the next run that knows the catalogue writes its places anew
    record = replace(record, files=change.files(seen), replaced=change.replaced(seen, there))
    require_lease()
    _commit(store, seen, change, record, commits[-1:])
    _tidy(output, record, history, there)
    return change.rows


def _changed_ids(
    seen: CurrentTable, record: TableRecord, history: dict[str, _HistoryFiles]
) -> list[tuple[str, str]] | None:
    """Return between which track ids a row may differ from the version seen; None: anywhere."""
    before, now = seen.record.history, record.history
    if record.uris != seen.record.uris or not before.keys() <= now.keys():
        return None
    return [ids_between(history[name].commit) for name, mark in now.items() if before.get(name) != mark]


def uris_mark(*uris: pl.DataFrame) -> str:
    """Return a number that changes with any URI of a catalogue, which may come in slices."""
    sums = (int(some.select(pl.struct(_NAMED).hash().sum()).item()) for some in uris if some.height)
    return f"{sum(sums) % 2**64:016x}"


@dataclass(frozen=True)
class _LiveRows:
    """What `current` is to show, in index rows of a span of track ids: with `STALE` and `uri`, by id."""

    output: OutputDirectory
    seen: CurrentTable
    commits: list[Commit]
    uris: CatalogueUris | None

    def of(self, span: Span) -> pl.DataFrame:
        """Return the newest row of each live track; where it failed, the last answer of the same content."""
        newest = newest_index(self.output, self.commits, span).filter(~pl.col("deleted").fill_null(False))
        rows = with_last_answers(self.output, newest, self.commits, span)
        uris = self._shown_uris(span) if self.uris is None else self.uris.of(span)
        return rows.join(uris, "track_id", "left", maintain_order="left").sort("track_id")

    def _shown_uris(self, span: Span) -> pl.DataFrame:
        """Return where `current` says that tracks are; what is in a lost or damaged file is left out."""
        store, frames = self.output.store, [pl.DataFrame(schema=dict.fromkeys(_NAMED, pl.String))]
        for key in self.seen.files:
            bucket = _bucket_of(key)
            if bucket in (*HEX_DIGITS, _OTHER) and not any(one.holds(span) for one in bucket_spans(bucket)):
                continue
            with suppress(SchemaError, ObjectNotFoundError), named_if_damaged(key), store.open_input(key) as source:
                frames.append(rows_within(pq.ParquetFile(source), span, _NAMED))
        return pl.concat(frames).unique("track_id", keep="first", maintain_order=True)


def bucket_spans(bucket: str) -> list[Span]:
    """Return the track ids of a bucket: those that begin with its digit, or with none."""
    if bucket == _OTHER:
        return [Span("", "0"), Span(chr(ord("9") + 1), "a"), Span(chr(ord("f") + 1))]
    return [Span(bucket, chr(ord(bucket) + 1))]


@dataclass(frozen=True)
class _HistoryFiles:
    """What of a commit is in `history`: its parts but those of earlier commits, under a mark where there are any.

    Two commits name one part where a run that was taken for dead had its parts resumed, and committed all the same.
    """

    commit: Commit
    parts: list[PartRef]

    @property
    def mark(self) -> str:
        if len(self.parts) == len(self.commit.parts):
            return ""
        keys = json.dumps([part.key for part in self.parts])
        return hashlib.blake2b(keys.encode(), digest_size=4).hexdigest()

    @property
    def _begin(self) -> str:
        day = str(self.commit.facts.get("run_date", self.commit.run_id[:8]))  # of a compaction, its newest run's
        mark = f"{self.mark}_" if self.mark else ""
        return f"{HISTORY}/run_date={day[:4]}-{day[4:6]}-{day[6:]}/{self.commit.name}-{mark}"

    def key(self, number: int) -> str:
        return f"{self._begin}{number:04d}.parquet"

    def has(self, key: str) -> bool:
        """Return whether a file of the commit's run is one of these."""
        return key.startswith(self._begin) and key[len(self._begin) : -len(".parquet")].isdecimal()


def _history_files(commits: list[Commit]) -> dict[str, _HistoryFiles]:
    taken: set[str] = set()
    found = {}
    for commit in commits:
        found[commit.name] = _HistoryFiles(commit, [part for part in commit.parts if part.key not in taken])
        taken |= {part.key for part in commit.parts}
    return found


def _is_whole(output: OutputDirectory, files: _HistoryFiles) -> bool:
    """Return whether `history` has all rows of a commit's parts."""
    rows = 0
    for key in filter(files.has, output.history_of(files.commit.run_id)):
        with named_if_damaged(output.store.uri(key)), output.store.open_input(key) as source:
            rows += pq.ParquetFile(source).metadata.num_rows
    return rows == sum(part.rows for part in files.parts)


def _write_history(output: OutputDirectory, files: _HistoryFiles) -> None:
    """Write a commit's rows to `history/`; the same files under the same names however often."""
    keys, run_id = [part.key for part in files.parts], files.commit.run_id
    there = output.list_history()
    there[run_id] = [key for key in there.get(run_id, ()) if not files.has(key)]  # a killed writer's, not whole
    tables: Iterator[pa.Table]
    if any(output.history_of(run) for run in files.commit.runs):
        # It had all of them under another mark, or another commit that names a part did: the part may be no more.
        index = read_index(output, files.commit.index_key).filter(pl.col("part").is_in(keys))
        tables = (table.cast(marked(output.kind)) for table in current_rows(output, index))
    else:
        tables = read_whole(output.store, keys, marked(output.kind))
    number = 0
    for number, table in enumerate(in_batches(tables), 1):
        output.store.write_atomic(files.key(number - 1), parquet_bytes(table))
    while output.store.exists(files.key(number)):  # of an mgc that cut them smaller
        output.store.delete(files.key(number))
        number += 1


def _earlier_history(store: Store, commits: list[Commit]) -> dict[str, str]:
    """Return what `history` holds where an older mgc wrote it, to which `current` was plain Parquet."""
    try:
        runs = json.loads(store.read_bytes(_EARLIER_STATE))["commits"]
        return {commit.name: "" for commit in commits if commit.run_id in runs}
    except (ObjectNotFoundError, ValueError, TypeError, KeyError):
        return {}


@dataclass(frozen=True)
class _Change:
    """Files that are to join `current`, already written, and the keys of those that are to leave it.

    `rows` are those of the whole table. `has_unknown_uris`: of some tracks nobody knows where they are.
    """

    added: list[AddAction]
    removed: set[str]
    is_all: bool
    rows: int = 0
    has_unknown_uris: bool = False

    def files(self, seen: CurrentTable) -> list[str]:
        """Return the files of the version to come."""
        return sorted({*seen.files, *(f"{CURRENT}/{action.path}" for action in self.added)} - self.removed)

    def replaced(self, seen: CurrentTable, there: Container[str]) -> dict[str, float]:
        """Return when each file that is no longer used, and still there, was replaced."""
        before = {key: since for key, since in seen.record.replaced.items() if key in there}
        return before | dict.fromkeys(self.removed, time.time())


def _change(live: _LiveRows, there: dict[str, ObjectInfo], changed_ids: list[tuple[str, str]] | None) -> _Change:
    """Write the files of which something changed, and return what is to become of the table.

    Parameters
    ----------
    changed_ids
        Between which nothing can have changed but there; None: anywhere.
    """
    seen, commits = live.seen, live.commits
    # Where two runs raced, a number may stand for two runs: then nothing of the old files is taken over.
    raced = len({commit.sequence for commit in commits}) < len(commits)
    anew = raced or seen.table is None or seen.table.schema() != _SCHEMA
    added: list[AddAction] = []
    # To begin with, what other programs put there.
    removed = {key for key in seen.files if _bucket_of(key) not in (*HEX_DIGITS, _OTHER)}
    rows, has_unknown_uris = 0, False
    per_bucket = rows_shown(live.output, commits) // len(HEX_DIGITS)
    for bucket in (*HEX_DIGITS, _OTHER):
        old = [key for key in seen.files if _bucket_of(key) == bucket]
        spans = bucket_spans(bucket)
        if (
            not anew
            and changed_ids is not None
            and not any(span.meets(*ids) for span in spans for ids in changed_ids)
        ):
            rows += sum(seen.rows[key] for key in old)
            continue
        if bucket != _OTHER:
            spans = spans_by_digits(per_bucket, spans[0], bucket)
        marks = _Marks(live, spans)
        rows, has_unknown_uris = rows + marks.rows, has_unknown_uris or marks.has_unknown_uris
        whole = old[0] if len(old) == 1 and seen.has(old[0], there) else None
        begin = f"{_DATA}{bucket}-{marks.total:016x}-"
        if whole and whole.startswith(begin) and not anew:
            continue
        removed.update(old)
        if marks.rows:
            key = f"{begin}{uuid.uuid4().hex[:12]}.parquet"
            added.append(_write_file(live.output, key, marks, None if raced else whole))
            give_back_memory()
    return _Change(added, removed, anew, rows, has_unknown_uris)


class _Marks:
    """What is to be in a file of `current`, in numbers; the rows are derived once more where they are several slices.

    `total` changes with any row.
    """

    def __init__(self, live: _LiveRows, spans: list[Span]) -> None:
        self._live, self._spans = live, spans
        self._held: pl.DataFrame | None = None
        self.total = self.rows = 0
        self.has_unknown_uris = False
        mark = pl.struct(*_KEY, *STALE, "uri").hash().sum()
        for span in spans:
            rows = live.of(span)
            if rows.height:
                self.total = (self.total + int(rows.select(mark).item())) % 2**64
                self._held = None if self.rows else rows
                self.rows += rows.height
                self.has_unknown_uris |= bool(rows["uri"].null_count())

    def slices(self) -> Iterator[pl.DataFrame]:
        """Yield the rows, by track id."""
        yield from [self._held] if self._held is not None else map(self._live.of, self._spans)


def _bucket_of(key: str) -> str:
    return key.removeprefix(_DATA).partition("-")[0]


def _write_file(output: OutputDirectory, key: str, marks: _Marks, old_key: str | None) -> AddAction:
    """Write a new file of `current`: rows that its old one has from there, the others from the parts."""
    data = _file_of(output, marks.slices(), _OldFile(output, old_key) if old_key else None)
    output.store.write_atomic(key, data)
    # No bounds of some columns: to_pyarrow_dataset takes those of all others for null, and DuckDB drops its filters.
    stats = json.dumps({"numRecords": marks.rows})
    return AddAction(key.removeprefix(f"{CURRENT}/"), data.nbytes, {}, int(time.time() * 1000), True, stats)


def _file_of(output: OutputDirectory, slices: Iterable[pl.DataFrame], old: _OldFile | None) -> memoryview:
    schema = marked(output.kind)
    shown = CURRENT_PREDICTIONS.with_metadata(schema.metadata)
    sink = io.BytesIO()  # grows by an eighth, Arrow's own by as much again
    groups = (rows.slice(start, ROWS_A_GROUP) for rows in slices for start in range(0, rows.height, ROWS_A_GROUP))
    with pq.ParquetWriter(sink, shown, compression="zstd", use_dictionary=text_columns(shown)) as writer:
        for wanted in groups:
            kept = old.rows(wanted) if old else schema.empty_table()
            missing = wanted.join(frame_of(kept.select(_KEY)), on=_KEY, how="anti")
            fresh = [table.select(schema.names).cast(schema) for table in current_rows(output, missing)]
            table = pa.concat_tables([kept, *fresh]).sort_by("track_id")
            writer.write_table(_as_shown(table, wanted).cast(shown), row_group_size=ROWS_A_GROUP)
    return sink.getbuffer()


def _as_shown(table: pa.Table, wanted: pl.DataFrame) -> pa.Table:
    """Return rows with the `STALE` columns and the URIs of their index rows, all in the order of the track ids."""
    if table.num_rows != wanted.height:
        raise SchemaError(
            f"{wanted.height:,} rows of predictions were to be shown, {table.num_rows:,} were found",
            "start the command again; if it stays so, a part below runs/ is damaged: restore it",
        )
    # What was copied when a track left the catalogue is shown again as the answer that it is.
    deleted_at = table.schema.field("deleted_at")
    none = pa.nulls(table.num_rows, deleted_at.type)
    table = table.set_column(table.schema.get_field_index("deleted_at"), deleted_at, none)
    uris = pc.coalesce(pc.cast(wanted["uri"].to_arrow(), pa.string()), table["uri"])
    table = table.set_column(table.schema.get_field_index("uri"), table.schema.field("uri"), uris)
    for name in STALE:
        table = table.append_column(name, wanted[name].to_arrow())
    return table


class _OldFile:
    """A file of `current` that is about to be replaced, read by spans of track ids; none where it is damaged."""

    def __init__(self, output: OutputDirectory, key: str) -> None:
        self._uri = output.store.uri(key)
        self._schema = marked(output.kind)
        self._file: pq.ParquetFile | None = None
        with self._reading():
            self._file = pq.ParquetFile(output.store.open_input(key))

    def rows(self, wanted: pl.DataFrame) -> pa.Table:
        """Return those of the wanted rows that are there."""
        table = self._schema.empty_table()
        with self._reading():
            if self._file and (
                groups := [*groups_between(self._file, wanted["track_id"][0], wanted["track_id"][-1])]
            ):
                read = self._file.read_row_groups(groups, columns=self._schema.names)
                table = completed(read, self._schema).cast(self._schema)
        keys = frame_of(table.select(_KEY)).with_row_index()
        here = keys.join(wanted.select(_KEY), on=_KEY, how="semi")["index"].sort()
        return table.take(pc.cast(here.to_arrow(), pa.int64()))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read on without the file where it is damaged: the parts have all its rows."""
        try:
            with named_if_damaged(self._uri):
                yield
        except (SchemaError, ValueError, AttributeError) as error:
            log.warning("%s; it is written anew", error)
            self._file = None


def _commit(
    store: Store, seen: CurrentTable, change: _Change, record: TableRecord, newest_commit: list[Commit]
) -> None:
    """Replace files of `current` by one transaction on the version seen.

    Raises
    ------
    CommitFailedError
        It is not the newest version any more.
    """
    properties = CommitProperties(
        custom_metadata={"mgc": asdict(record)},
        # By default a commit goes on from whatever version is newest: of two writers both would be accepted.
        max_commit_retries=0,
        app_transactions=[Transaction(commit.run_id, commit.sequence) for commit in newest_commit],
    )
    with _delta_errors(store):
        if seen.table is None:
            _create(store, change, properties)
        elif change.is_all:
            seen.table.create_write_transaction(
                list(change.added), "overwrite", _SCHEMA, commit_properties=properties
            )
        else:
            paths = {key.removeprefix(f"{CURRENT}/"): seen.files[key] for key in change.removed}
            now_ms = int(time.time() * 1000)
            removed = [RemoveAction(path, True, now_ms, size) for path, size in paths.items()]
            seen.table.create_write_transaction(
                [*change.added, *removed], "append", _SCHEMA, commit_properties=properties
            )
    store.sync(_log_key(seen.table.version() + 1 if seen.table else 0))


def _create(store: Store, change: _Change, properties: CommitProperties) -> None:
    uri, options = _table_uri(store), store.object_store_options()
    try:
        create_table_with_add_actions(
            uri,
            _SCHEMA,
            change.added,
            configuration={
                "delta.deletedFileRetentionDuration": f"interval {GRACE_SECONDS} seconds",
                "delta.checkpointInterval": "10",
            },
            storage_options=options,
            commit_properties=properties,
        )
    except DeltaError as error:
        # Another writer made it meanwhile. Not `is_deltatable`: it holds the interpreter's lock, and so the lease.
        if store.exists(_log_key(0)):
            raise CommitFailedError(_one_line(str(error))) from error
        raise


def _tidy(
    output: OutputDirectory, record: TableRecord, history: dict[str, _HistoryFiles], there: dict[str, ObjectInfo]
) -> None:
    """Delete what no version of the last day shows, what publishing left, and parts whose rows are in `history`."""
    store = output.store
    for key in NOTES:
        if key not in there:
            store.write_atomic(key, _NOTE)
    earlier = [key for key in there if key.startswith(f"{CURRENT}/part-")]
    if earlier:
        for key in [_EARLIER_STATE, *earlier]:
            store.delete(key)
    for key, item in there.items():
        unused = key.startswith(_DATA) and key not in {*record.files, *NOTES}
        unused |= "#" in key  # what delta-rs leaves of a version that it was killed in
        if unused and time.time() - record.replaced.get(key, item.modified) > GRACE_SECONDS:
            store.delete(key)
    runs = {each.commit.run_id: each for each in history.values()}
    replaced = {run_id for each in history.values() for run_id in each.commit.replaces}
    for run, keys in output.list_history().items():
        for key in keys:
            # Files of a run that is not known are let be: its commit may be listed late.
            if run in replaced or (run in runs and not runs[run].has(key)):
                store.delete(key)
    _drop_parts(output, history)
    output.history = None


def _drop_parts(output: OutputDirectory, history: dict[str, _HistoryFiles]) -> None:
    """Delete parts and plan of each commit whose rows `history` has."""
    there: dict[str, list[str]] = {}
    for item in output.store.list("runs/"):
        if not item.key.endswith("/index.parquet"):
            there.setdefault(item.key.split("/")[1], []).append(item.key)
    busy = [each for each in history.values() if not there.keys().isdisjoint(each.commit.runs)]
    if not busy:
        return
    output.list_history()
    found = prefetched(lambda each: _is_whole(output, each), busy, SMALL_READERS)
    whole = [each for each, is_whole in zip(busy, found, strict=True) if is_whole]
    kept = {part.key for each in busy if each not in whole for part in each.commit.parts}
    for each in whole:
        named = {part.key for part in each.commit.parts}
        # Of its own run all: plan, and parts that a second actor made. Of one that it resumed what it resumed.
        own = each.commit.run_id
        keys = [key for run in each.commit.runs for key in there.get(run, ()) if run == own or key in named]
        with suppress(AccessDeniedError):  # deleting may be forbidden where writing is not
            list(prefetched(output.store.delete, [key for key in keys if key not in kept], SMALL_READERS))


def _table_uri(store: Store) -> str:
    uri = store.uri(CURRENT)
    if _UNFIT.search(uri):
        raise StorageError(
            f"'{uri}' cannot be a Delta table: there is a backslash, a %xx or a control character in its path",
            "give another directory as --output",
        )
    return uri


@contextmanager
def _delta_errors(store: Store) -> Iterator[None]:
    """Turn what delta-rs raises into errors that name the table; conflicts pass.

    Raises
    ------
    StorageError, SchemaError
        The store fails; the table's log is damaged.
    """
    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except (DeltaError, OSError) as error:
        uri, text = store.uri(CURRENT), str(error)
        why = _one_line(text)
        if any(f"os error {number})" in text for number in DISK_FULL_ERRNOS):
            raise DiskFullError(f"no room to write '{uri}'", "free some space and start again") from error
        if "necessary privileges" in text:
            raise AccessDeniedError(
                f"no permission for '{uri}' ({why})", "check credentials, policy, owner and mode"
            ) from error
        if isinstance(error, OSError):
            raise StorageError(f"'{uri}' failed: {why}", "check the store and start again") from error
        raise SchemaError(
            f"'{uri}' cannot be opened as a Delta table: {why}",
            "if it stays so its log is damaged: delete that folder, and `mgc tag` makes it anew, tagging nothing",
        ) from error


def _one_line(text: str) -> str:
    """Return an error of delta-rs without colours, arrows and the frames of its own code."""
    plain = re.sub(r"\x1b\[\d+m|↳", " ", text.partition("   0: ")[0])
    return " ".join(plain.split())[:500]
