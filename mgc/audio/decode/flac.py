"""FLAC: its frames are numbered, which shows how long a file is, and where another one begins in it.

Source: RFC 9639, sections 8.2 and 9.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from mgc.audio.decode.joined import PROBES, before_tags, find_all, parts_at, rises
from mgc.audio.decode.source import Content, HeldContent, spliced, with_patch

_TOTAL_AT = 21
"""Where the 36 bits of STREAMINFO's total begin (in the low half of this byte)."""

_STREAMINFO_END = 42
_TAIL_BYTES = 1 << 16
_MOST_TAIL_BYTES = 1 << 23
_MOST_HEADER_BYTES = 16
_CODED_BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{c: 1 << c for c in range(8, 16)}}
_LARGEST_32_BIT = 0xFFFF_FFFF


@dataclass(frozen=True)
class _Frame:
    """A frame's header: its offset in what was read, its number (of frames or samples), and its samples."""

    at: int
    number: int
    samples: int
    is_variable: bool


class _Info:
    """What a FLAC's STREAMINFO says; `data` is the file up to its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.is_right = len(data) == _STREAMINFO_END and data[:4] == b"fLaC" and data[4] & 0x7F == 0
        self.block_size = int.from_bytes(data[10:12], "big")
        self.tail_bytes = min(max(_TAIL_BYTES, 3 * int.from_bytes(data[15:18], "big")), _MOST_TAIL_BYTES)
        self.claimed = (data[_TOTAL_AT] & 0x0F) << 32 | int.from_bytes(data[22:26], "big") if self.is_right else 0


def with_true_total(content: Content) -> Content:
    info = _Info(content.read(0, _STREAMINFO_END))
    true = _samples(content, info) if info.is_right else None
    if true is None or true == info.claimed:
        return content
    patch = bytes([info.data[_TOTAL_AT] & 0xF0 | true >> 32]) + (true & _LARGEST_32_BIT).to_bytes(4, "big")
    return with_patch(content, _TOTAL_AT, patch)


def _samples(content: Content, info: _Info) -> int | None:
    """Return where the last whole frame of a FLAC file ends, None if no frame is found at the end."""
    stop = before_tags(content)
    tail = content.read(max(0, stop - info.tail_bytes), stop)
    frame = next(_numbered(reversed(list(pairwise([None, *_frames(tail)])))), None)
    if frame is None:
        return None
    start = _place(frame, info)
    return start + (frame.samples if _is_whole(tail[frame.at :]) else 0) or None


def _numbered(pairs: Iterable[tuple[_Frame | None, _Frame | None]]) -> Iterator[_Frame]:
    """Yield the frames of pairs of neighbours that are no header by chance: that has no neighbour one less."""
    for before, frame in pairs:
        if frame is not None and (frame.number == 0 or (before is not None and _follows(before, frame))):
            yield frame


def _place(frame: _Frame, info: _Info) -> int:
    return frame.number if frame.is_variable else frame.number * info.block_size


def flac_streams(content: Content) -> list[Content]:
    """Return the FLAC files, and the runs of frames, that stand one behind the other in a file.

    Frames are numbered. Where the last one's number does not fit the header, or where numbers do not rise, all frames
    are looked at: a run whose numbers begin anew becomes a file of its own. Held bytes are also searched for headers.
    """
    info = _Info(content.read(0, _STREAMINFO_END))
    if not info.is_right or not (isinstance(content, HeldContent) or _shows_a_join(content, info)):
        return [content]
    streams = parts_at(content, [at for at in find_all(content, b"fLaC") if _is_header(content, at)] or [0])
    return [run for stream in streams for run in _runs(stream)]


def _is_header(content: Content, at: int) -> bool:
    head = content.read(at, at + _STREAMINFO_END)
    return head[4:8] in (b"\0\0\0\x22", b"\x80\0\0\x22") and len(head) == _STREAMINFO_END


def _shows_a_join(content: Content, info: _Info) -> bool:
    true = _samples(content, info)
    if true is None or (info.claimed and info.claimed != true):
        return true is not None
    places = [int(share * content.size_bytes) for share in PROBES]
    found = [_frames(content.read(place, place + info.tail_bytes)) for place in places]
    numbered = [next(_numbered(pairwise(frames)), None) for frames in found]
    return not rises([None if frame is None else _place(frame, info) / true for frame in numbered])


def _runs(content: Content) -> list[Content]:
    info = _Info(content.read(0, _STREAMINFO_END))
    if _samples(content, info) in (None, info.claimed):
        return [content]
    starts = [0, *_restarts(content)]
    head = b"fLaC\x80\0\0\x22" + info.data[8:26] + bytes(16)  # without a digest: it is of other samples
    first, *others = parts_at(content, starts)
    return [first, *(spliced(run, 0, run.size_bytes, head) for run in others)]


def _restarts(content: Content) -> Iterator[int]:
    """Yield the offsets of the frames from which on numbers begin anew; two in a row are no chance."""
    last: _Frame | None = None
    waiting: _Frame | None = None
    for base in range(0, content.size_bytes, _TAIL_BYTES):
        for frame in _frames(content.read(base, base + _TAIL_BYTES + _MOST_HEADER_BYTES)):
            if frame.at >= _TAIL_BYTES:
                break
            if last is not None and _follows(last, frame):
                last, waiting = frame, None
            elif waiting is not None and _follows(waiting, frame):
                if last is not None and waiting.number <= last.number:
                    yield waiting.at
                last, waiting = frame, None
            else:
                waiting = replace(frame, at=base + frame.at)


def _follows(before: _Frame, frame: _Frame) -> bool:
    return frame.number == before.number + (before.samples if frame.is_variable else 1)


def _frames(data: bytes) -> list[_Frame]:
    """Return the frames that begin in a piece of a file: a sync code, and a header whose checksum is right."""
    found = []
    at = data.find(b"\xff")
    while at >= 0:
        frame = _frame(data, at) if data[at + 1 : at + 2] in (b"\xf8", b"\xf9") else None
        if frame is not None:
            found.append(frame)
        at = data.find(b"\xff", at + 1)
    return found


def _frame(data: bytes, at: int) -> _Frame | None:
    header = data[at : at + _MOST_HEADER_BYTES]
    if len(header) < 6 or header[3] & 1 or header[2] >> 4 == 0 or header[2] & 0xF == 15:
        return None
    ones = next((bit for bit in range(8) if not header[4] & 0x80 >> bit), 8)
    if ones in (1, 8):
        return None
    end = 4 + max(ones, 1)
    number = header[4] & 0xFF >> ones + 1
    for byte in header[5:end]:
        number = number << 6 | byte & 0x3F
    code = header[2] >> 4
    extra = {6: 1, 7: 2}.get(code, 0)
    samples = _CODED_BLOCK_SIZES.get(code) or int.from_bytes(header[end : end + extra], "big") + 1
    end += extra + {12: 1, 13: 2, 14: 2}.get(header[2] & 0xF, 0)
    if end >= len(header) or _crc(header[:end], 8, 0x07) != header[end]:
        return None
    return _Frame(at, number, samples, bool(header[1] & 1))


def _is_whole(frame: bytes) -> bool:
    """Return whether a last frame's checksum is right: the file was not cut in it (nor ends in a tag)."""
    return _crc(frame[:-2], 16, 0x8005) == int.from_bytes(frame[-2:], "big")


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    table, value, mask = _crc_table(bits, polynomial), 0, (1 << bits) - 1
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> bits - 8 ^ byte]
    return value


@lru_cache(maxsize=2)
def _crc_table(bits: int, polynomial: int) -> list[int]:
    top, mask = 1 << bits - 1, (1 << bits) - 1
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 & mask) ^ (polynomial if value & top else 0)
        table.append(value)
    return table
