"""Short tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: "1 track", "1,200 tracks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def titled(title: str) -> Table:
    """Return an empty table of names and values under a title."""
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def facts(console: Console, title: str, rows: dict[str, str]) -> None:
    """Print a titled two-column table."""
    table = titled(title)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
