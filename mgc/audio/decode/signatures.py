"""What a file is by its first bytes: audio, music that nothing here plays, or something else by its name.

Pure Python: `mgc.catalogue.listing` looks at a file here before anything decodes it.
"""

from __future__ import annotations

HEAD_BYTES = 1_088
"""As much of a file as is looked at here: a MOD has its mark at 1,080."""

_UNPLAYED = (
    (0, b"MThd", "a MIDI file: notes and no sound"),
    (8, b"RMID", "a MIDI file: notes and no sound"),
    (0, b"IMPM", "an Impulse Tracker module, which nothing here plays"),
    (0, b"Extended Module: ", "a FastTracker module, which nothing here plays"),
    (44, b"SCRM", "a Scream Tracker module, which nothing here plays"),
    (0, b"MO3", "an MO3 module, which nothing here plays"),
    *(
        (1_080, mark, "a ProTracker module, which nothing here plays")
        for mark in (b"M.K.", b"M!K!", b"FLT4", b"4CHN", b"6CHN", b"8CHN")
    ),
    (0, b"PSID", "a SID tune, which nothing here plays"),
    (0, b"RSID", "a SID tune, which nothing here plays"),
    (0, b"NESM\x1a", "an NSF tune, which nothing here plays"),
    (0, b"SNES-SPC700", "an SPC tune, which nothing here plays"),
    (0, b"Vgm ", "a VGM tune, which nothing here plays"),
)
_SIGNATURES = (
    *_UNPLAYED,
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xff\xfe", "text"),
    (0, b"\xfe\xff", "text"),
)
"""Place, bytes there, and what has them; the last two are the byte order marks of UTF-16."""

_MOST_HIGH_BYTES = 0.3
"""Share of bytes above 0x7F in a text of any encoding that we would call one."""


_AUDIO_STARTS = (
    *(b"fLaC", b"OggS", b"ID3", b"APETAGEX", b".snd", b"caff", b"wvpk", b"MAC ", b"TTA1", b"MPCK", b"MP+", b"tBaK"),
    *(b"#!AMR", b"ajkg", b"DSD ", b"FRM8", b".RMF", b".ra\xfd", b"ADIF", b"Creative Voice File", b"\x7f\xfe\x80\x01"),
    b"riff\x2e\x91\xcf\x11",  # Wave64
    bytes.fromhex("3026b2758e66cf11"),  # ASF
    bytes.fromhex("1a45dfa3"),  # Matroska, WebM
)
_AUDIO_IN = {b"RIFF": (b"WAVE",), b"RF64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC", b"8SVX")}
_AUDIO_BRANDS = (b"M4", b"iso", b"mp4", b"mmp4", b"dash", b"avc1", b"3g", b"qt", b"F4", b"MSNV", b"aax")
"""Beginnings of major brands of MP4 files that may hold sound, as AVIF and HEIC pictures do not."""


def is_audio_head(head: bytes) -> bool:
    """Return whether first bytes are those of a container that may hold sound, or of a frame of sound."""
    if head.startswith(_AUDIO_STARTS) or head[8:12] in _AUDIO_IN.get(head[:4], ()):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12].startswith(_AUDIO_BRANDS)
    return _is_mpeg_frame(head)


def is_unplayed_head(head: bytes) -> bool:
    """Return whether first bytes are those of music that nothing here plays: notes, with or without samples."""
    return any(head.startswith(mark, place) for place, mark, _ in _UNPLAYED)


def _is_mpeg_frame(head: bytes) -> bool:
    """Return whether bytes begin a frame of MP3, MP2 or AAC (ADTS): ISO/IEC 11172-3, 2.4.1.3; 13818-7, 6.2."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    layer = head[1] >> 1 & 0b11
    if layer == 0:  # ADTS, whose sync word has one bit more, and whose sample rate index ends at 12
        return head[1] & 0xF0 == 0xF0 and (head[2] >> 2 & 0b1111) <= 12
    version, bitrate, rate = head[1] >> 3 & 0b11, head[2] >> 4, head[2] >> 2 & 0b11
    # Layer I is not among them: its frames begin as UTF-16 text does (FF FE).
    return layer != 0b11 and version != 0b01 and bitrate not in (0, 15) and rate != 0b11


def kind_of(head: bytes) -> str | None:
    """Return what a file is that is no audio, None where its first bytes do not show it."""
    if len(set(head)) == 1:
        return f"bytes of 0x{head[0]:02X} as far as was looked"
    if _is_text(head):
        return "text"
    return next((kind for place, mark, kind in _SIGNATURES if head.startswith(mark, place)), None)


def _is_text(head: bytes) -> bool:
    """Return whether there is no control character that text would not hold, and not too much beyond ASCII."""
    if any(byte < ord(" ") and byte not in b"\t\n\f\r" for byte in head):
        return False
    return sum(byte >= 0x80 for byte in head) <= _MOST_HIGH_BYTES * len(head) or _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end >= len(head) and error.start >= len(head) - 4  # cut within its last character
    return True
