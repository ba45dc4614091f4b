"""The page of a tagging run: what was done, how fast, what failed and why, and the tracks themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from mgc.reports.drift_report import DriftView
from mgc.reports.page import count, decimal, percent, render, span
from mgc.reports.tagging_table import pack_tracks
from mgc.reports.tagging_view import TaggingView, build_tagging_view
from mgc.reports.track_map import TrackMap
from mgc.storage.store import Store
from mgc.tables.run_records import RunRecord

PAGE_FILE = "report/index.html"
SCRIPTS = ("table.js", "tracks.js", "map.js")


@dataclass(frozen=True)
class NearDuplicates:
    """What a page says of near-duplicates: words, and rows with group, uri, duration_seconds and likeness."""

    words: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ReviewQueue:
    """What a page says of the review queue: words, the rows of the queue's CSV, and the command that writes it."""

    words: str
    rows: list[dict[str, Any]]
    command: str


@dataclass(frozen=True)
class PageParts:
    """What a page shows beside the counts; a part that is None is left out.

    Parameters
    ----------
    listed
        Rows of the table, columns `PACKED`; None: all rows of the predictions, which then have those columns.
    sampled
        What part of all they are, in words.
    run_ids
        Whose rows count as made in this run, beside its own.
    layout, map_text
        The map, and what it says of itself.
    drift
        This run beside those before.
    copies, queue
        Near-duplicates, and what to label next.
    """

    listed: pl.DataFrame | None = None
    sampled: str = ""
    run_ids: tuple[str, ...] = ()
    layout: TrackMap | None = None
    map_text: str = ""
    drift: DriftView | None = None
    copies: NearDuplicates | None = None
    queue: ReviewQueue | None = None


def write_tagging_report(
    predictions: pl.DataFrame, record: RunRecord, uri: str, parts: PageParts | None = None
) -> str:
    """Write report/index.html below a folder or prefix, and return its URI.

    Parameters
    ----------
    predictions
        Columns `mgc.reports.tagging_view.COUNTED`: all tracks of the catalogue, those of earlier runs included.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    store = Store.open(uri)
    store.write_atomic(PAGE_FILE, tagging_page(predictions, record, parts).encode())
    return store.uri(PAGE_FILE)


def tagging_page(predictions: pl.DataFrame, record: RunRecord, parts: PageParts | None = None) -> str:
    """Return the page."""
    parts = parts or PageParts()
    listed = (predictions if parts.listed is None else parts.listed).sort("uri")
    view = build_tagging_view(predictions, listed, parts.sampled)
    return render(
        "tagging.html",
        scripts=SCRIPTS,
        summary=record,
        view=view,
        cards=_cards(record, view),
        packed=pack_tracks(listed, [record.run_id, *parts.run_ids], parts.layout),
        map_text=parts.map_text if parts.layout is not None else "",
        drift=parts.drift,
        copies=parts.copies,
        queue=parts.queue,
    )


def _cards(summary: RunRecord, view: TaggingView) -> list[dict[str, str]]:
    seconds, cores = summary.busy_seconds, max(summary.cores, 1)
    realtime = summary.audio_seconds / seconds
    failed = sum(summary.failed.values())
    cards = [
        _card(
            "Tagged in this run",
            count(summary.tagged_now - failed),
            f"{count(summary.unchanged)} more were up to date and not touched",
        ),
        _card(
            "Failed in this run",
            count(failed),
            "each has its row, with the reason" if failed else "every track gave an answer",
        ),
    ]
    if summary.tagged_now:
        rate = summary.tagged_now / seconds
        cards += [
            _card(
                "Speed",
                f"{count(realtime)} ×",
                f"realtime; {count(realtime / cores)} × per core on {cores} core{'' if cores == 1 else 's'}",
            ),
            _card(
                "Tracks a second",
                decimal(rate, 1),
                f"{decimal(rate / cores, 2)} per core; {span(seconds)} at work of {span(summary.wall_seconds)}",
            ),
            _card("Audio heard", span(summary.audio_seconds), "length of the tracks of this run"),
        ]
    if view.mean_confidence is not None:
        explained = f"mean stated probability of the genre, {count(view.answered)} tracks"
        cards.append(_card("Mean confidence", f"{100 * view.mean_confidence:.0f} %", explained))
        guesses = f"{percent(view.abstained / view.answered)} of the answers are less sure than the bundle demands"
        cards.append(_card("Guesses", count(view.abstained), guesses))
    return cards


def _card(title: str, text: str, explained: str) -> dict[str, str]:
    return {"title": title, "text": text, "explained": explained}
