"""CSV for spreadsheets: no text cell is a formula when the file is opened, and what mgc reads back is as it was.

A file may be named ``=HYPERLINK(…)``, and a spreadsheet would run it. As OWASP advises ("CSV Injection"), a text cell
that begins as formulas do begins with an apostrophe instead; numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

import polars as pl

_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"
_WRITTEN_WITH_MARK = rf"^'*{_FORMULA}"
"""A text that begins with apostrophes before a formula gets one more, so that reading is unambiguous."""

_READ_WITHOUT_MARK = rf"^'('*{_FORMULA})"


def csv_of_frame(frame: pl.DataFrame) -> bytes:
    """Return a frame as CSV with a header."""
    text = pl.col(pl.String)
    marked = pl.when(text.str.contains(_WRITTEN_WITH_MARK)).then(pl.lit("'") + text).otherwise(text)
    return frame.with_columns(marked.name.keep()).write_csv().encode()


def csv_of_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows of cells of any kind as CSV; None is an empty cell."""
    return "".join(",".join(map(_cell, row)) + "\n" for row in (header, *rows)).encode()


def cells_of(line: str, separator: str) -> list[str]:
    """Return the cells of a line, with quotes as CSV has them."""
    return next(csv.reader([line], delimiter=separator))


def without_mark(text: pl.Expr) -> pl.Expr:
    """Return cells as they were before they were written: less the apostrophe that stands before a formula."""
    return text.str.replace(_READ_WITHOUT_MARK, "$1")


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else f"{value}"
    marked = f"'{value}" if re.match(_WRITTEN_WITH_MARK, value) else value
    # The module csv leaves a lone carriage return bare, and readers take it for the end of the row.
    return '"' + marked.replace('"', '""') + '"' if re.search('[",\r\n]', marked) else marked
