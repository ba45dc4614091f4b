"""The journal of written tags: one JSON object a line, on the disk before the file is touched.

The first line says what was written by what; each further one holds what an undo of one file needs: its state before
and after, and the way back (`delta`). A line that a crash cut off belongs to a file that was not touched.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mgc.config.section import json_object, of_fields
from mgc.errors import SchemaError, StorageError

VERSION = 1

ANCHOR_BYTES = 32
REACH_BYTES = 1024**2
"""How far from where it is expected a span of the old bytes is looked for in the new ones."""

LITERAL_BYTES = 16 * 1024
"""More than this that the new bytes do not hold, and there is no delta."""

Into = Literal["file", "sidecar"]


@dataclass(frozen=True)
class JournalHeader:
    """What a journal is of: URIs of the catalogue and of the predictions."""

    catalogue: str
    predictions: str
    started_at: str


@dataclass(frozen=True)
class Entry:
    """One file that is about to be written.

    Parameters
    ----------
    uri
        The file, or the sidecar.
    content_before, content_after
        `content_id` of the track; equal for a sidecar.
    stat_before, stat_after
        Size and time of the file; empty for a sidecar.
    sha256_before, sha256_after
        Of the bytes; `sha256_before` is empty where there was no sidecar.
    before, after
        The fields that change, for people to read.
    delta
        The way back from the new bytes to the old ones.
    """

    track_id: str
    uri: str
    into: Into
    content_before: str
    content_after: str
    stat_before: str
    stat_after: str
    sha256_before: str
    sha256_after: str
    before: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)
    delta: list[list[int] | str] = field(default_factory=list)


@dataclass(frozen=True)
class Journal:
    """A journal that was read."""

    head: JournalHeader
    entries: list[Entry]


class JournalWriter:
    """Appends entries, each on the disk before `add` returns.

    Raises
    ------
    StorageError
        The file exists, or cannot be made.
    """

    def __init__(self, path: str, head: JournalHeader) -> None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(path).open("x", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise StorageError(
                f"cannot make the journal '{path}': {error.strerror}", "give another --journal"
            ) from error
        self._write({"mgc_tag_journal": VERSION, **asdict(head)})

    def add(self, entry: Entry) -> None:
        """Write one entry through to the disk."""
        self._write(asdict(entry))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_journal(path: str) -> Journal:
    """Return a journal.

    Raises
    ------
    StorageError
        There is no such file.
    SchemaError
        It is no journal of this version.
    """
    try:
        values = list(_values(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise StorageError(f"cannot read the journal '{path}': {error.strerror}", "check --undo") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"'{path}' is no journal of written tags", "check --undo") from error
    if not values or values[0].pop("mgc_tag_journal", None) != VERSION:
        raise SchemaError(f"'{path}' is no journal of written tags that this mgc reads", "check --undo")
    try:
        journal = Journal(of_fields(JournalHeader, values[0]), [of_fields(Entry, value) for value in values[1:]])
        for entry in journal.entries:
            delta_from_json(entry.delta)
    except (ValueError, TypeError) as error:
        raise SchemaError(f"the journal '{path}' is damaged: {str(error).splitlines()[0]}", "check --undo") from error
    return journal


def _values(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            yield json_object(line)
        except ValueError:
            return  # cut off by a crash, before its file was touched


@dataclass(frozen=True)
class Copy:
    """Bytes [start, start + length) of the new file."""

    start: int
    length: int


Step = Copy | bytes
Delta = list[Step]


def delta_back(old: bytes, new: bytes) -> Delta | None:
    """Return the steps that make `old` out of `new`; None where they would hold too many bytes of their own.

    What an undo needs, without a copy of the music: writing tags moves most of a file and changes little of it, so
    that the old bytes are spans of the new ones and a few bytes in between.
    """
    steps: Delta = []
    literal = bytearray()
    at, expected, own_bytes = 0, 0, 0
    while at < len(old):
        found = _find(old[at : at + ANCHOR_BYTES], new, expected)
        if found is None:
            literal += old[at : at + 1]
            at, expected, own_bytes = at + 1, expected + 1, own_bytes + 1
        else:
            length = _common_length(old, at, new, found)
            steps += [bytes(literal)] if literal else []
            steps.append(Copy(found, length))
            literal.clear()
            at, expected = at + length, found + length
        if own_bytes > LITERAL_BYTES:
            return None
    return steps + ([bytes(literal)] if literal else [])


def applied(new: bytes, delta: Delta) -> bytes:
    """Return the old bytes."""
    return b"".join(new[step.start : step.start + step.length] if isinstance(step, Copy) else step for step in delta)


def delta_to_json(delta: Delta) -> list[list[int] | str]:
    """Return a delta as JSON: `[start, length]` of a span, or base64 of bytes."""
    return [
        [step.start, step.length] if isinstance(step, Copy) else base64.b64encode(step).decode() for step in delta
    ]


def delta_from_json(value: list[list[int] | str]) -> Delta:
    """Return a delta from its JSON."""
    return [base64.b64decode(step, validate=True) if isinstance(step, str) else Copy(*step) for step in value]


def _find(anchor: bytes, new: bytes, expected: int) -> int | None:
    """Return where in `new` an anchor is: as expected, or else anywhere near."""
    if len(anchor) < ANCHOR_BYTES:
        # The end of the file: too short to look for, but it may go on as it did.
        return expected if anchor and new[expected : expected + len(anchor)] == anchor else None
    if new[expected : expected + ANCHOR_BYTES] == anchor:
        return expected
    if anchor == anchor[:1] * ANCHOR_BYTES:
        return None  # padding is everywhere
    found = new.find(anchor, max(0, expected - REACH_BYTES), expected + REACH_BYTES)
    return None if found < 0 else found


def _common_length(old: bytes, at: int, new: bytes, found: int) -> int:
    """Return how long `old` from `at` and `new` from `found` agree: doubling steps, then halving."""
    most = min(len(old) - at, len(new) - found)
    here, there = memoryview(old)[at:], memoryview(new)[found:]
    low, step = 0, 4_096
    while low < most:
        end = min(low + step, most)
        if here[low:end] == there[low:end]:
            low, step = end, step * 2
        elif end - low == 1:
            break
        else:
            step = (end - low) // 2
    return low
