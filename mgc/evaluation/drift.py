"""Drift: what a run's answers have more or less of than those of the runs before, beyond chance and beyond trifles.

Asked of each run: the share of each genre and of each tag, all genres at once, how sure the ensemble was, how often
it abstained, and how often tracks failed, in all and by each code. A shift counts where both hold: its p-value,
corrected for all questions of the run, is below `FALSE_ALARM_RATE`, so that of a hundred runs without change one
has a false alarm; and its effect is at least `SMALLEST_EFFECT` on Cohen's scales (h, w, d; he calls 0.2 small),
because among a million tracks everything moves beyond chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mgc.arrays import Float64Array
from mgc.evaluation.significance import (
    SignificanceResult,
    compare_distributions,
    compare_means,
    compare_shares,
    dispersions,
    holm,
    mean_dispersion,
)
from mgc.tables.run_records import PredictionSummary, RunRecord

RUNS_COMPARED = 10
FALSE_ALARM_RATE = 0.01
SMALLEST_EFFECT = 0.1
FEWEST_TRACKS = 20
"""Fewer tracks of a run, or of all runs before, are not compared."""

SAME_TRACKS = 0.9
"""From this share of re-tagged tracks on, another bundle is the only thing that changed."""


@dataclass(frozen=True)
class Shift:
    """One thing that was asked of a run.

    Parameters
    ----------
    kind
        genre, genres, tag, confidence, abstained, failed or code.
    name
        Of the genre, tag or code.
    before, now
        Shares, or means; None for all genres at once.
    effect
        Cohen's h, w or d.
    p_value
        Corrected for all questions of the run.
    """

    kind: str
    name: str
    before: float | None
    now: float | None
    effect: float
    p_value: float

    @property
    def moved(self) -> bool:
        """Whether it is beyond chance and no trifle."""
        return self.p_value < FALSE_ALARM_RATE and abs(self.effect) >= SMALLEST_EFFECT


@dataclass(frozen=True)
class Drift:
    """A run beside those before it.

    Parameters
    ----------
    shifts
        All that was asked, the largest effect among those that moved first.
    against
        Run ids it is compared with, oldest first; empty: nothing was compared, and `why_not` says why.
    tracks, tracks_before
        Compared.
    cause
        What changed beside the tracks, in words; empty where nothing moved.
    """

    shifts: list[Shift] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    tracks: int = 0
    tracks_before: int = 0
    cause: str = ""
    why_not: str = ""

    @property
    def moved(self) -> list[Shift]:
        """What moved more than chance, and is no trifle."""
        return [shift for shift in self.shifts if shift.moved]


def detect_drift(run: RunRecord, earlier: Sequence[RunRecord]) -> Drift:
    """Return how a run differs from earlier ones (oldest first): of the same bundle, where there are any."""
    earlier = [one for one in earlier if one.prediction_summary.tracks]
    if not earlier:
        return Drift(tracks=run.prediction_summary.tracks, why_not="there is no earlier run to compare with")
    same = [one for one in earlier if one.bundle_fingerprint == run.bundle_fingerprint]
    last = [one for one in earlier if one.bundle_fingerprint == earlier[-1].bundle_fingerprint]
    chosen = (same or last)[-RUNS_COMPARED:]
    before = sum(one.prediction_summary.tracks for one in chosen)
    if min(run.prediction_summary.tracks, before) < FEWEST_TRACKS:
        why = f"{run.prediction_summary.tracks} tracks beside {before} of earlier runs are too few to compare"
        return Drift(tracks=run.prediction_summary.tracks, tracks_before=before, why_not=why)
    shifts = _shifts(run.prediction_summary, [one.prediction_summary for one in chosen])
    return Drift(
        shifts=shifts,
        against=[one.run_id for one in chosen],
        tracks=run.prediction_summary.tracks,
        tracks_before=before,
        cause=_cause(run, chosen[-1], shifts),
    )


@dataclass(frozen=True)
class _TestedShift:
    kind: str
    name: str
    before: float | None
    now: float | None
    found: SignificanceResult


def _shifts(now: PredictionSummary, earlier: list[PredictionSummary]) -> list[Shift]:
    tested = [
        *_test_genres(now, earlier),
        *_test_shares(
            "tag",
            now,
            earlier,
            lambda prediction_summary: prediction_summary.tags,
            lambda prediction_summary: prediction_summary.answered,
        ),
        *_test_shares("failed", now, earlier, _failed_at_all, lambda prediction_summary: prediction_summary.tracks),
        *_test_shares(
            "code",
            now,
            earlier,
            lambda prediction_summary: prediction_summary.failed,
            lambda prediction_summary: prediction_summary.tracks,
        ),
        *_test_shares("abstained", now, earlier, _abstained, lambda prediction_summary: prediction_summary.answered),
        *_test_confidence(now, earlier),
    ]
    corrected = holm([one.found.p_value for one in tested])
    shifts = [
        Shift(one.kind, one.name, one.before, one.now, one.found.effect, p_value)
        for one, p_value in zip(tested, corrected, strict=True)
    ]
    return sorted(shifts, key=lambda shift: (not shift.moved, -abs(shift.effect), shift.kind, shift.name))


def _failed_at_all(prediction_summary: PredictionSummary) -> Mapping[str, int]:
    return {"": sum(prediction_summary.failed.values())}


def _abstained(prediction_summary: PredictionSummary) -> Mapping[str, int]:
    return {"": prediction_summary.abstained}


def _test_shares(
    kind: str,
    now: PredictionSummary,
    earlier: list[PredictionSummary],
    counts_of: Callable[[PredictionSummary], Mapping[str, int]],
    total_of: Callable[[PredictionSummary], int],
) -> list[_TestedShift]:
    total, totals = (
        total_of(now),
        np.array([total_of(prediction_summary) for prediction_summary in earlier], dtype=np.float64),
    )
    if not total or not totals.sum():
        return []
    names = sorted({name for prediction_summary in [now, *earlier] for name in counts_of(prediction_summary)})
    table = _table(names, [counts_of(prediction_summary) for prediction_summary in earlier])
    results = []
    spreads = dispersions(table, totals, _likeness(kind, now, earlier))
    for name, before, spread in zip(names, table.sum(axis=0), spreads, strict=True):
        count = counts_of(now).get(name, 0)
        found = compare_shares(float(before), float(totals.sum()), count, total, spread)
        results.append(_TestedShift(kind, name, float(before / totals.sum()), count / total, found))
    return results


def _likeness(kind: str, now: PredictionSummary, earlier: list[PredictionSummary]) -> float:
    """Return the larger design effect of folders: of the run, or of those before it, by their tracks."""
    kind = "failed" if kind == "code" else kind
    tracks = sum(prediction_summary.tracks for prediction_summary in earlier)
    before = (
        sum(
            prediction_summary.design_effects.get(kind, 1.0) * prediction_summary.tracks
            for prediction_summary in earlier
        )
        / tracks
    )
    return max(1.0, now.design_effects.get(kind, 1.0), before)


def _table(names: Sequence[str], counts: Sequence[Mapping[str, int]]) -> Float64Array:
    table = np.zeros((len(counts), len(names)))
    for row, values in enumerate(counts):
        table[row] = [values.get(name, 0) for name in names]
    return table


def _test_genres(now: PredictionSummary, earlier: list[PredictionSummary]) -> list[_TestedShift]:
    results = _test_shares(
        "genre",
        now,
        earlier,
        lambda prediction_summary: prediction_summary.genres,
        lambda prediction_summary: sum(prediction_summary.genres.values()),
    )
    if len(results) < 2:
        return results
    names = [one.name for one in results]
    table = _table(names, [prediction_summary.genres for prediction_summary in earlier])
    spreads = dispersions(table, table.sum(axis=1), _likeness("genre", now, earlier))
    found = compare_distributions(table.sum(axis=0), _table(names, [now.genres])[0], spreads)
    return [_TestedShift("genres", "", None, None, found), *results]


def _test_confidence(now: PredictionSummary, earlier: list[PredictionSummary]) -> list[_TestedShift]:
    totals = np.array([prediction_summary.confident for prediction_summary in earlier], dtype=np.float64)
    if now.confident < 2 or totals.sum() < 2:
        return []
    means = np.array([prediction_summary.confidence_mean for prediction_summary in earlier])
    variances = np.array([prediction_summary.confidence_variance for prediction_summary in earlier])
    middle = float(np.average(means, weights=totals))
    within = float(np.average(variances, weights=totals))
    spread = mean_dispersion(means, variances, totals, _likeness("confidence", now, earlier))
    found = compare_means(
        (middle, within, float(totals.sum())),
        (now.confidence_mean, now.confidence_variance, float(now.confident)),
        spread,
    )
    return [_TestedShift("confidence", "", middle, now.confidence_mean, found)]


def _cause(run: RunRecord, before: RunRecord, shifts: list[Shift]) -> str:
    moved = [shift for shift in shifts if shift.moved]
    if not moved:
        return ""
    if all(shift.kind in ("failed", "code") for shift in moved):
        return "What failed says something of the files or the store, and nothing of the bundle."
    again = run.why.get("remade", 0) >= SAME_TRACKS * run.prediction_summary.tracks
    if run.bundle_fingerprint == before.bundle_fingerprint:
        if again:
            return "The bundle is the same, and so are most tracks: settings or the version of mgc are not."
        return "The bundle is the same: it is the tracks of this run that differ."
    change = f"the bundle changed from {before.bundle_fingerprint} to {run.bundle_fingerprint}"
    if again:
        return f"The bundle is the cause: {change}, and the tracks are the ones that it had answered for."
    return f"It may be the bundle or the tracks: {change}, and most tracks of this run are new or changed."
