"""What a tagging page shows of the predictions, counted over all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from markupsafe import Markup

from mgc.errors import ErrorMeaning, error_meaning
from mgc.reports.curve_plots import histogram_chart
from mgc.reports.page import count
from mgc.reports.tagging_rows import TrackLine, track_lines

LABELS_SHOWN = 20
EXAMPLES_A_CODE = 3
HISTOGRAM_BINS = 20
SPAN_CENTILE = 0.99
"""Durations above this quantile fall into the last bin: one ten-hour file would flatten all others."""


COUNTED = [
    "track_id",
    "uri",
    "duration_seconds",
    "genre",
    "genre_probability",
    "abstained",
    "tags",
    "error_code",
    "error_stage",
    "error_message",
    "run_id",
]
"""Columns of the predictions that are counted: no maps, and no embedding."""


@dataclass(frozen=True)
class FailureLine:
    """One reason for failure: how many tracks, and some of them with what was seen."""

    code: str
    stage: str
    tracks: int
    examples: list[tuple[str, str]]
    meaning: ErrorMeaning | None = None


@dataclass(frozen=True)
class TaggingView:
    """What the page shows of the predictions.

    Parameters
    ----------
    genres, tags
        (name, tracks), the commonest first.
    sampled
        What part of the tracks the table shows, in words; empty: all of them.
    """

    rows: int
    answered: int
    genres: list[tuple[str, int]]
    tags: list[tuple[str, int]]
    genres_in_all: int
    tags_in_all: int
    untagged: int
    failures: list[FailureLine]
    abstained: int
    lines: list[TrackLine]
    sampled: str
    mean_confidence: float | None
    charts: Mapping[str, Markup | None] = field(default_factory=dict)


def build_tagging_view(predictions: pl.DataFrame, listed: pl.DataFrame, sampled: str = "") -> TaggingView:
    """Return what the page shows, counted over all rows.

    Parameters
    ----------
    predictions
        All rows, columns `COUNTED`.
    listed
        Those that the table holds, by URI, columns `mgc.reports.tagging_table.PACKED`.
    sampled
        What part of all they are, in words.
    """
    answered = predictions.filter(pl.col("error_code").is_null())
    genres = _counted(answered["genre"].drop_nulls())
    tags = _counted(answered.select(pl.col("tags").explode())["tags"].drop_nulls())
    mean = answered["genre_probability"].mean()
    return TaggingView(
        rows=predictions.height,
        answered=answered.height,
        genres=genres[:LABELS_SHOWN],
        tags=tags[:LABELS_SHOWN],
        genres_in_all=len(genres),
        tags_in_all=len(tags),
        untagged=answered.filter(pl.col("tags").list.len().fill_null(0) == 0).height,
        failures=_failures(predictions),
        abstained=int(answered["abstained"].fill_null(False).sum()),
        lines=track_lines(listed),
        sampled=sampled,
        mean_confidence=float(mean) if isinstance(mean, float) else None,
        charts={"confidence": _confidence_chart(answered), "duration": _duration_chart(answered)},
    )


def _counted(names: pl.Series) -> list[tuple[str, int]]:
    counts = names.alias("name").value_counts(name="tracks")
    return list(counts.sort(["tracks", "name"], descending=[True, False]).iter_rows())


def _failures(predictions: pl.DataFrame) -> list[FailureLine]:
    failed = predictions.filter(pl.col("error_code").is_not_null()).sort("uri")
    lines = []
    for (code,), rows in failed.group_by(["error_code"], maintain_order=True):
        few = rows.head(EXAMPLES_A_CODE)
        examples = [(uri, message or "") for uri, message in few.select("uri", "error_message").iter_rows()]
        stage = rows["error_stage"][0] or ""
        lines.append(FailureLine(str(code), stage, rows.height, examples, error_meaning(str(code))))
    return sorted(lines, key=lambda line: (-line.tracks, line.code))


def _confidence_chart(answered: pl.DataFrame) -> Markup | None:
    stated = answered["genre_probability"].drop_nulls().to_numpy()
    if not len(stated):
        return None
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    return histogram_chart(_histogram(stated, edges), edges, "stated probability of the genre", percent=True)


def _duration_chart(answered: pl.DataFrame) -> Markup | None:
    seconds = answered["duration_seconds"].drop_nulls().to_numpy()
    if not len(seconds):
        return None
    longest = float(np.quantile(seconds, SPAN_CENTILE))
    unit, label = (60.0, "minutes") if longest > 180 else (1.0, "seconds")
    over = int(np.count_nonzero(seconds > longest))
    edges = np.linspace(0.0, max(longest, 1e-3) / unit * 1.0001, HISTOGRAM_BINS + 1)
    more = f"; {count(over)} longer in the last bar" if over else ""
    return histogram_chart(_histogram(seconds / unit, edges), edges, f"duration in {label}{more}")


def _histogram(values: npt.NDArray[np.floating[Any]], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray(np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0], dtype=np.int64)
