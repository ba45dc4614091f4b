"""Folders as a store: atomic writes, a listing in key order that holds no million of Python objects, and a file
replaced in place with its mode and owner kept.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat as stat_mode
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from mgc.errors import StorageError
from mgc.storage.objects import (
    TEMPORARY_PREFIX,
    AccessDeniedError,
    ArrowLocation,
    ChangedError,
    DiskFullError,
    FetchBounds,
    Glimpse,
    LongObject,
    ObjectInfo,
    ObjectNotFoundError,
    Unlisted,
    require_size,
    require_unchanged,
)

NAMES_AT_ONCE = 4_096

Excludes = Callable[[str], bool]
"""Whether a key is left out; those of folders end with a slash."""

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, or the user's quota of it, or the limit on a file's size is reached."""


def _nothing(key: str) -> bool:
    return False


@dataclass(frozen=True)
class LocalFiles:
    """The files under a folder, named by absolute path."""

    root: str

    def uri(self, key: str) -> str:
        """Return the absolute path of a key."""
        return os.path.join(self.root, key) if key else self.root  # noqa: PTH118 - keys are not normalised

    def read_bytes(self, key: str, start: int | None, end: int | None) -> bytes:
        """Return the bytes [start, end) of a file."""
        with _as_storage_error(self.uri(key), "read"), _open_regular(self.uri(key)) as source:
            source.seek(start or 0)
            return source.read() if end is None else source.read(max(end - (start or 0), 0))

    def read_checked(self, key: str, bounds: FetchBounds, expected_content_id: str | None) -> bytes | LongObject:
        """Return a file, or what it is if it is long, after checking its size and identity; see `Store.fetch`."""
        uri = self.uri(key)
        with _as_storage_error(uri, "read"), _open_regular(uri) as source:
            before = os.fstat(source.fileno())
            require_unchanged(_content_id(before), expected_content_id, uri)
            require_size(before.st_size, bounds.max_bytes, uri)
            if bounds.is_long(before.st_size):
                return LongObject(before.st_size, _content_id(before))
            data = source.read(before.st_size + 1)
            if len(data) != before.st_size:
                raise StorageError(f"'{uri}' changed while it was read", "let its writer finish first")
        return data

    def read_range(self, key: str, start: int, end: int, content_id: str) -> bytes:
        """Return the bytes [start, end) of a file that is still what it was."""
        uri = self.uri(key)
        with _as_storage_error(uri, "read"), _open_regular(uri) as source:
            require_unchanged(_content_id(os.fstat(source.fileno())), content_id, uri)
            return os.pread(source.fileno(), end - start, start)

    def glimpse(self, key: str, n_bytes: int) -> Glimpse:
        """Return the first bytes; folders know no content types."""
        return Glimpse(self.read_bytes(key, 0, n_bytes), None)

    def write_atomic(self, key: str, data: bytes | memoryview) -> None:
        """Write a file so that readers see the old one or the whole new one."""
        target = Path(self.uri(key))
        # Not tempfile: its files are 0600, and these keep that mode when they take the target's place.
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        with _as_storage_error(str(target), "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _require_writable(target)
            try:
                with temporary.open("xb") as sink:
                    sink.write(data)
                    sink.flush()
                    os.fsync(sink.fileno())
                temporary.replace(target)
                _sync(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known of a file."""
        with _as_storage_error(self.uri(key), "read"):
            found = Path(self.uri(key)).stat()
            if not stat_mode.S_ISREG(found.st_mode):
                raise ObjectNotFoundError(f"'{self.uri(key)}' is not a regular file")
            return _info(key, found)

    def delete(self, key: str) -> None:
        """Delete a file; a missing one is no error."""
        with _as_storage_error(self.uri(key), "delete"):
            Path(self.uri(key)).unlink(missing_ok=True)

    def delete_tree(self, key: str) -> None:
        """Delete a folder and all in it; a missing one is no error."""
        with _as_storage_error(self.uri(key), "delete"):
            if Path(self.uri(key)).is_dir():
                shutil.rmtree(self.uri(key))

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Yield temporary files."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(TEMPORARY_PREFIX):
                    key = Path(folder, name).relative_to(self.root).as_posix()
                    with suppress(ObjectNotFoundError):
                        yield self.stat(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the files whose key begins with `prefix`, in key order, as S3 would; see `walk`."""
        for item in self.walk(prefix):
            if isinstance(item, ObjectInfo):
                yield item
            elif item.error is not None and not isinstance(item.error, ObjectNotFoundError):
                raise item.error

    def walk(self, prefix: str, excludes: Excludes = _nothing) -> Iterator[ObjectInfo | Unlisted]:
        """Yield the files whose key begins with `prefix` in key order, and what is no file or cannot be read.

        A folder is listed once: under its own name, or, where only links lead to it, under the first of them. So
        folders that link to each other end.

        Parameters
        ----------
        excludes
            Called with the key of each folder, a slash at its end; true: it is not entered.

        Raises
        ------
        StorageError
            The folder to begin with cannot be listed.
        """
        folder, _, begins = prefix.rpartition("/")
        with _as_storage_error(self.uri(folder), "list"):
            if not Path(self.uri(folder)).is_dir():
                return
        folders = _Folders(self.root, excludes)
        waiting = [self._keys(f"{folder}/" if folder else "", begins)]
        while waiting:
            key = next(waiting[-1], None)
            if key is None:
                waiting.pop()
            elif not key.endswith("/"):
                yield self._entry(key)
            elif why := folders.passed_over(key):
                yield Unlisted(key, why)
            else:
                try:
                    waiting.append(self._keys(key))
                except StorageError as error:
                    yield Unlisted(key, _why(error), error)

    def _keys(self, folder: str, begins: str = "") -> Iterator[str]:
        """Return the keys in a folder, those of folders with a slash at their end; it is read before this returns."""
        with _as_storage_error(self.uri(folder), "list"):
            names = _sorted_names(self.uri(folder))
        return (folder + name for name in _each(names) if name.startswith(begins))

    def _entry(self, key: str) -> ObjectInfo | Unlisted:
        try:
            with _as_storage_error(self.uri(key), "read"):
                found = Path(self.uri(key)).stat()
        except StorageError as error:
            return Unlisted(key, _why(error), error)
        # Opening a named pipe called song.wav would wait for ever.
        return _info(key, found) if stat_mode.S_ISREG(found.st_mode) else Unlisted(key, "not a regular file")

    def open_input(self, key: str) -> io.IOBase:
        """Return a seekable binary file."""
        with _as_storage_error(self.uri(key), "read"):
            return _open_regular(self.uri(key))

    def arrow_location(self) -> ArrowLocation:
        """Return pyarrow's own local file system and the root in it."""
        return ArrowLocation(pafs.LocalFileSystem(), self.root)

    def object_store_options(self) -> dict[str, str]:
        """Return nothing: a folder needs only its path."""
        return {}

    def sync(self, key: str) -> None:
        """Bring a file and its name to the disk."""
        path = Path(self.uri(key))
        with _as_storage_error(str(path), "write"):
            _sync(path)
            _sync(path.parent)

    def check_readable(self) -> None:
        """Raise a `StorageError` unless the root is a folder that can be listed."""
        with _as_storage_error(self.root, "list"), os.scandir(self.root) as entries:
            next(entries, None)

    def check_writable(self) -> None:
        """Raise a `StorageError` unless files can be made in the root, or the root could be made."""
        place = Path(self.root)
        with _as_storage_error(self.root, "write"):
            while not place.exists() and place != place.parent:
                place = place.parent
            probe = place / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
            probe.touch(exist_ok=False)
            probe.unlink()


@dataclass
class _Folders:
    """Which folders are entered: those that are not excluded, each once."""

    root: str
    excludes: Excludes
    linked: dict[str, str] = field(default_factory=dict)
    """Folders that were reached by a link: key → real path."""

    def __post_init__(self) -> None:
        self._real_root = os.path.realpath(self.root)
        self._entered: set[str] = set()

    def passed_over(self, key: str) -> str:
        """Return why a folder is not entered, "" where it is."""
        if self.excludes(key):
            return "excluded"
        real = self._real_if_linked(key)
        if real is None:
            return ""
        if real in self._entered or self._has_own_name(real):
            return "link to a folder that is listed already"
        self._entered.add(real)
        self.linked[key] = real
        return ""

    def _real_if_linked(self, key: str) -> str | None:
        """Return the real path of a folder that is a link, or was reached by one; None of any other."""
        above, _, name = key[:-1].rpartition("/")
        path = os.path.join(self.root, key[:-1])  # noqa: PTH118 - keys are not normalised
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        around = self.linked.get(f"{above}/")
        return None if around is None else f"{around}/{name}"

    def _has_own_name(self, real: str) -> bool:
        """Return whether a folder is listed under the root without any link."""
        if real == self._real_root:
            return True
        inside = real.removeprefix(f"{self._real_root.rstrip('/')}/")
        parts = inside.split("/")
        above = ("/".join(parts[:end]) + "/" for end in range(1, len(parts) + 1))
        return inside != real and not any(map(self.excludes, above))


def _why(error: StorageError) -> str:
    if isinstance(error, ObjectNotFoundError):
        return "not there"
    return "no permission" if isinstance(error, AccessDeniedError) else "unreadable"


def _open_regular(path: str) -> io.BufferedReader:
    if not stat_mode.S_ISREG(Path(path).stat().st_mode):
        raise StorageError(f"'{path}' is not a regular file", "give a file, not a folder or a device")
    return Path(path).open("rb")


def _content_id(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, _content_id(found), found.st_mtime)


def _sorted_names(folder: str) -> pa.ChunkedArray:
    """Return a folder's names in key order, folders with a trailing slash: a column, no Python objects."""
    chunks = []
    with os.scandir(folder) as entries:
        shown = (entry for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX))
        # File names are bytes; what is no UTF-8 must survive the way through Arrow.
        names = (os.fsencode(entry.name) + (b"/" if _is_folder(entry) else b"") for entry in shown)
        while chunk := list(islice(names, NAMES_AT_ONCE)):
            chunks.append(pa.array(chunk, pa.large_binary()))
    return pa.chunked_array(chunks, pa.large_binary()).sort()


def _each(names: pa.ChunkedArray) -> Iterator[str]:
    for start in range(0, len(names), NAMES_AT_ONCE):
        for name in names.slice(start, NAMES_AT_ONCE).to_pylist():
            yield os.fsdecode(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere we may go
        return False


@contextmanager
def _as_storage_error(path: str, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _storage_error(error, path, action) from error
    except ValueError as error:  # of a name that no file can have
        raise StorageError(f"cannot {action} '{path}': {error}", "check the path") from error


def _storage_error(error: OSError, path: str, action: str) -> StorageError:
    if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
        if os.path.islink(path):  # noqa: PTH114
            return ObjectNotFoundError(
                f"'{path}' is a link that leads nowhere", "fetch what it leads to, or remove it"
            )
        return ObjectNotFoundError(f"'{path}' does not exist", "check the path")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return AccessDeniedError(f"no permission to {action} '{path}' ({error.strerror})", "check its owner and mode")
    if error.errno in DISK_FULL_ERRNOS:
        return DiskFullError(
            f"no room to write '{path}': {error.strerror}",
            "free some space, or raise the quota, and start again: what was finished is resumed",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageError(f"'{path}' needs a folder where a file is in the way", "give a folder")
    return StorageError(f"cannot {action} '{path}': {error.strerror or error}", "check the disk and the path")


def stat_id(path: str) -> str:
    """Return what the catalogue calls a local file's content: its size and the time of its last change."""
    return _content_id(Path(path).stat())


def replace_file(
    path: str,
    data: bytes,
    expected: str,
    *,
    modified_ns: int | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> str:
    """Replace a file's bytes by one rename, after the new ones are on the disk; return its new `stat_id`.

    A link stays a link: what it leads to is replaced. Mode, extended attributes and, where allowed, the owner are
    those of the old file. Another hard link to it keeps the old bytes.

    Parameters
    ----------
    expected
        `stat_id` that the file must still have.
    modified_ns
        Time of last change to give it; None: now.
    announce
        Called with the `stat_id` that the file is about to have: the place to write a journal.

    Raises
    ------
    ChangedError
        The file is no longer the expected one.
    StorageError
        It cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        _require_writable(target)
        _write_whole(temporary, data, target, modified_ns)
        made = stat_id(str(temporary))
        announce(made)
        if stat_id(path) != expected:
            raise ChangedError(f"'{path}' is {stat_id(path)} now, was {expected}", "let its writer finish first")
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write '{path}': {error.strerror or error}", "check the disk and the mode"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return made


def _require_writable(target: Path) -> None:
    """Raise a `PermissionError` where a file is read-only: a rename needs no permission to write it."""
    with suppress(FileNotFoundError):
        # Root may write anything, and a file without any write permission is meant to stay as it is.
        if not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "it is read-only")


def _write_whole(temporary: Path, data: bytes, like: Path, modified_ns: int | None) -> None:
    with temporary.open("xb") as sink:
        sink.write(data)
        sink.flush()
        old = like.stat()
        with suppress(PermissionError):  # only root may give files away
            os.fchown(sink.fileno(), old.st_uid, old.st_gid)
        now_ns = os.fstat(sink.fileno()).st_mtime_ns
        shutil.copystat(like, temporary)
        os.utime(temporary, ns=(old.st_atime_ns, now_ns if modified_ns is None else modified_ns))
        os.fsync(sink.fileno())


def _sync(path: Path) -> None:
    """Bring a file's bytes, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
