"""A local file given new bytes in place: whole or not at all, its mode and owner kept."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mgc.errors import StorageError
from mgc.storage.objects import TEMPORARY_PREFIX, ChangedError


def stat_id(path: str) -> str:
    """Return what the catalogue calls a local file's content: its size and the time of its last change."""
    found = Path(path).stat()
    return f"{found.st_size}-{found.st_mtime_ns}"


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
        Told the `stat_id` that the file is about to have: the place to write a journal.

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
        _write_whole(temporary, data, target, modified_ns)
        made = stat_id(str(temporary))
        announce(made)
        if stat_id(path) != expected:
            raise ChangedError(f"'{path}' is {stat_id(path)} now, was {expected}", "let its writer finish first")
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write '{path}': {error.strerror or error}", "check the disk and the mode"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return made


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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
