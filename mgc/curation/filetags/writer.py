"""Tags into files and back out: each file whole or not at all, each change in the journal before it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mgc.curation.filetags.journal import (
    Entry,
    Journal,
    JournalWriter,
    applied,
    delta_back,
    delta_from_json,
    delta_to_json,
)
from mgc.curation.filetags.tag_child import SupervisedTagEditor
from mgc.curation.filetags.tag_fields import read_sidecar, sidecar_of
from mgc.curation.filetags.tag_formats import UntaggableError, Values
from mgc.curation.filetags.write_plan import Skips, TagChange
from mgc.errors import SchemaError, StorageError, TrackError
from mgc.storage.local_files import replace_file, stat_id
from mgc.storage.objects import HASH_MARK, ChangedError
from mgc.storage.store import Store, split_uri


@dataclass
class Written:
    """What was written, or put back.

    Parameters
    ----------
    files, sidecars
        How many.
    content_ids, sizes
        Track id → content id and bytes of each file that is another one now.
    skips
        What was left alone.
    """

    files: int = 0
    sidecars: int = 0
    content_ids: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    skips: Skips = field(default_factory=Skips)


def write_changes(
    changes: Iterable[TagChange], journal: JournalWriter, max_bytes: int, editor: SupervisedTagEditor
) -> Written:
    """Write planned changes; a file that is no longer what was tagged, or would lose something, is left alone.

    Parameters
    ----------
    max_bytes
        Longer files are left alone: one is held in memory at a time.
    editor
        Changes the files' bytes.
    """
    written = Written()
    for change in changes:
        try:
            if change.into == "sidecar":
                _write_sidecar(change, journal, written)
            else:
                _write_file(change, journal, written, max_bytes, editor)
        except UntaggableError as error:
            written.skips.add(str(error), change.uri)
        except (ChangedError, TrackError) as error:
            written.skips.add("changed since it was tagged, or unreadable", f"{change.uri}: {error.message}")
        except StorageError as error:
            written.skips.add("could not be written", f"{change.uri}: {error.message}")
    return written


def undo(journal: Journal, max_bytes: int) -> Written:
    """Put back what a journal's files were, byte for byte, the newest first; files changed since are left alone."""
    written = Written()
    for entry in reversed(journal.entries):
        try:
            reason = (
                _undo_sidecar(entry, written) if entry.into == "sidecar" else _undo_file(entry, written, max_bytes)
            )
        except (StorageError, TrackError) as error:
            reason = error.message
        if reason:
            written.skips.add(reason, entry.uri)
    return written


def _write_file(
    change: TagChange, journal: JournalWriter, written: Written, max_bytes: int, editor: SupervisedTagEditor
) -> None:
    root, key = split_uri(change.uri)
    store, path = Store(root), Store.open(change.uri).root  # the URI may be a file:// one
    stat_before = stat_id(path)
    old = _whole(store, key, max_bytes, change.content_id)
    new = editor.with_fields(old, PurePosixPath(key).name, change.after)
    delta = delta_back(old, new)
    if delta is None or applied(new, delta) != old:
        raise UntaggableError("its change could not be undone from the journal")
    hashed = change.content_id.startswith(HASH_MARK)

    def announce(stat_after: str) -> None:
        content_after = _hash_id(new) if hashed else stat_after
        journal.add(
            Entry(
                track_id=change.track_id,
                uri=change.uri,
                into="file",
                content_before=change.content_id,
                content_after=content_after,
                stat_before=stat_before,
                stat_after=stat_after,
                sha256_before=_sha256(old),
                sha256_after=_sha256(new),
                before=_lists(change.before),
                after=_lists(change.after),
                delta=delta_to_json(delta),
            )
        )

    made = replace_file(path, new, stat_before, announce=announce)
    written.files += 1
    written.content_ids[change.track_id] = _hash_id(new) if hashed else made
    written.sizes[change.track_id] = len(new)


def _write_sidecar(change: TagChange, journal: JournalWriter, written: Written) -> None:
    root, key = split_uri(change.target)
    store = Store(root)
    old = store.read_bytes(key) if store.exists(key) else None
    if old is not None:
        read_sidecar(old, change.target)
    new = sidecar_of(change.predicted, change.track_id, change.content_id)
    journal.add(
        Entry(
            track_id=change.track_id,
            uri=change.target,
            into="sidecar",
            content_before=change.content_id,
            content_after=change.content_id,
            stat_before="",
            stat_after="",
            sha256_before=_sha256(old) if old is not None else "",
            sha256_after=_sha256(new),
            before=_lists(change.before),
            after=_lists(change.after),
            delta=delta_to_json([old or b""]),
        )
    )
    store.write_atomic(key, new)
    written.sidecars += 1


def _undo_file(entry: Entry, written: Written, max_bytes: int) -> str:
    """Put one file back; return why not, or nothing."""
    root, key = split_uri(entry.uri)
    found = _whole(Store(root), key, max_bytes)
    if _sha256(found) == entry.sha256_before:
        return "is what it was before already"
    if _sha256(found) != entry.sha256_after:
        return "changed since its tags were written"
    old = applied(found, delta_from_json(entry.delta))
    if _sha256(old) != entry.sha256_before:
        raise SchemaError(f"the journal does not lead back to what '{entry.uri}' was", "restore it from a backup")
    size, _, modified = entry.stat_before.partition("-")
    path = Store.open(entry.uri).root
    made = replace_file(path, old, stat_id(path), modified_ns=int(modified))
    written.files += 1
    written.content_ids[entry.track_id] = entry.content_before if made == entry.stat_before else made
    written.sizes[entry.track_id] = int(size)
    return ""


def _undo_sidecar(entry: Entry, written: Written) -> str:
    root, key = split_uri(entry.uri)
    store = Store(root)
    found = store.read_bytes(key) if store.exists(key) else None
    if (_sha256(found) if found is not None else "") == entry.sha256_before:
        return "is what it was before already"
    if found is None or _sha256(found) != entry.sha256_after:
        return "changed since it was written"
    if entry.sha256_before:
        store.write_atomic(key, applied(found, delta_from_json(entry.delta)))
    else:
        store.delete(key)
    written.sidecars += 1
    return ""


def _whole(store: Store, key: str, max_bytes: int, expected: str | None = None) -> bytes:
    data = store.fetch(key, max_bytes, expected)
    if not isinstance(data, bytes):
        raise TypeError("without `whole_bytes`, files come whole")
    return data


def _hash_id(data: bytes) -> str:
    return HASH_MARK + hashlib.blake2b(data, digest_size=16).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _lists(fields: dict[str, Values]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in fields.items()}
