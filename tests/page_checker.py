"""What every page must hold to: it fetches nothing, runs nothing but its own script, and closes what it opens."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import ClassVar

HOSTILE = "<script>alert('x')</script>\"&$\\frac{$"
"""A name that anyone may have put into a catalogue."""


class Checker(HTMLParser):
    """Collects what a browser would run or fetch, and checks that tags are closed in order."""

    VOID: ClassVar = {"meta", "br", "input", "link", "img", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.played: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        if tag == "audio":
            self.played.append(str(values.pop("src")))
        self.fetched += [f"{tag} {values[name]}" for name in ("src", "srcset", "data") if values.get(name)]
        self.fetched += [
            f"{tag} {v}"
            for k, v in attrs
            if k in ("href", "xlink:href") and not (v or "").startswith(("#", "data:image/png;base64,"))
        ]
        self.handlers += [name for name in values if name.startswith("on")]
        self.ids += [str(values["id"])] if "id" in values else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.scripts == 1, "our own script, and none that a name brought along"
    assert checker.fetched == []
    assert checker.handlers == []
    assert len(set(checker.ids)) == len(checker.ids), "ids are unique"
    assert not re.search(r"url\((?!#)", page)
    return checker
