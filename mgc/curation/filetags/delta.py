"""The way back from a file's new bytes to its old ones: what an undo needs, and no copy of the music.

Writing tags moves most of a file and changes little of it. The old bytes are told as spans of the new ones and a
few bytes in between.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

ANCHOR_BYTES = 32
REACH_BYTES = 1024**2
"""How far from where it is expected a span of the old bytes is looked for in the new ones."""

LITERAL_BYTES = 16 * 1024
"""More than this that the new bytes do not hold, and there is no delta."""


@dataclass(frozen=True)
class Copy:
    """Bytes [start, start + length) of the new file."""

    start: int
    length: int


Step = Copy | bytes
Delta = list[Step]


def delta_back(old: bytes, new: bytes) -> Delta | None:
    """Return the steps that make `old` out of `new`; None where they would hold too many bytes of their own."""
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
    return [base64.b64decode(step) if isinstance(step, str) else Copy(*step) for step in value]


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
