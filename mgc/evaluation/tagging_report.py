"""The page of a tagging run: what was done, how fast, what failed and why, and the tracks themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mgc.data.storage import Store
from mgc.evaluation.page import count, decimal, render, span
from mgc.evaluation.tagging_view import TaggingView, view_of

PAGE_FILE = "report.html"


@dataclass(frozen=True)
class TaggingSummary:
    """What a tagging run did.

    Parameters
    ----------
    catalogue, output
        URIs.
    tracks_total
        Tracks in the catalogue.
    tagged_now, unchanged
        Rows this run made, failed ones included; rows it did not have to touch.
    failed
        Failed tracks of this run by error code.
    audio_seconds, wall_seconds
        Audio that was heard, and how long the run took.
    work_seconds
        Of the wall seconds, those at work: without planning and the start of Ray. None: not measured.
    cores
        CPUs that worked.
    """

    run_id: str
    bundle_fingerprint: str
    catalogue: str
    tracks_total: int
    tagged_now: int
    unchanged: int
    failed: Mapping[str, int]
    audio_seconds: float
    wall_seconds: float
    cores: int
    started_at: datetime
    finished_at: datetime
    output: str
    work_seconds: float | None = None

    @property
    def busy_seconds(self) -> float:
        """Seconds that speeds are measured over."""
        return max(self.work_seconds or self.wall_seconds, 1e-9)


def write_tagging_report(predictions: pl.DataFrame, summary: TaggingSummary, uri: str) -> str:
    """Write report.html into a folder or prefix, and return its URI.

    Parameters
    ----------
    predictions
        Schema PREDICTIONS: all tracks of the catalogue, those of earlier runs included.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    store = Store.open(uri)
    store.write_atomic(PAGE_FILE, tagging_page(predictions, summary).encode())
    return store.uri(PAGE_FILE)


def tagging_page(predictions: pl.DataFrame, summary: TaggingSummary) -> str:
    """Return the page."""
    view = view_of(predictions)
    return render("tagging.html", summary=summary, view=view, cards=_cards(summary, view))


def _cards(summary: TaggingSummary, view: TaggingView) -> list[dict[str, str]]:
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
    return cards


def _card(title: str, text: str, explained: str) -> dict[str, str]:
    return {"title": title, "text": text, "explained": explained}
