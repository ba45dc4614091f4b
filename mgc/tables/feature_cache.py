"""Log-mels and statistics on this node's own disk: shards are read once, and all who train or evaluate map them.

    <cache>/features-<shards>/lock             held by the one process that writes
    <cache>/features-<shards>/<name>.values    arrays back to back, as in shards: float16, of statistics float32
    <cache>/features-<shards>/<name>.arrow     which row each is; written last: without it the values do not count

Parts of shards never change, so a row is named by its item and its part, whichever split or fold it is in. Pages that
are mapped belong to the kernel, which shares them among processes and takes them back where memory is short.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import polars as pl
import pyarrow as pa

from mgc.arrays import BoolArray, Float32Array, FloatingArray, IntArray
from mgc.config.settings import cache_folder
from mgc.config.view_settings import CLEAN
from mgc.errors import SchemaError, StorageError
from mgc.storage.local_files import DISK_FULL_ERRNOS
from mgc.storage.objects import DiskFullError
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of, named_if_damaged
from mgc.tables.run_index import ITEM, by_part, current_rows
from mgc.tables.run_log import OutputDirectory

SHAPE = ["n_windows", "n_frames", "n_mels"]
KEY = [*ITEM, "part"]
FILE_BYTES, FILE_ROWS = 1024**3, 10_000
"""Of a file of values, about: a fill that is killed loses no more."""
SPARE_BYTES = 64 * 1024**2
"""Of the disk, left to others."""
UNUSED_SECONDS = 24 * 3600.0
"""What nobody opened for so long is of a run that was killed."""
TRIES = 3
NOWHERE = -1


@dataclass(frozen=True)
class _Format:
    """How a kind of table holds its arrays.

    Parameters
    ----------
    shape, column
        Columns of an array's shape, and the one of its values.
    type, bits, exponent
        Of the values; of their bits as whole numbers; those of these that are all set in what is not finite, which
        is found by them in a seventh of the time of `numpy.isfinite`.
    """

    shape: list[str]
    column: str
    type: str
    bits: str
    exponent: int

    def shape_of(self, row: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return an array's shape; the statistics of a window are one frame."""
        windows, *rest = (int(row[name]) for name in self.shape)
        frames, mels = rest if len(rest) == 2 else (1, *rest)
        return windows, frames, mels


FORMATS = {
    "features": _Format(SHAPE, "log_mel", "<f2", "<u2", 0x7C00),
    "statistics": _Format(["n_windows", "n_statistics"], "values", "<f4", "<u4", 0x7F800000),
}

_ENTRY = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in KEY),
        *(pa.field(name, pa.int64(), nullable=False) for name in SHAPE),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("finite", pa.bool_(), nullable=False),
    ]
)


class LogMels(Sequence[FloatingArray]):
    """Arrays of shape (n_windows, n_frames, n_mels), each made when it is asked for: never all are in memory.

    Parameters
    ----------
    read
        Returns the array of a number.
    numbers
        Of the arrays, in their order.
    """

    def __init__(self, read: Callable[[int], FloatingArray], numbers: IntArray) -> None:
        self._read = read
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> FloatingArray: ...
    @overload
    def __getitem__(self, at: slice | IntArray) -> LogMels: ...
    def __getitem__(self, at: int | slice | IntArray) -> FloatingArray | LogMels:
        """Return the array at a place, or a sequence of those at some places."""
        if isinstance(at, slice | np.ndarray):
            return LogMels(self._read, self._numbers[at])
        return self._read(int(self._numbers[at]))


@dataclass(frozen=True)
class MappedRows:
    """The log-mels of rows, and whether all values of each are finite."""

    log_mels: LogMels
    finite: BoolArray


def map_log_mels(output: OutputDirectory, rows: pl.DataFrame) -> MappedRows:
    """Return the log-mels (or statistics) of rows of the index, none of them failed; what is lacking is read first.

    Of processes that come at once, one reads and the others wait.

    Raises
    ------
    DiskFullError, StorageError
        The disk of the cache has no room, or cannot be written.
    SchemaError
        A part is damaged, or lacks a row.
    """
    folder = _folder_of(output.store.uri())
    wanted = rows.select(KEY)
    for tried in range(TRIES):
        try:
            with _disk_errors(folder):
                _make(folder)
                found = _located(folder, wanted)
                if found.lacking.height:
                    with _locked(folder):
                        _fill(folder, output, _located(folder, wanted).lacking)
                    found = _located(folder, wanted)
                return found.mapped(FORMATS[output.kind].type)
        except FileNotFoundError:  # a run that ended cleared the folder in between
            if tried == TRIES - 1:
                raise
    raise AssertionError


def clear_feature_cache(features_uri: str) -> None:
    """Delete what this node holds of shards: who has it mapped keeps it, who wants it later reads it again."""
    shutil.rmtree(_folder_of(Store.open(features_uri).uri()), ignore_errors=True)


def mapped_table(store: Store, key: str) -> pa.Table:
    """Return an Arrow file of a store from this node's disk, where it has no name and goes with its last reader."""
    root = _root()
    with _disk_errors(root), tempfile.TemporaryFile(dir=root) as file, store.open_input(key) as source:
        shutil.copyfileobj(source, file)
        file.flush()
        with named_if_damaged(store.uri(key)):
            return pa.ipc.open_file(pa.py_buffer(_map(file.fileno()))).read_all()


def spilled(parts: Iterable[Float32Array], shape: tuple[int, ...]) -> Float32Array:
    """Return float32 arrays one after the other, of shape (n, *shape), from a file that goes with its last reader.

    Raises
    ------
    StorageError
        The disk of the cache is full, or cannot be written.
    """
    root = _root()
    with _disk_errors(root), tempfile.TemporaryFile(dir=root) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=np.float32).data)
        file.flush()
        return np.frombuffer(_map(file.fileno()), np.float32).reshape(-1, *shape)


@dataclass(frozen=True)
class _Places:
    """Where arrays lie: file, first byte and shape of each."""

    maps: list[mmap.mmap | bytes]
    file: IntArray
    offset: IntArray
    shape: IntArray
    type: str

    def array(self, number: int) -> FloatingArray:
        shape = self.shape[number]
        count, offset = int(shape.prod()), int(self.offset[number])
        return np.frombuffer(self.maps[self.file[number]], self.type, count, offset).reshape(shape)


@dataclass(frozen=True)
class _Located:
    """Where the rows wanted lie, in their order, and those that lie nowhere."""

    files: list[Path]
    file: IntArray
    places: IntArray
    finite: BoolArray
    lacking: pl.DataFrame

    def mapped(self, kind: str) -> MappedRows:
        if self.lacking.height:
            raise FileNotFoundError
        maps = [_open(path) for path in self.files]
        places = _Places(maps, self.file, self.places[:, 0], self.places[:, 1:], kind)
        return MappedRows(LogMels(places.array, np.arange(len(self.file))), self.finite)


def _located(folder: Path, wanted: pl.DataFrame) -> _Located:
    """Look for the rows wanted file by file, among those of its parts: a join of all takes as much as they do."""
    rows = wanted.with_row_index("row").sort("part")
    files: list[Path] = []
    file = np.full(wanted.height, NOWHERE, np.int16)
    places = np.zeros((wanted.height, 1 + len(SHAPE)), np.int64)
    finite = np.zeros(wanted.height, bool)
    for path in sorted(folder.glob("*.arrow")):
        table = _entries_of(path)
        if table is None or not table.num_rows:
            continue
        entries = frame_of(table)
        parts = entries["part"].unique().sort()
        first, last = rows["part"].search_sorted(parts[0], "left"), rows["part"].search_sorted(parts[-1], "right")
        found = rows.slice(first, last - first).join(entries, on=KEY)
        if found.height:
            at = found["row"].to_numpy()
            file[at], places[at] = len(files), found.select("offset", *SHAPE).to_numpy()
            finite[at] = found["finite"].to_numpy()
            files.append(path.with_suffix(".values"))
    return _Located(files, file, places, finite, wanted.filter(file == NOWHERE))


def _open(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        return _map(file.fileno())


def _map(descriptor: int) -> mmap.mmap | bytes:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if os.fstat(descriptor).st_size else b""


# Folders and files.


def _root() -> Path:
    """Return `$XDG_CACHE_HOME/mgc` or `~/.cache/mgc`; where neither can be written, a folder in TMPDIR."""
    with contextlib.suppress(OSError, RuntimeError):
        root = cache_folder()
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    root = Path(tempfile.gettempdir()) / f"mgc-{os.getuid()}"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if root.stat().st_uid != os.getuid():
        raise StorageError(f"'{root}' is another user's", "set XDG_CACHE_HOME to a folder that may be written")
    return root


def _folder_of(features_uri: str) -> Path:
    digest = hashlib.blake2b(features_uri.encode(), digest_size=12).hexdigest()
    return _root() / f"features-{digest}"


def _make(folder: Path) -> None:
    """Make the folder, or note that it is in use; beside a new one delete those that are not."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    for other in folder.parent.glob("features-*") if new else ():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - other.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process at the latest."""
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = DiskFullError if error.errno in DISK_FULL_ERRNOS else StorageError
        raise _disk_error(kind, folder, error.strerror or str(error)) from error


def _disk_error(kind: type[StorageError], folder: Path, reason: str) -> StorageError:
    return kind(
        f"features cannot be kept in '{folder}' while they are worked with: {reason}",
        "free space there, or set XDG_CACHE_HOME on every node to a folder on a larger disk",
    )


def _entries_of(path: Path) -> pa.Table | None:
    """Return the entries of a file of values; None where either of the two is damaged."""
    with contextlib.suppress(pa.ArrowException, OSError), pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        length = path.with_suffix(".values").stat().st_size
        if table.schema.equals(_ENTRY) and table.schema.metadata == {b"bytes": str(length).encode()}:
            return table
    return None


# Filling.


class _Row(NamedTuple):
    """A row of a shard: `KEY`, its shape, its values as they lie there, and whether all are finite."""

    key: tuple[str, str, str]
    shape: tuple[int, int, int]
    values: memoryview
    finite: bool


def _fill(folder: Path, output: OutputDirectory, rows: pl.DataFrame) -> None:
    """Write the log-mels of rows that the folder lacks, by the one process that holds its lock."""
    for path in folder.iterdir():
        entries = path.with_suffix(".arrow")
        if path.name != "lock" and (path.suffix == ".tmp" or _entries_of(entries) is None):
            path.unlink()
    found = _rows_of(folder, output, rows)
    for row in found:
        _write(folder, chain([row], found))
    pa.default_memory_pool().release_unused()


def _rows_of(folder: Path, output: OutputDirectory, rows: pl.DataFrame) -> Iterator[_Row]:
    done, size = 0, 0
    held = FORMATS[output.kind]
    tables = current_rows(output, rows, (*held.shape, held.column), readers=2)
    for wanted, table in zip(by_part(rows), tables, strict=True):
        part = wanted["part"][0]
        if table.num_rows != wanted.height:
            raise SchemaError(
                f"'{output.store.uri(part)}' holds {table.num_rows} of {wanted.height} rows that its index names",
                "extract anew: the shards were changed after they were written",
            )
        for row in _rows_in(table, part, held):
            size += row.values.nbytes
            yield row
        done += table.num_rows
        needed = size * (rows.height - done) // done
        free = shutil.disk_usage(folder).free - SPARE_BYTES
        if needed > free:
            reason = f"{needed / 1e9:.2g} GB more are needed, {max(free, 0) / 1e9:.2g} GB are free"
            raise _disk_error(DiskFullError, folder, reason)


def _rows_in(table: pa.Table, part: str, held: _Format) -> Iterator[_Row]:
    names = [name for name in (*ITEM, *held.shape) if name in table.column_names]
    for facts, values in zip(table.select(names).to_pylist(), table[held.column], strict=True):
        shape, data = held.shape_of(facts), memoryview(values.as_buffer() or b"")
        n_values, odd = divmod(data.nbytes, np.dtype(held.type).itemsize)
        if odd or n_values != np.prod(shape):
            raise SchemaError(
                f"the features of track '{facts['track_id']}' hold {n_values} values, which are no {shape}",
                "extract it anew: the shards were changed after they were written",
            )
        exponents = np.frombuffer(data, held.bits) & held.exponent
        finite = not (exponents == held.exponent).any()
        yield _Row((facts["track_id"], facts.get("view", CLEAN), part), shape, data, finite)


def _write(folder: Path, rows: Iterator[_Row]) -> None:
    """Write a file of values and its entries, whole or not at all, from as many of the rows as fill it."""
    name, offset, entries = uuid.uuid4().hex, 0, []
    unfinished = folder / f"{name}.tmp"
    try:
        with unfinished.open("wb") as file:
            for row in rows:
                file.write(row.values)
                entries.append((*row.key, *row.shape, offset, row.finite))
                offset += row.values.nbytes
                if offset >= FILE_BYTES or len(entries) >= FILE_ROWS:
                    break
        unfinished.rename(folder / f"{name}.values")
        columns = [pa.array(column, of.type) for column, of in zip(zip(*entries, strict=True), _ENTRY, strict=True)]
        schema = _ENTRY.with_metadata({"bytes": str(offset)})
        with pa.ipc.new_file(str(unfinished), schema) as sink:
            sink.write_table(pa.table(columns, schema=schema))
        unfinished.rename(folder / f"{name}.arrow")
    finally:
        unfinished.unlink(missing_ok=True)
