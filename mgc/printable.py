r"""Text from outside (names of files, tags, genres, messages about files) as a terminal and a log may show it.

A name may hold escape sequences, line ends or bidirectional overrides: they would colour, clear or reorder what
stands around it. They are shown as Python writes them: ``\x1b``, ``\n``, ``\u202e``.
"""

from __future__ import annotations

import json
import re
import sys

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1 controls: ESC, CSI, OSC, line ends
    "\u00ad\u061c\u180e\u200b\u200e\u200f"  # invisible, and marks of direction
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # line separators, bidirectional overrides and isolates
    "\ud800-\udfff"  # lone surrogates: bytes of a name that are no UTF-8
    "\U000e0000-\U000e007f"  # invisible tags
    "]"
)


def printable(text: str, allowed: str = "") -> str:
    r"""Return text with control, format and surrogate characters as visible escapes.

    Joiners (U+200C, U+200D) stay: scripts and emoji need them.

    Parameters
    ----------
    allowed
        Characters that stay as they are, such as a line end.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in allowed else _escape(found[0]), text)


def json_line(value: object) -> str:
    """Return a value as JSON on one line that a terminal may show; parsed, it is the value to the last character.

    Where standard output has another encoding than Unicode, letters beyond ASCII are escaped.

    Raises
    ------
    ValueError
        A number is not finite.
    """
    text = json.dumps(
        value, ensure_ascii=not (sys.stdout.encoding or "utf-8").lower().startswith("utf"), allow_nan=False
    )
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1] if found[0] != "\x7f" else r"\u007f", text)


def not_sure(genre: str, probability: float) -> str:
    """Return how a genre is named from which the ensemble abstained: "not sure: techno 65 %"."""
    return f"not sure: {genre} {100 * probability:.0f} %"


def _escape(letter: str) -> str:
    return ascii(letter)[1:-1]
