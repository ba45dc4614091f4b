"""Output directories: runs write parts, one atomic commit makes them visible, the newest row of an item wins.

Layout of an output directory (features or predictions), on any store::

    _mgc.json                            what kind of table this is, and of which schema version
    leases/<name>.json                   who is at work now (`mgc.tables.lease`)
    started/<sequence>-<run_id>.json     what the run was started with
    runs/<run_id>/plan.parquet           the rows it has to do, one row group a chunk
    runs/<run_id>/part-<chunk>.parquet   finished chunks; each file is written whole or not at all
    runs/<run_id>/index.parquet          which track is in which part
                                         (of predictions, plan and parts go once their rows are in history/)
    commits/<sequence>-<run_id>.json     makes the run's parts visible; the one atomic write that counts
    _checkpoint.parquet                  the commits of some time ago and their index rows that count, in one object
    _completed.json                      when a run last ended well, one with nothing to do included
    current/, history/                   predictions: what readers open, made from the above (`mgc.tables.publish`)
    records/, report/                    predictions: each run (`mgc.tables.run_records`), the last one's page

A commit is one object of its own name, so two runs that finish at the same time both succeed, and no store
needs a conditional PUT or a rename. What a killed run finished is not visible; the next run resumes it.

So that a run does not read as many objects as there were runs before it, every `CHECKPOINT_COMMITS` runs one writes
the checkpoint anew. It is derived, and names its commits: where one of them is no longer visible, it is not believed.
"""

from __future__ import annotations

import io
import json
import re
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from mgc.config.section import from_json, json_object, of_fields
from mgc.errors import SchemaError
from mgc.logs import log
from mgc.storage.store import ObjectNotFoundError, Store
from mgc.tables.parquet_batches import named_if_damaged, prefetched, rows_within
from mgc.tables.schema import SCHEMA_VERSIONS
from mgc.tables.slices import ALL_IDS, Span

MARKER, COMPLETED, CHECKPOINT = "_mgc.json", "_completed.json", "_checkpoint.parquet"
SECOND = "-second"
HISTORY = "history"

CHECKPOINT_COMMITS = 10
"""That a checkpoint lacks, at most, once a run has ended well."""

CHECKPOINT_GROUP = 32_768
"""Rows of a checkpoint's row group."""

CHECKPOINT_WHOLE_BYTES = 16 * 1024**2
"""Of a checkpoint, that is read by one request; of a longer one the spans that are asked for."""

_COMMITS, _NEWEST = b"mgc.commits", "is_newest"

SMALL_READERS = 16
"""Objects of a few kilobytes that are read at once."""


@dataclass(frozen=True)
class OutputRun:
    """One run over an output directory.

    Parameters
    ----------
    run_id
        Unique name.
    sequence
        Order among runs: of two rows of a track, the one of the higher sequence counts.
    fingerprint
        What makes the rows: the feature settings' or the bundle's fingerprint.
    facts
        What else is worth keeping: the catalogue, the settings, the version.
    """

    run_id: str
    sequence: int
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Key of the run's directory."""
        return f"runs/{self.run_id}"

    def part_key(self, chunk: int, *, second: bool = False) -> str:
        """Return the key of a chunk's part, or of the one that a second actor makes while the first lags behind."""
        return f"{self.folder}/part-{chunk:06d}{SECOND if second else ''}.parquet"


@dataclass(frozen=True)
class PartRef:
    """A part that a commit makes visible, and what it was made with."""

    key: str
    rows: int
    fingerprint: str
    sequence: int


@dataclass(frozen=True)
class Commit:
    """The atomic record of a finished run."""

    run_id: str
    sequence: int
    index_key: str
    parts: list[PartRef]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Names its object below `commits/`."""
        return f"{self.sequence:08d}-{self.run_id}"

    @cached_property
    def runs(self) -> set[str]:
        """The run, and those whose parts it resumed."""
        return {self.run_id, *(part.key.split("/")[1] for part in self.parts)}

    @property
    def replaces(self) -> list[str]:
        """Runs whose commits this one stands for (`mgc.tables.compact`)."""
        return list(self.facts.get("replaces", ()))


@dataclass(frozen=True)
class IndexSnapshot:
    """All that is to be known of some commits' index rows (`mgc.tables.run_index`), of a span of ids.

    Parameters
    ----------
    commits
        By name.
    newest
        The newest row of each item.
    others
        What shows an answer in place of a later failure: each content's last answer, and the first failure since.
    span
        Of whose track ids; of others nothing is said.
    """

    commits: dict[str, Commit]
    newest: pl.DataFrame
    others: pl.DataFrame

    span: Span = ALL_IDS

    def is_of(self, commits: Container[str]) -> bool:
        """Return whether these are among the commits named: a compaction may stand for some of them by now."""
        return all(name in commits for name in self.commits)

    def within(self, span: Span) -> IndexSnapshot:
        """Return what it says of some of its ids."""
        return IndexSnapshot(self.commits, span.of(self.newest), span.of(self.others), span)


@dataclass(frozen=True)
class Checkpoint:
    """An `IndexSnapshot` of all ids as one Parquet file, by track id: it is read a span at a time."""

    commits: dict[str, Commit]
    file: pq.ParquetFile

    @classmethod
    def opened(cls, source: io.IOBase) -> Checkpoint:
        """Return what a file holds.

        Raises
        ------
        ValueError, KeyError, OSError
            It is damaged.
        """
        file = pq.ParquetFile(source)
        commits = [of_fields(Commit, fields) for fields in json.loads(file.metadata.metadata[_COMMITS])]
        return cls({commit.name: commit for commit in commits}, file)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self.file.metadata.num_rows)

    def within(self, span: Span) -> IndexSnapshot:
        """Return what it says of some ids; the same errors as `opened`."""
        rows, newest = rows_within(self.file, span), pl.col(_NEWEST)
        return IndexSnapshot(
            self.commits, rows.filter(newest).drop(_NEWEST), rows.filter(~newest).drop(_NEWEST), span
        )


def checkpoint_bytes(snapshots: Iterable[IndexSnapshot], commits: Iterable[Commit]) -> memoryview:
    """Return what commits show as the file of a `Checkpoint`.

    Parameters
    ----------
    snapshots
        Of spans that follow one another and have all ids together.
    """
    sink = io.BytesIO()
    with ExitStack() as stack:
        writer = None
        for one in snapshots:
            marked = [one.newest.with_columns(pl.lit(True).alias(_NEWEST))]
            marked.append(one.others.with_columns(pl.lit(False).alias(_NEWEST)))
            table = pl.concat(marked).sort("track_id", maintain_order=True).to_arrow()
            if writer is None:
                options = {"compression": "zstd", "write_statistics": ["track_id"]}
                writer = stack.enter_context(pq.ParquetWriter(sink, table.schema, **options))
                writer.add_key_value_metadata({_COMMITS: json.dumps([asdict(commit) for commit in commits])})
            writer.write_table(table, row_group_size=CHECKPOINT_GROUP)
    return sink.getbuffer()


@dataclass(frozen=True)
class Completed:
    """The last run that ended well, by its machine's clock; `run_id` is None where there was nothing to do."""

    completed_at: datetime
    run_id: str | None
    refused_deletions: int


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that no commit shows: items of its plan (None: not planned yet), and those of them in finished parts."""

    run_id: str
    items: int | None
    done: int


def read_marker(store: Store) -> dict[str, Any]:
    """Return what kind of table an output directory holds, and of which schema version.

    Raises
    ------
    SchemaError
        The marker is damaged.
    """
    try:
        return json_object(store.read_bytes(MARKER))
    except ValueError as error:
        raise _damaged(store, MARKER) from error


def history_run(key: str) -> str | None:
    """Return the run whose rows a file of `history/` holds; None for any other object."""
    if not key.startswith(f"{HISTORY}/"):
        return None
    return key.rpartition("/")[2].partition("-")[2].rpartition("-")[0]


def _damaged(store: Store, key: str) -> SchemaError:
    return SchemaError(
        f"'{store.uri(key)}' is damaged: it is not what mgc wrote",
        "restore it from a backup, or make the directory anew",
    )


class OutputDirectory:
    """An output directory of one kind of table; what is read of its commits is read once.

    Raises
    ------
    SchemaError
        The directory holds another kind of table, another schema version, or files that are not mgc's.
    """

    def __init__(self, store: Store, kind: str) -> None:
        self.store = store
        self.kind = kind
        self.snapshot: IndexSnapshot | None = None
        self.small_indices: dict[str, pl.DataFrame] = {}
        self.checkpoint: Checkpoint | None = None
        self.checkpointed: frozenset[str] = frozenset()
        self.history: dict[str, list[str]] | None = None
        self._known: dict[str, Commit] = {}
        self._is_marked = self._check_marker()

    def _check_marker(self) -> bool:
        """Return whether there is a marker, which then is the right one."""
        try:
            marker = read_marker(self.store)
        except ObjectNotFoundError:
            stranger = next(iter(self.store.list("")), None)
            if stranger is None:
                return False
            try:
                marker = read_marker(self.store)  # another run may have begun there between the two looks
            except ObjectNotFoundError:
                raise SchemaError(
                    f"'{self.store.uri()}' is not empty and no output of mgc: it holds '{stranger.key}'",
                    "give an empty or a new directory as --output",
                ) from None
        if marker.get("kind") != self.kind:
            raise SchemaError(
                f"'{self.store.uri()}' holds {marker.get('kind')}, not {self.kind}",
                "give another directory as --output",
            )
        if marker.get("schema_version") != SCHEMA_VERSIONS[self.kind]:
            raise SchemaError(
                f"'{self.store.uri()}' has schema version {marker.get('schema_version')}, "
                f"this mgc writes {SCHEMA_VERSIONS[self.kind]}",
                "give a new directory as --output, or use the version of mgc that wrote it",
            )
        return True

    def mark(self) -> None:
        """Write down what kind of table this is, where that is not written yet."""
        if not self._is_marked:
            self._is_marked = True
            self._write_json(MARKER, {"kind": self.kind, "schema_version": SCHEMA_VERSIONS[self.kind]})

    def start_run(self, fingerprint: str, facts: dict[str, Any]) -> OutputRun:
        """Return a new run, recorded as started."""
        self.mark()
        # The order of runs comes from the runs there are, not from the clock, which may go backwards.
        sequence = max((sequence for sequence, _ in self._records("started").values()), default=0) + 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        run = OutputRun(f"{stamp}-{uuid.uuid4().hex[:8]}", sequence, fingerprint, facts)
        self._write_json(f"started/{sequence:08d}-{run.run_id}.json", asdict(run))
        return run

    def runs(self, but: Container[str] = ()) -> Iterator[OutputRun]:
        """Yield every run there is, committed or not, but those named; of a damaged record what its name says."""
        records = {key: name for key, name in self._records("started").items() if name[1] not in but}
        return prefetched(lambda key: self._read_run(key, *records[key]), records, SMALL_READERS)

    def _read_run(self, key: str, sequence: int, run_id: str) -> OutputRun:
        try:
            return from_json(OutputRun, self.store.read_bytes(key))
        except ValueError:
            # A committed run needs its record no more; of a killed one it is not known what made its parts.
            log.warning("'%s' is damaged: nothing of that run is resumed", self.store.uri(key))
            return OutputRun(run_id, sequence, "")

    def _records(self, folder: str) -> dict[str, tuple[int, str]]:
        """Return sequence and run id of each key of `started/` or `commits/`; what others put there is left out."""
        named = {item.key: re.fullmatch(r"\w+/(\d+)-(.+)\.json", item.key) for item in self.store.list(f"{folder}/")}
        return {key: (int(name[1]), name[2]) for key, name in named.items() if name}

    def commits(self, also: Iterable[str] = ()) -> list[Commit]:
        """Return the visible runs, oldest first; those that a compaction stands for are left out.

        Parameters
        ----------
        also
            Names of commits that were there: looked for even where the listing, which may be late, has them not.
        """
        found = self.all_commits(also)
        replaced = {run_id for commit in found for run_id in commit.replaces}
        return [commit for commit in found if commit.run_id not in replaced]

    def all_commits(self, also: Iterable[str] = ()) -> list[Commit]:
        """Return every commit there is, oldest first.

        Raises
        ------
        SchemaError
            One is damaged: which rows count is not known without it.
        """
        listed = set(self._records("commits"))
        nothing_read = self.snapshot is None and self.checkpoint is None
        if nothing_read and len(listed - self._known.keys()) > CHECKPOINT_COMMITS:
            self._open_checkpoint()
        self._known |= zip(
            new := sorted(listed - self._known.keys()), prefetched(self._read_commit, new, SMALL_READERS), strict=True
        )
        found = [self._known[key] for key in listed]
        for key in sorted({f"commits/{name}.json" for name in also} - listed):
            with suppress(ObjectNotFoundError):  # a compaction stood for it, and it was deleted
                self._known[key] = self._read_commit(key)
                found.append(self._known[key])
        # A compaction holds the oldest rows, however new it is itself.
        return sorted(found, key=lambda commit: (not commit.replaces, commit.sequence, commit.run_id))

    def _open_checkpoint(self) -> None:
        """Take the checkpoint's commits for read; where it is damaged, nothing: what it is derived from is there."""
        with suppress(ObjectNotFoundError, ValueError, KeyError, TypeError, OSError):
            # It stays open: whoever writes another one meanwhile puts it in this one's place.
            long = self.store.stat(CHECKPOINT).size_bytes > CHECKPOINT_WHOLE_BYTES
            self.checkpoint = Checkpoint.opened(
                self.store.open_input(CHECKPOINT) if long else io.BytesIO(self.store.read_bytes(CHECKPOINT))
            )
            self.checkpointed = frozenset(self.checkpoint.commits)
            self._known |= {f"commits/{name}.json": commit for name, commit in self.checkpoint.commits.items()}

    def write_checkpoint(self, snapshots: Iterable[IndexSnapshot], commits: Iterable[Commit]) -> None:
        """Write the checkpoint: what commits show, one span of ids after another (`run_index.write_checkpoint`)."""
        commits = list(commits)
        self.store.write_atomic(CHECKPOINT, checkpoint_bytes(snapshots, commits))
        self.checkpoint = None
        self.checkpointed = frozenset(commit.name for commit in commits)

    def lacks_checkpoint(self, commits: Iterable[str]) -> bool:
        """Return whether the checkpoint lacks too many of the commits named."""
        return len(set(commits) - self.checkpointed) > CHECKPOINT_COMMITS

    def _read_commit(self, key: str) -> Commit:
        try:
            return from_json(Commit, self.store.read_bytes(key))
        except ValueError as error:
            raise _damaged(self.store, key) from error

    def commit(self, commit: Commit) -> None:
        """Make a run's parts visible: the one write that counts."""
        self._write_json(f"commits/{commit.name}.json", asdict(commit))

    def list_history(self) -> dict[str, list[str]]:
        """Return the files of `history/` by run, as they are now; it is remembered for `history_of`."""
        self.history = {}
        for item in self.store.list(f"{HISTORY}/"):
            self.history.setdefault(history_run(item.key) or "", []).append(item.key)
        return self.history

    def history_of(self, run_id: str) -> list[str]:
        """Return the files of `history/` that may hold the rows of a run's parts: its own, or of who resumed them."""
        listed = self.list_history() if self.history is None else self.history
        runs = {run_id, *(commit.run_id for commit in self._known.values() if run_id in commit.runs)}
        return [key for run in sorted(runs) for key in listed.get(run, ())]

    def finished_parts(self, run: OutputRun) -> list[str]:
        """Return the keys of a run's finished parts, one a chunk, in chunk order."""
        keys = sorted(item.key for item in self.store.list(f"{run.folder}/part-"))
        return list({key.removesuffix(".parquet").removesuffix(SECOND): key for key in keys}.values())

    def unfinished_runs(self, fingerprint: str) -> list[OutputRun]:
        """Return the runs of `fingerprint` whose finished parts no commit shows yet, oldest first."""
        commits = self.all_commits()
        done = {run_id for commit in commits for run_id in (*commit.runs, *commit.replaces)}
        runs = (run for run in self.runs(but=done) if run.fingerprint == fingerprint)
        return sorted(runs, key=lambda run: (run.sequence, run.run_id))

    def note_completed(self, run_id: str | None, refused_deletions: int = 0) -> None:
        """Write down that a run ended well just now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_json(COMPLETED, {"completed_at": now, "run_id": run_id, "refused_deletions": refused_deletions})

    def last_completed(self) -> Completed | None:
        """Return the last run that ended well; None where there is none, or its note is damaged."""
        with suppress(ObjectNotFoundError, ValueError):
            return from_json(Completed, self.store.read_bytes(COMPLETED))
        return None

    def unfinished_run(self) -> UnfinishedRun | None:
        """Return the run that was started last, and how far it is; None where a commit shows it."""
        last = max(self._records("started").values(), default=None)
        if last is None or last in self._records("commits").values():
            return None
        run, key = OutputRun(last[1], last[0], ""), f"runs/{last[1]}/plan.parquet"
        if not self.store.exists(key):
            return UnfinishedRun(run.run_id, None, 0)
        with named_if_damaged(self.store.uri(key)), self.store.open_input(key) as source:
            plan = pq.ParquetFile(source).metadata
        chunks = {int(chunk) for part in self.finished_parts(run) for chunk in re.findall(r"part-(\d+)", part)}
        done = sum(plan.row_group(chunk).num_rows for chunk in chunks if chunk < plan.num_row_groups)
        return UnfinishedRun(run.run_id, plan.num_rows, done)

    def _write_json(self, key: str, value: dict[str, Any]) -> None:
        self.store.write_atomic(key, json.dumps(value, indent=1, sort_keys=True).encode())
