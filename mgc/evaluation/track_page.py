"""The page of one track: its picture in time, its genres and tags, and what sounds like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.evaluation.page import render
from mgc.evaluation.track_look import TrackLook
from mgc.evaluation.track_picture import track_chart

GENRES_SHOWN = 10
TAGS_SHOWN = 12
TAGS_A_MOMENT = 5


@dataclass(frozen=True)
class Moment:
    """One window in words: from, to, its genre with probability, its tags."""

    start_seconds: float
    end_seconds: float
    genre: str | None
    genre_probability: float | None
    tags: list[tuple[str, float]]


def track_page(look: TrackLook) -> str:
    """Return the page, complete in itself."""
    listed = look.listed_tags
    return render(
        "track.html",
        look=look,
        chart=track_chart(look),
        genres=look.genres[:GENRES_SHOWN],
        tags=listed or look.tags[:TAGS_SHOWN],
        tags_listed=bool(listed),
        moments=moments(look),
    )


def moments(look: TrackLook) -> list[Moment]:
    """Return every window in words: what the picture says to those who do not see it."""
    return [
        _moment(look, row, start, end)
        for row, (start, end) in enumerate(zip(look.start_seconds, look.end_seconds, strict=True))
    ]


def _moment(look: TrackLook, row: int, start: float, end: float) -> Moment:
    genres, tags = look.genre_in_time[row], look.tag_in_time[row]
    above = np.flatnonzero(tags >= look.tag_thresholds)
    listed = sorted(((look.tag_names[tag], float(tags[tag])) for tag in above), key=lambda pair: -pair[1])
    best = int(genres.argmax()) if genres.size else None
    return Moment(
        start,
        end,
        None if best is None else look.genre_names[best],
        None if best is None else float(genres[best]),
        listed[:TAGS_A_MOMENT],
    )
