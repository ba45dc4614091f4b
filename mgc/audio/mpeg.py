"""Which MP3s libsndfile 1.2.2 (with its mpg123) reads rightly.

It reads an MP3 only up to the length it believes. Where the file has no Xing/Info tag that length is guessed
from the bit rate of the first frames: a file that starts loud and goes on quiet loses most of itself. Where
the tag is there but the file was cut or joined to another, the length is wrong, too. And of mono MPEG-2 (22.05
and 24 kHz) it drops some sound frames ("part2_3_length too large").
"""

from __future__ import annotations

_ID3V2_HEADER_BYTES = 10
_TAG_SEARCH_BYTES = 64
_HAS_FRAMES_AND_BYTES = 0b11
_VERSION_BITS = 0x18
_TOLERANCE = 0.01


def looks_like_mpeg(data: bytes) -> bool:
    """Return whether the bytes start with an ID3v2 tag or an MPEG audio frame's sync word."""
    return data[:3] == b"ID3" or _is_sync(data[:2])


def suits_libsndfile(data: bytes) -> bool:
    """Return whether an MP3 is MPEG-1 with a Xing/Info tag whose size in bytes is the file's within 1 %.

    Source: ISO/IEC 11172-3, 2.4.1.3 (header); G. Bouvigne's "MP3 Info Tag" (fields frames and bytes).
    """
    start = _audio_start(data)
    frame = data[start : start + _TAG_SEARCH_BYTES]
    if not _is_sync(frame[:2]) or frame[1] & _VERSION_BITS != _VERSION_BITS:
        return False
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0:
        return False
    flags, _frames, n_bytes = (int.from_bytes(frame[at + i : at + i + 4], "big") for i in (4, 8, 12))
    if flags & _HAS_FRAMES_AND_BYTES != _HAS_FRAMES_AND_BYTES:
        return False
    return abs(len(data) - start - n_bytes) <= _TOLERANCE * n_bytes


def _is_sync(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _audio_start(data: bytes) -> int:
    """Return the offset behind the ID3v2 tag (its size is four bytes of seven bits)."""
    if data[:3] != b"ID3" or len(data) < _ID3V2_HEADER_BYTES:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    has_footer = bool(data[5] & 0x10)
    return _ID3V2_HEADER_BYTES * (2 if has_footer else 1) + size
