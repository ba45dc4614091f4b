"""Short tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: "1 track", "1,200 tracks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def warned(count: int, rest: str = "") -> Text:
    """Return a number that deserves a look, and what belongs to it."""
    return Text.assemble((f"{count:,}", "yellow"), rest)


def facts(console: Console, title: str, rows: Mapping[str, str | Text]) -> None:
    """Print names and values under a title.

    Values are printed as they are: no markup is read in them, and none is broken into lines, so that a path can
    be copied from a narrow terminal or a log.
    """
    width = max(map(len, rows), default=0)
    console.print(Text(title, "bold"))
    for name, value in rows.items():
        console.print(Text.assemble("  ", (name.ljust(width), "cyan"), "   ", value), soft_wrap=True)
