"""Drift in words, for a page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mgc.evaluation.drift import FALSE_ALARM_RATE, SMALLEST_EFFECT, Drift, Shift
from mgc.reports.page import count, percent
from mgc.tables.run_records import RunRecord

RUNS_SHOWN = 12
NAMED = 3
"""Of what moved, in a headline."""

KINDS = {
    "genre": "genre",
    "tag": "tag",
    "confidence": "mean confidence",
    "abstained": "abstained",
    "failed": "failed tracks",
    "code": "failed with",
}


@dataclass(frozen=True)
class DriftView:
    """What the page shows of drift: what was tested, and the last runs, oldest first, this one included."""

    result: Drift
    runs: Sequence[RunRecord]
    verdict: str
    headline: str
    kinds = KINDS
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
    return f"{beside}: {found} more than chance and more than a trifle."


def drift_headline(drift: Drift) -> str:
    """Return what moved most, in a line; empty where nothing did."""
    named = "; ".join(shift_text(shift) for shift in drift.moved[:NAMED])
    more = f"; and {len(drift.moved) - NAMED} more" if len(drift.moved) > NAMED else ""
    return f"Drift: {named}{more}." if drift.moved else ""


def shift_text(shift: Shift) -> str:
    """Return one shift: "genre jazz 21.0 % → 35.2 %"."""
    name = f"{KINDS[shift.kind]} {shift.name}".strip()
    return f"{name} {percent(shift.before)} → {percent(shift.now)}"
