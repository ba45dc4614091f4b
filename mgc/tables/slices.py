"""Spans of track ids: what is too large for memory is worked through in slices of a catalogue, by id.

An id says nothing about its track, so that a span of ids is a sample of the catalogue, and whatever is sorted by id
is read a span at a time: the catalogue, the index of a run, the checkpoint, a file of `current`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import polars as pl

SLICE_TRACKS = 100_000
"""Tracks that are planned, worked on and committed at once; of a smaller catalogue all are."""

HEX_DIGITS = "0123456789abcdef"


@dataclass(frozen=True)
class Span:
    """The track ids from `first` on and below `end`; None: all that follow."""

    first: str = ""
    end: str | None = None

    def where(self) -> pl.Expr:
        """Return whether a row's `track_id` is among them."""
        before = pl.lit(True) if self.end is None else pl.col("track_id") < self.end
        return (pl.col("track_id") >= self.first) & before

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return those of the rows whose ids are among them."""
        return rows if self == ALL_IDS or rows.is_empty() else rows.filter(self.where())

    def meets(self, least: str, most: str) -> bool:
        """Return whether any id from the least to the most one may be among them."""
        return most >= self.first and (self.end is None or least < self.end)

    def holds(self, other: Span) -> bool:
        """Return whether all ids of another span are among them."""
        return self.first <= other.first and (self.end is None or (other.end is not None and other.end <= self.end))

    def cut(self, borders: Sequence[str]) -> list[Span]:
        """Return the spans between ids within it, in order: together they have all of its ids."""
        return [Span(*pair) for pair in zip([self.first, *borders], [*borders, self.end], strict=True)]


ALL_IDS = Span()


def spans_by_digits(rows: int, of: Span = ALL_IDS, prefix: str = "") -> list[Span]:
    """Cut a span by the next hex digits of its ids, so that each has about a slice's rows of `rows` at most.

    Parameters
    ----------
    rows
        About so many are in the whole span.
    prefix
        What the ids of the span begin with.
    """
    depth = 0
    while rows > SLICE_TRACKS * len(HEX_DIGITS) ** depth:
        depth += 1
    return of.cut([prefix + "".join(digits) for digits in product(HEX_DIGITS, repeat=depth)][1:])


@dataclass(frozen=True)
class Slices:
    """A table with a row or more for each track id, read a span of ids at a time.

    Parameters
    ----------
    spans
        That it is worked through in: together they have every id there can be.
    read
        Returns its rows of a span.
    """

    spans: Sequence[Span]
    read: Callable[[Span], pl.DataFrame]

    @classmethod
    def of(cls, table: pl.DataFrame) -> Slices:
        """Return the slices of a table in memory."""
        if table.height <= SLICE_TRACKS:
            return cls([ALL_IDS], lambda span: span.of(table))
        ids = table["track_id"].sort()
        borders = ids.gather_every(SLICE_TRACKS)[1:].unique().sort().to_list()
        return cls(ALL_IDS.cut([border for border in borders if border > ids[0]]), lambda span: span.of(table))

    def changed(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Slices:
        """Return the slices of a table that is made of this one, span by span."""
        return Slices(self.spans, lambda span: change(self.read(span)))
