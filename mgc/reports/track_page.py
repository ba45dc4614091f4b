"""The page of one track: its picture in time, its genres and tags, and what sounds like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.reports.page import render
from mgc.reports.track_look import TrackView
from mgc.reports.track_report import track_chart

GENRES_SHOWN = 10
TAGS_SHOWN = 12
TAGS_PER_WINDOW = 5


@dataclass(frozen=True)
class WindowSummary:
    """One window in words: from, to, its genre with probability, its tags."""

    start_seconds: float
    end_seconds: float
    genre: str | None
    genre_probability: float | None
    tags: list[tuple[str, float]]


def track_page(view: TrackView) -> str:
    """Return the page, complete in itself."""
    listed = view.listed_tags
    return render(
        "track.html",
        view=view,
        chart=track_chart(view),
        genres=view.genres[:GENRES_SHOWN],
        tags=listed or view.tags[:TAGS_SHOWN],
        tags_listed=bool(listed),
        window_summaries=window_summaries(view),
    )


def window_summaries(view: TrackView) -> list[WindowSummary]:
    """Return every window in words: what the picture says to those who do not see it."""
    return [
        _window_summary(view, row, start, end)
        for row, (start, end) in enumerate(zip(view.start_seconds, view.end_seconds, strict=True))
    ]


def _window_summary(view: TrackView, row: int, start: float, end: float) -> WindowSummary:
    genres, tags = view.genre_in_time[row], view.tag_in_time[row]
    above = np.flatnonzero(tags >= view.tag_thresholds)
    listed = sorted(((view.tag_names[tag], float(tags[tag])) for tag in above), key=lambda pair: -pair[1])
    best = int(genres.argmax()) if genres.size else None
    return WindowSummary(
        start,
        end,
        None if best is None else view.genre_names[best],
        None if best is None else float(genres[best]),
        listed[:TAGS_PER_WINDOW],
    )
