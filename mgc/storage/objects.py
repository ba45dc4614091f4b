"""What a store holds, what can go wrong with it, and the protocol of its backends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow.fs as pafs

from mgc.errors import StorageError

TEMPORARY_PREFIX = ".mgc-tmp-"
"""Names of files that are being written, or were when a run was killed; no listing shows them."""

HASH_MARK = "blake2b:"
"""Begins a `content_id` that is a hash of the bytes rather than the store's own mark."""


UNREACHABLE = "unreachable"
"""In place of a `content_id`: the file was listed, and could not be looked at (a link that leads nowhere)."""


class ObjectNotFoundError(StorageError):
    """There is no such object, file, bucket or folder."""

    code = "MGC202"


class AccessDeniedError(StorageError):
    """The store refused: wrong or missing credentials, or no permission."""

    code = "MGC203"


class DiskFullError(StorageError):
    """There is no space for what was to be written; nothing of it is there."""

    code = "MGC204"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a store.

    Parameters
    ----------
    key
        Name relative to the store's root, with forward slashes.
    size_bytes
        Length.
    content_id
        Changes when the content does: the ETag on S3, `<size>-<mtime in ns>` for a local file.
    modified
        Seconds since the epoch.
    """

    key: str
    size_bytes: int
    content_id: str
    modified: float


@dataclass(frozen=True, slots=True)
class Unlisted:
    """An entry of a folder that is no file to list.

    Parameters
    ----------
    key
        As of an object; with a slash at its end it is a folder, and stands for all in it.
    why
        In a few words.
    error
        Where it should be there and cannot be read; None where it is left out on purpose.
    """

    key: str
    why: str
    error: StorageError | None = None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The first bytes of an object and, where the store knows one, its content type."""

    head: bytes
    content_type: str | None


@dataclass(frozen=True, slots=True)
class LongObject:
    """An object that is too long to be held; its ranges are read while it stays what it is.

    Parameters
    ----------
    size_bytes
        Length.
    content_id
        What it is now, by the store's own mark.
    """

    size_bytes: int
    content_id: str


@dataclass(frozen=True)
class ArrowLocation:
    """A root as pyarrow and Ray Train name it: a file system and a path within it."""

    filesystem: pafs.FileSystem
    path: str


@dataclass(frozen=True, slots=True)
class FetchBounds:
    """What of an object is read at once.

    Parameters
    ----------
    max_bytes
        Longer objects are refused.
    whole_bytes
        Longer objects are not read but described (`LongObject`); None reads all.
    size_bytes
        How many an object of the expected content has; None: not known.
    """

    max_bytes: int
    whole_bytes: int | None = None
    size_bytes: int | None = None

    def is_long(self, size_bytes: int) -> bool:
        """Return whether an object is to be read by ranges."""
        return self.whole_bytes is not None and size_bytes > self.whole_bytes


class TooLargeError(StorageError):
    """An object is longer than the reader allows; nothing of it was read."""


class ArchivedError(StorageError):
    """An object is in an archive (S3 Glacier, Deep Archive) and must be restored before it can be read."""


class ChangedError(StorageError):
    """An object is not the one that was indexed; nothing of it was read."""


class DamagedBodyError(StorageError):
    """What came is not the object: too short, too slow, or of another checksum; tried again before it is raised."""


class StoreBackend(Protocol):
    """One kind of store. Keys are relative to the root; every failure is a `StorageError`."""

    def uri(self, key: str) -> str: ...
    def read_bytes(self, key: str, start: int | None, end: int | None) -> bytes: ...
    def read_checked(self, key: str, bounds: FetchBounds, expected_content_id: str | None) -> bytes | LongObject: ...
    def read_range(self, key: str, start: int, end: int, content_id: str) -> bytes: ...
    def glimpse(self, key: str, n_bytes: int) -> Glimpse: ...
    def write_atomic(self, key: str, data: bytes | memoryview) -> None: ...
    def stat(self, key: str) -> ObjectInfo: ...
    def delete(self, key: str) -> None: ...
    def delete_tree(self, key: str) -> None: ...
    def list(self, prefix: str) -> Iterator[ObjectInfo]: ...
    def leftovers(self) -> Iterator[ObjectInfo]: ...
    def open_input(self, key: str) -> io.IOBase: ...
    def arrow_location(self) -> ArrowLocation: ...
    def object_store_options(self) -> dict[str, str]: ...
    def sync(self, key: str) -> None: ...
    def check_readable(self) -> None: ...
    def check_writable(self) -> None: ...


def require_size(size_bytes: int, max_bytes: int, uri: str) -> None:
    """Raise `TooLargeError` where an object is longer than `max_bytes`."""
    if size_bytes > max_bytes:
        raise TooLargeError(f"'{uri}' has {size_bytes:,} bytes, {max_bytes:,} are allowed")


def require_unchanged(found: str, expected: str | None, uri: str) -> None:
    """Raise `ChangedError` where a content id is not the expected one; None and hashes expect nothing here."""
    if expected is not None and not expected.startswith(HASH_MARK) and found != expected:
        raise ChangedError(f"'{uri}' is {found} now, was {expected} when it was indexed")
