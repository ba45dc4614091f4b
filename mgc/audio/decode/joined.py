"""The streams of a file that holds several, one behind the other: chained Ogg, RIFF behind RIFF, MP4 behind MP4, ….

Radio recorders, album sides and `cat` make them. Decoder libraries read the first one, or believe the length of the
last. So a file is parted where another one of its kind begins, and each part is read by itself
(`mgc.audio.decode.audio_reader`). FLAC is in `mgc.audio.decode.flac`, MPEG audio in `mgc.audio.decode.mpeg`.

Sources: RFC 3533 (Ogg pages; section 4 has chaining); the formats' own first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from mgc.audio.decode.source import Content, HeldContent, spliced

MOST_STREAMS = 1_000
"""Of one file; the last takes what is left."""

PROBES = (0.21, 0.47, 0.58, 0.74)
"""Where a file that is not held is looked at, as shares of its bytes. Of eleven or fewer equally long streams no
number's share rises there as one stream's would."""

_LEAST_RISE = 1 / 3
"""Before and behind a place is at least this share of the sound that would be there at a constant rate."""

_PIECE_BYTES = 1 << 20
_SEARCH_BYTES = 1 << 16
_ID3V1_BYTES = 128
_ID3V2_HEADER_BYTES = 10
_MOST_TAGS = 4

_WITH_BIT_3 = b"[" + re.escape(bytes(byte for byte in range(256) if byte & 8)) + b"]"
_STARTS = [
    (offset, needle, re.compile(pattern, re.DOTALL))
    for offset, needle, pattern in (
        (0, b"RIFF", rb"RIFF.{4}WAVE"),
        (0, b"RF64", rb"RF64.{4}WAVE"),
        (0, b"FORM", rb"FORM.{4}AIF[FC]"),
        (0, b".snd", rb"\.snd\0\0.{6}\0\0\0.\0"),
        (0, b"caff", rb"caff\0\x01\0\0desc"),
        (0, b"riff", rb"riff\x2e\x91\xcf\x11"),
        (4, b"ftyp", rb"\0\0..ftyp[ -~]{4}"),
        (0, b"\x1aE\xdf\xa3", rb"\x1aE\xdf\xa3.{,60}(webm|matroska)"),
        (0, b"0&\xb2u", rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel"),
        (0, b"wvpk", rb"wvpk.{12}\0{4}.{5}" + _WITH_BIT_3),
        (0, b"TTA", rb"TTA[12][\x01\x03]\0"),
        (0, b"MAC ", rb"MAC .[\x0e\x0f]"),
        (0, b"MPCK", rb"MPCKSH"),
        (0, b"tBaK", rb"tBaK[\x01-\x07]"),
        (0, b"#!AMR", rb"#!AMR(-WB)?\n"),
        (0, b"FLV\x01", rb"FLV\x01[\x04\x05]\0{3}\x09"),
        (0, b"DSD ", rb"DSD \x1c\0{7}"),
        (0, b"Creative", rb"Creative Voice File\x1a"),
    )
]
"""Where, from the start of a file, what to search for stands, and what a start looks like. A WavPack file begins with
block 0, and the first block of a group has bit 11 of its flags set."""


def joined_streams(content: Content) -> list[Content]:
    """Return the streams of one kind that stand one behind the other in a file: most hold one. None of another kind.

    Held bytes are searched for the beginnings. Of longer files, Ogg is looked at in a few places first, RIFF, AIFF
    and MP4 are followed by their sizes, and all others are taken as one stream.
    """
    head = content.read(0, _FRAME_HEADER_BYTES)
    if _coded_frame(head):
        return parts_at(content, list(_rate_changes(content, head)))
    if head[:4] == b"OggS":
        is_one = not isinstance(content, HeldContent) and not _shows_a_chain(content)
        return [content] if is_one else parts_at(content, list(_ogg_starts(content)))
    if head[:4] == b"RIFF" and content.size_bytes - 8 == int.from_bytes(head[4:8], "little"):
        return [content]  # by its own size it is all; a search of an album's WAV would take as long as its windows
    for offset, needle, pattern in _STARTS:
        if pattern.match(content.read(0, 64)):
            held = isinstance(content, HeldContent)
            places = find_all(content, needle) if held else _by_sizes(content)
            starts = [at - offset for at in places] if held else list(places)
            return parts_at(content, [at for at in starts if at >= 0 and pattern.match(content.read(at, at + 64))])
    return []


def parts_at(content: Content, starts: Sequence[int]) -> list[Content]:
    """Return the parts of a content that begin at `starts`, in ascending order, the first of them at 0."""
    starts = list(starts)[:MOST_STREAMS]
    if len(starts) < 2:
        return [content]
    stops = [*starts[1:], content.size_bytes]
    return [spliced(content, start, stop) for start, stop in zip(starts, stops, strict=True)]


def find_all(content: Content, needle: bytes, start: int = 0) -> Iterator[int]:
    """Yield the offsets, from `start` on, of some bytes."""
    for base in range(start, content.size_bytes, _PIECE_BYTES):
        piece = content.read(base, base + _PIECE_BYTES + len(needle) - 1)
        at = piece.find(needle)
        while at >= 0:
            yield base + at
            at = piece.find(needle, at + 1)


def rises(shares: Sequence[float | None]) -> bool:
    """Return whether numbers at `PROBES`, as shares of the last one, rise as those of one stream do."""
    known = [(place, share) for place, share in zip(PROBES, shares, strict=True) if share is not None]
    in_order = all(one[1] < other[1] for one, other in pairwise(known))
    return in_order and all(_LEAST_RISE * place <= share <= 1 - _LEAST_RISE * (1 - place) for place, share in known)


def _by_sizes(content: Content) -> Iterator[int]:
    """Yield where a RIFF, AIFF or MP4 file, and what stands behind it, begins, by the sizes that they tell."""
    at = 0
    for _ in range(MOST_STREAMS):
        head = content.read(at, at + 16)
        if len(head) < 16:
            return
        yield at
        if head[:4] == b"RIFF":
            size = 8 + int.from_bytes(head[4:8], "little")
        elif head[:4] == b"FORM":
            size = 8 + int.from_bytes(head[4:8], "big")
        elif head[4:8].isalnum():
            size = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        else:
            return
        at += max(size, 8)


# Ogg.


def _ogg_starts(content: Content) -> Iterator[int]:
    """Yield where chained streams begin: at a beginning of a stream whose page before is of no beginning."""
    at, after_beginning = 0, False
    while (page := content.read(at, at + 27)) and len(page) == 27:
        if page[:5] != b"OggS\0":
            at = next(find_all(content, b"OggS\0", at + 1), content.size_bytes)
            continue
        begins = bool(page[5] & 2)
        if begins and not after_beginning:
            yield at
        after_beginning = begins
        at += 27 + page[26] + sum(content.read(at + 27, at + 27 + page[26]))


def _shows_a_chain(content: Content) -> bool:
    """Return whether pages of an Ogg file are of several streams, or their numbers do not rise as one stream's do."""
    size = content.size_bytes
    last = content.read(size - _SEARCH_BYTES, size)
    pages = [content.read(0, 27), last[last.rfind(b"OggS\0") :]]
    for place in PROBES:
        piece = content.read(int(place * size), int(place * size) + 2 * _SEARCH_BYTES)
        pages.insert(-1, piece[piece.find(b"OggS\0") :])
    known = [page for page in pages if len(page) >= 27 and page[:4] == b"OggS"]
    numbers = [int.from_bytes(page[18:22], "little") for page in pages]
    if len({page[14:18] for page in known}) > 1 or len(known) < len(pages):
        return True
    return not rises([number / max(numbers[-1], 1) for number in numbers[1:-1]])


# AAC (ADTS), AC-3 and DTS: frames without a container, which may change their sample rate anywhere.

_FRAME_HEADER_BYTES = 9
_FRAMES_IN_A_ROW = 3
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_SYNC_BYTES = {0xFF: 1, 0x0B: 2, 0x7F: 4}
"""How many bytes of a header, by the first one, do not change: ISO/IEC 13818-7, 6.2; ETSI TS 102 366, 102 114."""


def _rate_changes(content: Content, head: bytes) -> Iterator[int]:
    """Yield the offsets of the first frame and of those from which on the sample rate is another."""
    at, rate, sync = 0, None, head[: _SYNC_BYTES[head[0]]]
    while at < content.size_bytes:
        frame = _coded_frame(content.read(at, at + _FRAME_HEADER_BYTES))
        if frame and (frame[1] == rate or _are_in_a_row(content, at)):
            if frame[1] != rate:
                yield at
            at, rate = at + frame[0], frame[1]
        else:
            rows = (place for place in find_all(content, sync, at + 1) if _are_in_a_row(content, place))
            at = next(rows, content.size_bytes)


def _are_in_a_row(content: Content, at: int) -> bool:
    rates = set()
    for _ in range(_FRAMES_IN_A_ROW):
        frame = _coded_frame(content.read(at, at + _FRAME_HEADER_BYTES))
        if frame is None:
            return False
        at += frame[0]
        rates.add(frame[1])
    return len(rates) == 1


def _coded_frame(header: bytes) -> tuple[int, int] | None:
    """Return a frame's bytes and the code of its sample rate by its header, None for bytes that are none."""
    if len(header) < _FRAME_HEADER_BYTES:
        return None
    if header[0] == 0xFF and header[1] & 0xF6 == 0xF0:
        size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return (size, header[2] >> 2 & 15) if size >= _FRAME_HEADER_BYTES else None
    if header[:4] == b"\x7f\xfe\x80\x01":
        return ((header[5] & 3) << 12 | header[6] << 4 | header[7] >> 4) + 1, header[8] >> 2 & 15
    if header[:2] != b"\x0b\x77":
        return None
    rate, size = header[4] >> 6, header[4] & 0x3F
    if header[5] >> 3 > 10:  # E-AC-3
        return 2 * ((header[2] & 7) << 8 | header[3]) + 2, rate if rate < 3 else 3 + (header[4] >> 4 & 3)
    if rate == 3 or size >> 1 >= len(_AC3_KBPS):
        return None
    kbps = _AC3_KBPS[size >> 1]
    return 2 * (2 * kbps, 320 * kbps // 147 + (size & 1), 3 * kbps)[rate], rate


# Tags before and behind.


def before_tags(content: Content) -> int:
    """Return where the tags begin that players append (ID3v1, APEv2, an ID3v2 that is announced at its end)."""
    stop = content.size_bytes
    for _ in range(_MOST_TAGS):
        tail = content.read(max(0, stop - _ID3V1_BYTES), stop)
        size = 0
        if tail[:3] == b"TAG" and len(tail) == _ID3V1_BYTES:
            size = _ID3V1_BYTES
        elif tail[-32:-24] == b"APETAGEX":
            has_header = bool(tail[-9] & 0x80)
            size = int.from_bytes(tail[-20:-16], "little") + (32 if has_header else 0)
        elif tail[-10:-7] == b"3DI":
            size = 20 + size_of_id3v2(tail[-4:])
        if not 0 < size <= stop:
            break
        stop -= size
    return stop


def size_of_id3v2(four: bytes) -> int:
    """Return the size in an ID3v2 header: four bytes of seven bits."""
    return (four[0] & 0x7F) << 21 | (four[1] & 0x7F) << 14 | (four[2] & 0x7F) << 7 | four[3] & 0x7F


def behind_id3v2(content: Content, start: int = 0) -> int:
    """Return the offset behind the ID3v2 tags that begin at `start`."""
    while (head := content.read(start, start + _ID3V2_HEADER_BYTES))[:3] == b"ID3" and len(head) == 10:
        has_footer = bool(head[5] & 0x10)
        start += _ID3V2_HEADER_BYTES * (2 if has_footer else 1) + size_of_id3v2(head[6:])
    return start
