"""Text from outside: nothing of it controls a terminal, and no word of it is lost."""

from __future__ import annotations

import json

import pytest

from mgc.printable import json_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m.mp3", r"\x1b[31mred\x1b[0m.mp3"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\r\tc\x7f\x00", r"a\nb\r\tc\x7f\x00"),
        ("\x9b2J", r"\x9b2J"),
        ("3pm.\u202egpj\u2066", r"3pm.\u202egpj\u2066"),
        ("caf\udce9.mp3", r"caf\udce9.mp3"),
        ("a\u2028b\ufeff\U000e0041", r"a\u2028b\ufeff\U000e0041"),
    ],
)
def test_what_controls_a_terminal_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown
    assert json.loads(json_line({"uri": text})) == {"uri": text}
    assert printable(json_line({"uri": text})) == json_line({"uri": text})


def test_names_in_any_script_stay_as_they_are() -> None:
    for text in ("[red]song[/].mp3", r"C:\music", "Sigur Rós – Ágætis", "می\u200cخواهم", "👩\u200d🎤", "音楽"):
        assert printable(text) == text
        assert json.loads(json_line(text)) == text
    assert printable("a\nb\x1b", allowed="\n") == "a\nb\\x1b"
