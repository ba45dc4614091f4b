"""Drift in words, for a page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mgc.evaluation.drift import FALSE_ALARM_RATE, SMALLEST_EFFECT, Drift, Shift
from mgc.reports.page import count, decimal, percent
from mgc.tables.run_records import PredictionSummary, RunRecord

RUNS_SHOWN = 12
NAMED = 3
"""Of what moved, in a headline."""

KINDS = {
    "genre": "genre",
    "genres": "all genres at once",
    "tag": "tag",
    "confidence": "mean confidence",
    "abstained": "guesses (abstained)",
    "failed": "failed tracks",
    "code": "failed with",
}


@dataclass(frozen=True)
class ShiftLine:
    """One row of the table of what moved."""

    kind_text: str
    name: str
    before: float | None
    now: float | None
    change: float | None
    change_text: str
    effect: float
    p_value: float
    p_value_text: str


@dataclass(frozen=True)
class RunLine:
    """One row of the table of runs."""

    run_id: str
    bundle_fingerprint: str
    finished_at: object
    prediction_summary: PredictionSummary
    failed_share: float | None
    abstained_share: float | None
    confidence: float | None


@dataclass(frozen=True)
class DriftView:
    """What the page says of drift."""

    verdict: str
    headline: str
    cause: str
    moved: list[ShiftLine]
    tested: list[ShiftLine]
    runs: list[RunLine]
    alarm_share: str = percent(FALSE_ALARM_RATE, 0)
    smallest_effect: str = f"{SMALLEST_EFFECT:g}"


def drift_view(drift: Drift, runs: Sequence[RunRecord]) -> DriftView:
    """Return what the page says; `runs` are the last ones, oldest first, this one included."""
    return DriftView(
        verdict=drift_verdict(drift),
        headline=drift_headline(drift),
        cause=drift.cause,
        moved=[_line(shift) for shift in drift.moved],
        tested=[_line(shift) for shift in drift.shifts],
        runs=[_run_line(run) for run in runs[-RUNS_SHOWN:]],
    )


def drift_verdict(drift: Drift) -> str:
    """Return what became of the comparison, in a sentence."""
    if drift.why_not:
        return f"Nothing was compared: {drift.why_not}."
    n = len(drift.against)
    runs = "the run before it" if n == 1 else f"the last {n} runs of one bundle"
    beside = f"{count(drift.tracks)} tracks of this run beside {count(drift.tracks_before)} of {runs}"
    found = "nothing moved" if not drift.moved else f"{len(drift.moved)} of {len(drift.shifts)} things asked moved"
    return f"{beside}: {found} more than chance and more than a trifle."


def drift_headline(drift: Drift) -> str:
    """Return what moved most, in a line; empty where nothing did."""
    moved = [shift for shift in drift.moved if shift.kind != "genres"] or drift.moved
    named = "; ".join(shift_text(shift) for shift in moved[:NAMED])
    more = f"; and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return f"Drift: {named}{more}." if moved else ""


def shift_text(shift: Shift) -> str:
    """Return one shift: "genre jazz 21.0 % → 35.2 %"."""
    name = f"{KINDS[shift.kind]} {shift.name}".strip()
    return name if shift.before is None else f"{name} {percent(shift.before)} → {percent(shift.now)}"


def _line(shift: Shift) -> ShiftLine:
    change = None if shift.before is None or shift.now is None else shift.now - shift.before
    return ShiftLine(
        kind_text=KINDS[shift.kind],
        name=shift.name,
        before=shift.before,
        now=shift.now,
        change=change,
        change_text="" if change is None else f"{'+' if change > 0 else ''}{decimal(100 * change, 1)} points",
        effect=shift.effect,
        p_value=shift.p_value,
        p_value_text="< 0.0001" if shift.p_value < 1e-4 else decimal(shift.p_value, 4 if shift.p_value < 0.1 else 2),
    )


def _run_line(run: RunRecord) -> RunLine:
    prediction_summary = run.prediction_summary
    return RunLine(
        run_id=run.run_id,
        bundle_fingerprint=run.bundle_fingerprint,
        finished_at=run.finished_at,
        prediction_summary=prediction_summary,
        failed_share=sum(prediction_summary.failed.values()) / prediction_summary.tracks
        if prediction_summary.tracks
        else None,
        abstained_share=prediction_summary.abstained / prediction_summary.answered
        if prediction_summary.answered
        else None,
        confidence=prediction_summary.confidence_mean if prediction_summary.confident else None,
    )
