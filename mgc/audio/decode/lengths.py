"""Headers that are wrong about their file's length, put right before a decoder believes them.

libsndfile reads no further than the header says. But programs that write to a pipe leave a length of zero (or of
all ones), recorders that lose power do as well, sizes beyond 32 bits wrap round, and a file may lie. Where the
bytes show otherwise, they are believed: what a WAV or AU holds behind its claimed end is audio unless it is
another chunk, and the last frame of a FLAC says where it ends.

Source: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF).
"""

from __future__ import annotations

from typing import Literal

from mgc.audio.decode import flac
from mgc.audio.decode.joined import before_tags
from mgc.audio.decode.source import Content, with_patch

_CHUNK_HEADER_BYTES = 8
_MOST_CHUNKS = 1_000
_LARGEST_32_BIT = 0xFFFF_FFFF
_UNCLAIMED_BYTES = 4_096
"""So much more than a header claims is no tag that someone appended."""


def with_true_length(content: Content) -> Content:
    """Return the content, with its header's length put right where it is known to be wrong."""
    head = content.read(0, 12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(content)
    if head[:4] in (b".snd", b"dns."):
        return _au(content, "big" if head[:4] == b".snd" else "little")
    if head[:4] == b"fLaC":
        return flac.with_true_total(content)
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
            if size - end <= _UNCLAIMED_BYTES or _is_other(content, end + claimed % 2):
                return content
            true = min(before_tags(content) - start, _LARGEST_32_BIT)
            return content if true <= claimed else with_patch(content, at + 4, true.to_bytes(4, "little"))
        at = start + claimed + claimed % 2
    return content


def _is_other(content: Content, at: int) -> bool:
    """Return whether a chunk's name and a size that fits, or a tag, stand at an offset."""
    header = content.read(at, at + _CHUNK_HEADER_BYTES)
    if header[:3] == b"ID3":
        return True
    name, claimed = header[:4], int.from_bytes(header[4:], "little")
    return name.isascii() and name.decode("ascii").isprintable() and claimed <= content.size_bytes - at


def _au(content: Content, order: Literal["big", "little"]) -> Content:
    head = content.read(0, 12)
    start, claimed = (int.from_bytes(head[i : i + 4], order) for i in (4, 8))
    # Of one that claims more than there is, libsndfile reads nothing.
    if 0 <= content.size_bytes - start - claimed <= _UNCLAIMED_BYTES:
        return content
    return with_patch(content, 8, b"\xff" * 4)  # the format's own "not known": to the end
