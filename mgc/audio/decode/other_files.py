"""What a file is in which no decoder found audio, by its first bytes: so that a row says more than "no audio"."""

from __future__ import annotations

HEAD_BYTES = 1024
"""As much of a file as `kind_of` looks at."""

_SIGNATURES = (
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
    (0, b"MThd", "a MIDI file: notes and no sound"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xff\xfe", "text"),
    (0, b"\xfe\xff", "text"),
)
"""Place, bytes there, and what has them; the last two are the byte order marks of UTF-16."""

_MOST_HIGH_BYTES = 0.3
"""Share of bytes above 0x7F in a text of any encoding that we would call one."""


def kind_of(head: bytes) -> str | None:
    """Return what a file is that is no audio, None where its first bytes do not tell."""
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
