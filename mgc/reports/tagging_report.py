"""The page of a tagging run: what was done, how fast, what failed and why, and the tracks themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from markupsafe import Markup

from mgc.errors import ErrorMeaning, error_meaning
from mgc.evaluation.drift import FALSE_ALARM_RATE, SMALLEST_EFFECT, Drift, Shift
from mgc.reports.page import count, decimal, percent, render, span
from mgc.reports.svg import histogram_chart
from mgc.reports.tagging_table import TrackLine, pack_tracks, track_lines
from mgc.reports.track_map import TrackMap
from mgc.storage.store import Store
from mgc.tables.run_records import CONFIDENCE_BINS, PredictionCounts, PredictionSummary, RunRecord

RUNS_SHOWN = 12
SHIFTS_NAMED = 3
"""Of what moved, in a headline."""

SHIFT_KINDS = {
    "genre": "genre",
    "tag": "tag",
    "confidence": "mean confidence",
    "abstained": "abstained",
    "failed": "failed tracks",
    "code": "failed with",
}

PAGE_FILE = "report/index.html"
SCRIPTS = ("table.js", "tracks.js", "map.js")

LABELS_SHOWN = 20
EXAMPLES_A_CODE = 3
HISTOGRAM_BINS = 20
DURATIONS_HELD = 100_000
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
    predictions: Iterable[pl.DataFrame], record: RunRecord, uri: str, parts: PageParts | None = None
) -> str:
    """Write report/index.html below a folder or prefix, and return its URI.

    Parameters
    ----------
    predictions
        Batches of them, columns `mgc.reports.tagging_report.COUNTED`: all tracks of the catalogue, those of earlier
        runs included.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    store = Store.open(uri)
    store.write_atomic(PAGE_FILE, tagging_page(predictions, record, parts).encode())
    return store.uri(PAGE_FILE)


def tagging_page(predictions: Iterable[pl.DataFrame], record: RunRecord, parts: PageParts | None = None) -> str:
    """Return the page."""
    parts = parts or PageParts()
    if (listed := parts.listed) is None:
        predictions = [*predictions]
        listed = pl.concat(predictions)
    listed = listed.sort("uri")
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


def _speed(times: float) -> str:
    """Return × realtime in two digits at least: a short run's is not 0."""
    return count(times) if times >= 10 else f"{times:.2g}"


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
            "each has its row, with the reason" if failed else "every track was tagged",
        ),
    ]
    if summary.tagged_now:
        rate = summary.tagged_now / seconds
        cards += [
            _card(
                "Speed",
                f"{_speed(realtime)} ×",
                f"realtime; {_speed(realtime / cores)} × per core on {cores} core{'' if cores == 1 else 's'}",
            ),
            _card(
                "Tracks a second",
                decimal(rate, 1),
                f"{decimal(rate / cores, 2)} per core; {span(seconds)} at work of {span(summary.wall_seconds)}",
            ),
            _card("Audio analysed", span(summary.audio_seconds), "length of the tracks of this run"),
        ]
    if view.mean_confidence is not None:
        explained = f"mean stated probability of the genre, {count(view.answered)} tracks"
        cards.append(_card("Mean confidence", f"{100 * view.mean_confidence:.0f} %", explained))
        demands = f"{percent(view.abstained / view.answered)} of the answers are less sure than the bundle demands"
        unsure = ". ".join([demands, *summary.promises[:1]])
        cards.append(_card("Abstained", count(view.abstained), unsure))
    return cards


def _card(title: str, text: str, explained: str) -> dict[str, str]:
    return {"title": title, "text": text, "explained": explained}


# What the page shows of the predictions, counted over all rows.


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


def build_tagging_view(predictions: Iterable[pl.DataFrame], listed: pl.DataFrame, sampled: str = "") -> TaggingView:
    """Return what the page shows, counted over all rows a batch at a time.

    Parameters
    ----------
    predictions
        All rows, columns `COUNTED`.
    listed
        Those that the table holds, by URI, columns `mgc.reports.tagging_table.PACKED`.
    sampled
        What part of all they are, in words.
    """
    counts, failures, untagged, seconds = PredictionCounts(), _Failures(), 0, [np.zeros(0)]
    for rows in predictions:
        counts.add(rows)
        failures.add(rows)
        answered = rows.filter(pl.col("error_code").is_null())
        untagged += answered.filter(pl.col("tags").list.len().fill_null(0) == 0).height
        # Track ids are hashes: the first ones are drawn at random.
        wanted = max(0, DURATIONS_HELD - sum(map(len, seconds)))
        seconds.append(answered["duration_seconds"].drop_nulls().head(wanted).to_numpy())
    summary = counts.summary()
    return TaggingView(
        rows=summary.tracks,
        answered=summary.answered,
        genres=[*summary.genres.items()][:LABELS_SHOWN],
        tags=[*summary.tags.items()][:LABELS_SHOWN],
        genres_in_all=len(summary.genres),
        tags_in_all=len(summary.tags),
        untagged=untagged,
        failures=failures.lines(summary.failed),
        abstained=summary.abstained,
        lines=track_lines(listed),
        sampled=sampled,
        mean_confidence=summary.confidence_mean if summary.confident else None,
        charts={
            "confidence": _confidence_chart(summary),
            "duration": _duration_chart(np.concatenate(seconds), summary.answered),
        },
    )


class _Failures:
    """Some failed tracks of each code, the first by URI."""

    def __init__(self) -> None:
        self._examples: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        failed = rows.filter(pl.col("error_code").is_not_null())
        held = pl.concat([*self._examples, failed.select("error_code", "uri", "error_stage", "error_message")])
        self._examples = [held.sort("uri").group_by("error_code", maintain_order=True).head(EXAMPLES_A_CODE)]

    def lines(self, tracks: Mapping[str, int]) -> list[FailureLine]:
        lines = []
        for examples in self._examples:
            for (code,), rows in examples.group_by(["error_code"], maintain_order=True):
                few = [(uri, message or "") for uri, message in rows.select("uri", "error_message").iter_rows()]
                stage, meaning = rows["error_stage"][0] or "", error_meaning(str(code))
                lines.append(FailureLine(str(code), stage, tracks[str(code)], few, meaning))
        return sorted(lines, key=lambda line: (-line.tracks, line.code))


def _confidence_chart(summary: PredictionSummary) -> Markup | None:
    if not summary.confident:
        return None
    edges = np.linspace(0.0, 1.0, CONFIDENCE_BINS + 1)
    bins = np.array(summary.confidence_bins, dtype=np.int64)
    return histogram_chart(bins, edges, "stated probability of the genre", percent=True)


def _duration_chart(seconds: npt.NDArray[np.floating[Any]], tracks: int) -> Markup | None:
    if not len(seconds):
        return None
    longest = float(np.quantile(seconds, SPAN_CENTILE))
    unit, label = (60.0, "minutes") if longest > 180 else (1.0, "seconds")
    over = int(np.count_nonzero(seconds > longest))
    edges = np.linspace(0.0, max(longest, 1e-3) / unit * 1.0001, HISTOGRAM_BINS + 1)
    more = f"; {count(over)} longer in the last bar" if over else ""
    drawn = (
        f"; {count(len(seconds))} of {count(tracks)} tracks, drawn at random"
        if len(seconds) >= DURATIONS_HELD
        else ""
    )
    return histogram_chart(_histogram(seconds / unit, edges), edges, f"duration in {label}{more}{drawn}")


def _histogram(values: npt.NDArray[np.floating[Any]], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray(np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0], dtype=np.int64)


@dataclass(frozen=True)
class DriftView:
    """What the page shows of drift: what was tested, and the last runs, oldest first, this one included."""

    result: Drift
    runs: Sequence[RunRecord]
    verdict: str
    headline: str
    kinds = SHIFT_KINDS
    alarm_share = percent(FALSE_ALARM_RATE, 0)
    smallest_effect = f"{SMALLEST_EFFECT:g}"


def drift_view(drift: Drift, runs: Sequence[RunRecord]) -> DriftView:
    """Return what the page shows; `runs` are the last ones, oldest first, this one included."""
    return DriftView(drift, runs[-RUNS_SHOWN:], drift_verdict(drift), drift_headline(drift))


def drift_verdict(drift: Drift) -> str:
    """Return what became of the comparison, in a sentence."""
    if drift.why_not:
        return f"Nothing was compared: {drift.why_not}."
    n = len(drift.against)
    runs = "the run before it" if n == 1 else f"the last {n} runs of one bundle"
    beside = f"{count(drift.tracks)} tracks of this run beside {count(drift.tracks_before)} of {runs}"
    found = "nothing moved" if not drift.moved else f"{len(drift.moved)} of {len(drift.shifts)} figures moved"
    verdict = f"{beside}: {found} more than chance and more than a trifle."
    if not drift.left_out:
        return verdict
    named = ", ".join(drift.left_out[:SHIFTS_NAMED]) + (", …" if len(drift.left_out) > SHIFTS_NAMED else "")
    return f"{verdict} Not compared, because one of the bundles does not know them: {named} ({len(drift.left_out)})."


def drift_headline(drift: Drift) -> str:
    """Return what moved most, in a line; empty where nothing did."""
    named = "; ".join(shift_text(shift) for shift in drift.moved[:SHIFTS_NAMED])
    more = f"; and {len(drift.moved) - SHIFTS_NAMED} more" if len(drift.moved) > SHIFTS_NAMED else ""
    return f"Drift: {named}{more}." if drift.moved else ""


def shift_text(shift: Shift) -> str:
    """Return one shift: "genre jazz 21.0 % → 35.2 %"."""
    name = f"{SHIFT_KINDS[shift.kind]} {shift.name}".strip()
    return f"{name} {percent(shift.before)} → {percent(shift.now)}"
