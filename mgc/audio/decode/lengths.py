"""Headers that are wrong about their file's length, put right before a decoder believes them.

libsndfile reads no further than the header says. But programs that write to a pipe leave a length of zero (or of
all ones), recorders that lose power do as well, sizes beyond 32 bits wrap round, and a file may lie. Where the
bytes show otherwise, they are believed: what a WAV or AU holds behind its claimed end is audio unless it is
another chunk, and the last frame of a FLAC says where it ends.

Sources: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF); RFC 9639 (FLAC), sections
8.2 and 9.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from mgc.audio.decode.source import Content, PatchedContent

_CHUNK_HEADER_BYTES = 8
_MOST_CHUNKS = 1_000
_LARGEST_32_BIT = 0xFFFF_FFFF
_UNCLAIMED_BYTES = 4_096
"""So much more than a header claims is no tag that someone appended."""

_FLAC_TOTAL_AT = 21
"""Where the 36 bits of STREAMINFO's total begin (in the low half of this byte)."""

_FLAC_STREAMINFO_END = 42
_FLAC_TAIL_BYTES = 1 << 16
_FLAC_MOST_TAIL_BYTES = 1 << 23
_FLAC_CODED_BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{c: 1 << c for c in range(8, 16)}}


def with_true_length(content: Content) -> Content:
    """Return the content, with its header's length put right where it is known to be wrong."""
    head = content.read(0, 12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(content)
    if head[:4] in (b".snd", b"dns."):
        return _au(content, "big" if head[:4] == b".snd" else "little")
    if head[:4] == b"fLaC":
        return _flac(content)
    return content


def _wav(content: Content) -> Content:
    at, size = 12, content.size_bytes
    for _ in range(_MOST_CHUNKS):
        header = content.read(at, at + _CHUNK_HEADER_BYTES)
        if len(header) < _CHUNK_HEADER_BYTES:
            return content
        claimed = int.from_bytes(header[4:], "little")
        start = at + _CHUNK_HEADER_BYTES
        if header[:4] == b"data":
            end = start + claimed
            if size - end <= _UNCLAIMED_BYTES or _is_chunk(content, end + claimed % 2):
                return content
            return PatchedContent(content, at + 4, min(size - start, _LARGEST_32_BIT).to_bytes(4, "little"))
        at = start + claimed + claimed % 2
    return content


def _is_chunk(content: Content, at: int) -> bool:
    """Return whether a chunk's name and a size that fits stand at an offset."""
    header = content.read(at, at + _CHUNK_HEADER_BYTES)
    name, claimed = header[:4], int.from_bytes(header[4:], "little")
    return name.isascii() and name.decode("ascii").isprintable() and claimed <= content.size_bytes - at


def _au(content: Content, order: Literal["big", "little"]) -> Content:
    head = content.read(0, 12)
    start, claimed = (int.from_bytes(head[i : i + 4], order) for i in (4, 8))
    # Of one that claims more than there is, libsndfile reads nothing.
    if 0 <= content.size_bytes - start - claimed <= _UNCLAIMED_BYTES:
        return content
    return PatchedContent(content, 8, b"\xff" * 4)  # the format's own "not known": to the end


@dataclass(frozen=True)
class _FlacFrame:
    """A frame's header: its offset in what was read, its number (of frames or samples), and its samples."""

    at: int
    number: int
    samples: int
    is_variable: bool


def _flac(content: Content) -> Content:
    info = content.read(0, _FLAC_STREAMINFO_END)
    if len(info) < _FLAC_STREAMINFO_END or info[4] & 0x7F != 0:
        return content
    claimed = (info[_FLAC_TOTAL_AT] & 0x0F) << 32 | int.from_bytes(info[22:26], "big")
    true = _flac_samples(content, info)
    if true is None or true == claimed:
        return content
    patch = bytes([info[_FLAC_TOTAL_AT] & 0xF0 | true >> 32]) + (true & _LARGEST_32_BIT).to_bytes(4, "big")
    return PatchedContent(content, _FLAC_TOTAL_AT, patch)


def _flac_samples(content: Content, info: bytes) -> int | None:
    """Return where the last whole frame of a FLAC file ends, None if no frame is found at the end."""
    most_frame_bytes = int.from_bytes(info[15:18], "big")
    tail_bytes = min(max(_FLAC_TAIL_BYTES, 3 * most_frame_bytes), _FLAC_MOST_TAIL_BYTES)
    tail = content.read(max(0, content.size_bytes - tail_bytes), content.size_bytes)
    block_size = int.from_bytes(info[10:12], "big")
    frames = _flac_frames(tail)
    for before, last in reversed(list(pairwise([None, *frames]))):
        # A header by chance has no neighbour whose number is one (block) less.
        if last is not None and (last.number == 0 or (before is not None and _follows(before, last))):
            start = last.number if last.is_variable else last.number * block_size
            return start + (last.samples if _is_whole(tail[last.at :]) else 0) or None
    return None


def _follows(before: _FlacFrame, frame: _FlacFrame) -> bool:
    return frame.number == before.number + (before.samples if frame.is_variable else 1)


def _flac_frames(data: bytes) -> list[_FlacFrame]:
    """Return the frames that begin in a piece of a file: a sync code, and a header whose checksum is right."""
    found = []
    at = data.find(b"\xff")
    while at >= 0:
        frame = _flac_frame(data, at) if data[at + 1 : at + 2] in (b"\xf8", b"\xf9") else None
        if frame is not None:
            found.append(frame)
        at = data.find(b"\xff", at + 1)
    return found


def _flac_frame(data: bytes, at: int) -> _FlacFrame | None:
    header = data[at : at + 16]
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
    samples = _FLAC_CODED_BLOCK_SIZES.get(code) or int.from_bytes(header[end : end + extra], "big") + 1
    end += extra + {12: 1, 13: 2, 14: 2}.get(header[2] & 0xF, 0)
    if end >= len(header) or _crc(header[:end], 8, 0x07) != header[end]:
        return None
    return _FlacFrame(at, number, samples, bool(header[1] & 1))


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
