"""Parquet and Arrow tables a bounded number of bytes at a time, and as polars frames."""

from __future__ import annotations

import ctypes
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.schema import completed
from mgc.tables.slices import Span

T = TypeVar("T")
R = TypeVar("R")

BATCH_BYTES = 64 * 1024**2
"""Of a table put together, in memory."""

ROWS_A_GROUP = 8_192
"""Of a Parquet row group: small enough that a track is found by the statistics without reading many others."""

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""

READERS = 4
"""Files that are read at once; so many tables are held."""


def in_batches(tables: Iterable[pa.Table], max_bytes: int = BATCH_BYTES) -> Iterator[pa.Table]:
    """Yield the rows of `tables` in tables of about `max_bytes`; empty ones are left out."""
    held: list[pa.Table] = []
    for table in tables:
        if table.num_rows:
            held.append(table)
        if sum(each.nbytes for each in held) >= max_bytes:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def prefetched(read: Callable[[T], R], wanted: Iterable[T], readers: int = READERS) -> Iterator[R]:
    """Yield `read(each)` in order, some of them begun ahead: a store far away answers late."""
    with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:
        remaining = iter(wanted)
        reads = deque(pool.submit(read, each) for each in islice(remaining, readers))
        while reads:
            yield reads.popleft().result()
            reads.extend(pool.submit(read, each) for each in islice(remaining, 1))


@contextmanager
def named_if_damaged(uri: str) -> Iterator[None]:
    """Turn what Arrow or polars says of a file that it cannot read into an error that names the file.

    Raises
    ------
    SchemaError
        The block raised one of their errors, an `OSError`, or the file lacks a column.
    """
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, KeyError) as error:
        raise SchemaError(
            f"'{uri}' cannot be read: {_first_line(error)}",
            "run again; if it stays so the file is damaged: restore it, or make the directory anew",
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_whole(store: Store, keys: Iterable[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield Parquet files in order."""

    def read(key: str) -> pa.Table:
        with named_if_damaged(store.uri(key)), store.open_input(key) as source:
            return completed(pq.ParquetFile(source).read(columns=schema.names), schema).cast(schema)

    return prefetched(read, keys)


def group_bounds(file: pq.ParquetFile) -> Iterator[tuple[str, str] | None]:
    """Yield the least and the greatest track id of each row group; None where the file does not say."""
    column = file.schema_arrow.get_field_index("track_id")
    for number in range(file.num_row_groups):
        bounds = file.metadata.row_group(number).column(column).statistics
        yield (bounds.min, bounds.max) if bounds is not None and bounds.has_min_max else None


def groups_between(file: pq.ParquetFile, first: str, last: str) -> Iterator[int]:
    """Yield the row groups that may hold track ids from the first to the last."""
    for number, bounds in enumerate(group_bounds(file)):
        if bounds is None or (bounds[0] <= last and bounds[1] >= first):
            yield number


def rows_within(file: pq.ParquetFile, span: Span, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return a file's rows of a span of track ids; no more than one row group is in memory as Arrow."""
    groups = [number for number, bounds in enumerate(group_bounds(file)) if bounds is None or span.meets(*bounds)]
    names = None if columns is None else list(columns)
    empty = frame_of(file.schema_arrow.empty_table().select(names or file.schema_arrow.names))
    return pl.concat([empty, *(span.of(frame_of(file.read_row_group(one, columns=names))) for one in groups)])


def parquet_bytes(table: pa.Table, rows_a_group: int | None = ROWS_A_GROUP) -> bytes:
    """Return a table as a Parquet file, for readers of all kinds; groups of None have a million rows."""
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, compression="zstd", row_group_size=rows_a_group, use_dictionary=text_columns(table.schema)
    )
    return buffer.getvalue()


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of text by their names in Parquet: a dictionary of floats makes them half as long again."""
    paths = []
    for one in schema:
        text = one.type
        if pa.types.is_map(text):
            text, end = text.key_type, ".key_value.key"
        elif pa.types.is_list(text):
            text, end = text.value_type, ".list.element"
        else:
            end = ""
        paths += [one.name + end] if pa.types.is_string(text) else []
    return paths


def give_back_memory() -> None:
    """Give freed memory back to the system: Arrow and glibc keep it, and each slice would take some more.

    glibc keeps a heap for each of several threads, and gives none back of which a little is in use: from the first
    call on it makes no further ones.
    """
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 1)
        libc.malloc_trim(0)


def frame_of(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a polars frame."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("an Arrow table gives a frame")
    return frame
