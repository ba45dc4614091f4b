"""Drift: what a run's predictions have more or less of than those of the runs before, beyond chance and trifles.

Tested are the share of each genre and of each tag, the mean confidence, how often the ensemble abstained, and how
often tracks failed, in all and by each code. A shift counts where both hold: its p-value, corrected for all tests of
the run (Holm 1979), is below `FALSE_ALARM_RATE`, so that of a hundred runs without change one has a false alarm; and
its effect is at least `SMALLEST_EFFECT` on Cohen's scales (h, d; he calls 0.2 small), because among a million tracks
everything moves beyond chance.

Tracks come by albums and artists, so that shares vary between runs by more than a draw of single tracks would. That
is measured twice, and the statistics are divided by it; the larger of both p-values counts. Within a run: how alike
the tracks of a folder are, the design effect (Kish 1965; Rao & Scott 1987). Between runs, where there are several:
quasi-likelihood with a dispersion (McCullagh & Nelder 1989, ch. 4), each test's own drawn towards the mean of its
kind as Smyth (2004) does for genes, because few runs tell little of one tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import rel_entr

from mgc.arrays import BoolArray, Float64Array
from mgc.evaluation.bootstrap import ratio
from mgc.tables.run_records import PredictionSummary, RunRecord

RUNS_COMPARED = 10
FALSE_ALARM_RATE = 0.01
SMALLEST_EFFECT = 0.1
FEWEST_TRACKS = 20
"""Fewer tracks of a run, or of all runs before, are not compared."""

SAME_TRACKS = 0.9
"""From this share of re-tagged tracks on, another bundle is the only thing that changed."""

PRIOR_DEGREES = 20
"""Of freedom, at most, that the mean dispersion of a kind counts as beside a single test's own."""

SMALL_COUNT = 5.0
"""Where fewer tracks are expected, Fisher's exact test has a say."""


@dataclass(frozen=True)
class Shift:
    """One thing tested.

    Parameters
    ----------
    kind
        genre, tag, confidence, abstained, failed or code.
    name
        Of the genre, tag or code.
    before, now
        Shares, or means.
    effect
        Cohen's h or d.
    p_value
        Corrected for all tests of the run.
    """

    kind: str
    name: str
    before: float
    now: float
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
        All that was tested, the largest effect among those that moved first.
    against
        Run ids it is compared with, oldest first; empty: nothing was compared, and `why_not` states why.
    tracks, tracks_before
        Compared.
    cause
        What changed beside the tracks, in words; empty where nothing moved.
    left_out
        Genres and tags that only one of the two bundles knows: not compared.
    """

    shifts: list[Shift] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    tracks: int = 0
    tracks_before: int = 0
    cause: str = ""
    why_not: str = ""
    left_out: list[str] = field(default_factory=list)

    @property
    def moved(self) -> list[Shift]:
        """What moved more than chance, and is no trifle."""
        return [shift for shift in self.shifts if shift.moved]


def detect_drift(run: RunRecord, earlier: Sequence[RunRecord]) -> Drift:
    """Return how a run differs from earlier ones (oldest first): of the same bundle, where there are any."""
    tracks = run.prediction_summary.tracks
    earlier = [one for one in earlier if one.prediction_summary.tracks]
    if not earlier:
        return Drift(tracks=tracks, why_not="there is no earlier run to compare with")
    same = [one for one in earlier if one.bundle_fingerprint == run.bundle_fingerprint]
    last = [one for one in earlier if one.bundle_fingerprint == earlier[-1].bundle_fingerprint]
    chosen = (same or last)[-RUNS_COMPARED:]
    before = sum(one.prediction_summary.tracks for one in chosen)
    if min(tracks, before) < FEWEST_TRACKS:
        why = f"{tracks} tracks beside {before} of earlier runs are too few to compare"
        return Drift(tracks=tracks, tracks_before=before, why_not=why)
    now, summaries = run.prediction_summary, [one.prediction_summary for one in chosen]
    left_out = _not_in_both(now, summaries) if run.bundle_fingerprint != chosen[-1].bundle_fingerprint else []
    shifts = _shifts(now, summaries, left_out)
    return Drift(
        shifts=shifts,
        against=[one.run_id for one in chosen],
        tracks=tracks,
        tracks_before=before,
        cause=_cause(run, chosen[-1], shifts),
        left_out=left_out,
    )


def _not_in_both(now: PredictionSummary, earlier: list[PredictionSummary]) -> list[str]:
    """Return the genres and tags that one of two bundles does not know: their shares cannot be compared.

    Of a run whose record is older than vocabularies in records, what it never answered counts as not known.
    """
    sides = [
        [set(one.vocabulary or (*one.genres, *one.tags)) for one in side if one.answered] for side in ([now], earlier)
    ]
    known = [set().union(*side) for side in sides]
    return sorted(known[0] ^ known[1]) if all(known) else []


def _shifts(now: PredictionSummary, earlier: list[PredictionSummary], left_out: Sequence[str]) -> list[Shift]:
    tested = [
        *_test_shares("genre", now, earlier, lambda one: one.genres, lambda one: sum(one.genres.values()), left_out),
        *_test_shares("tag", now, earlier, lambda one: one.tags, lambda one: one.answered, left_out),
        *_test_shares("failed", now, earlier, lambda one: {"": sum(one.failed.values())}, lambda one: one.tracks),
        *_test_shares("code", now, earlier, lambda one: one.failed, lambda one: one.tracks),
        *_test_shares("abstained", now, earlier, lambda one: {"": one.abstained}, lambda one: one.answered),
        *_test_confidence(now, earlier),
    ]
    corrected = holm([shift.p_value for shift in tested])
    shifts = [replace(shift, p_value=p_value) for shift, p_value in zip(tested, corrected, strict=True)]
    return sorted(shifts, key=lambda shift: (not shift.moved, -abs(shift.effect), shift.kind, shift.name))


def _test_shares(
    kind: str,
    now: PredictionSummary,
    earlier: list[PredictionSummary],
    counts_of: Callable[[PredictionSummary], Mapping[str, int]],
    total_of: Callable[[PredictionSummary], int],
    left_out: Sequence[str] = (),
) -> list[Shift]:
    """Return the shift of each share, p-values not yet corrected."""
    totals = np.array([total_of(one) for one in [*earlier, now]], dtype=np.float64)
    if not totals[-1] or not totals[:-1].sum():
        return []
    names = sorted({name for one in [*earlier, now] for name in counts_of(one)} - set(left_out))
    rows = [[counts_of(one).get(name, 0) for name in names] for one in [*earlier, now]]
    counts = np.array(rows, dtype=np.float64).reshape(len(totals), len(names))
    found = compare_shares(counts, totals, _design_effect("failed" if kind == "code" else kind, now, earlier))
    return [Shift(kind, name, *map(float, values)) for name, *values in zip(names, *found, strict=True)]


def _test_confidence(now: PredictionSummary, earlier: list[PredictionSummary]) -> list[Shift]:
    runs = [one for one in earlier if one.confident > 1]
    if now.confident < 2 or not runs:
        return []
    means, variances, totals = (
        np.array([getattr(one, name) for one in [*runs, now]], dtype=np.float64)
        for name in ("confidence_mean", "confidence_variance", "confident")
    )
    found = compare_means(means, variances, totals, _design_effect("confidence", now, earlier))
    return [Shift("confidence", "", *(float(value[0]) for value in found))]


def _design_effect(kind: str, now: PredictionSummary, earlier: list[PredictionSummary]) -> float:
    """Return the larger design effect of folders: of the run, or of those before it, by their tracks."""
    before = [one.design_effects.get(kind, 1.0) for one in earlier]
    average = float(np.average(before, weights=[one.tracks for one in earlier]))
    return max(1.0, now.design_effects.get(kind, 1.0), average)


class Comparison(NamedTuple):
    """Shares or means before and now, Cohen's effect and p-value of each test, all of shape (n_tests,)."""

    before: Float64Array
    now: Float64Array
    effect: Float64Array
    p_value: Float64Array


def compare_shares(counts: Float64Array, totals: Float64Array, design_effect: float = 1.0) -> Comparison:
    """Compare shares of the last run with those of all runs before it: G-tests of 2 x 2 tables.

    Parameters
    ----------
    counts
        Tracks that have something, shape (n_runs, n_tests).
    totals
        Tracks of each run, shape (n_runs,).
    design_effect
        Of folders.

    Returns
    -------
    Comparison
        The effect is Cohen's h, the difference of arcsines.
    """
    having = np.stack([counts[:-1].sum(axis=0), counts[-1]])
    sizes = np.array([totals[:-1].sum(), totals[-1]])[:, None]
    observed = np.stack([having, sizes - having])
    expected = observed.sum(axis=1, keepdims=True) * sizes / sizes.sum()
    statistics = 2 * rel_entr(observed, expected).sum(axis=(0, 1))
    share, before_totals = having[0] / sizes[0], totals[:-1, None]
    spread = (before_totals * share * (1 - share))[totals[:-1] > 0]
    squares = ratio(((counts[:-1] - before_totals * share) ** 2)[totals[:-1] > 0], spread)
    p_values = _p_values(statistics, np.nansum(squares, axis=0), len(spread) - 1, spread.any(axis=0), design_effect)
    for test in np.flatnonzero(expected.min(axis=(0, 1)) < SMALL_COUNT):
        exact = stats.fisher_exact(observed[:, :, test].astype(np.int64)).pvalue
        p_values[test] = max(p_values[test], float(exact))
    before, now = having / sizes
    return Comparison(before, now, 2 * np.arcsin(np.sqrt(now)) - 2 * np.arcsin(np.sqrt(before)), p_values)


def compare_means(
    means: Float64Array, variances: Float64Array, totals: Float64Array, design_effect: float = 1.0
) -> Comparison:
    """Compare the mean of the last run with that of all runs before it: Welch's test.

    Parameters
    ----------
    means, variances, totals
        Of each run, shape (n_runs,); two tracks a run or more.

    Returns
    -------
    Comparison
        One test; the effect is Cohen's d.
    """
    weights, now = totals[:-1], means[-1:]
    before, within = (np.average(values[:-1], weights=weights, keepdims=True) for values in (means, variances))
    pooled = (within * weights.sum() + variances[-1] * totals[-1]) / totals.sum()
    if pooled[0] <= 0:
        return Comparison(before, now, np.zeros(1), np.ones(1))
    variance = within / weights.sum() + variances[-1] / totals[-1]
    squares = np.nan_to_num(ratio(np.sum(weights * (means[:-1] - before) ** 2, keepdims=True), within))
    p_value = _p_values((now - before) ** 2 / variance, squares, len(weights) - 1, within > 0, design_effect)
    return Comparison(before, now, (now - before) / np.sqrt(pooled), p_value)


def _p_values(
    statistics: Float64Array, squares: Float64Array, degrees: int, varies: BoolArray, design_effect: float
) -> Float64Array:
    """Return the chance of each likelihood-ratio statistic, on one degree of freedom, had nothing moved.

    Parameters
    ----------
    statistics
        Shape (n_tests,).
    squares, degrees
        Pearson's chi-squared of each test between the earlier runs, shape (n_tests,), and its degrees of freedom.
    varies
        Which tests can vary between runs, shape (n_tests,).
    """
    within = np.asarray(stats.chi2.sf(statistics / design_effect, 1))
    if degrees < 1 or not varies.any():
        return within
    usual = max(1.0, float(squares[varies].mean()) / degrees)
    # The others of the kind are the evidence for the usual dispersion; one alone has none but its own.
    prior = min(PRIOR_DEGREES, degrees * (int(varies.sum()) - 1))
    dispersion = np.maximum(1.0, (prior * usual + squares) / (prior + degrees))
    return np.asarray(np.maximum(within, stats.f.sf(statistics / dispersion, 1, prior + degrees)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are, so that one false alarm in all is as rare as stated."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


def _cause(run: RunRecord, before: RunRecord, shifts: list[Shift]) -> str:
    moved = [shift for shift in shifts if shift.moved]
    if not moved:
        return ""
    if all(shift.kind in ("failed", "code") for shift in moved):
        return "Failures come from the files or the store, not from the bundle."
    again = run.why.get("remade", 0) >= SAME_TRACKS * run.prediction_summary.tracks
    if run.bundle_fingerprint == before.bundle_fingerprint:
        if again:
            return "The bundle is the same, and so are most tracks: settings or the version of mgc are not."
        return "The bundle is the same: it is the tracks of this run that differ."
    change = f"the bundle changed from {before.bundle_fingerprint} to {run.bundle_fingerprint}"
    if again:
        return f"The bundle is the cause: {change}, and these tracks had been tagged before."
    return f"It may be the bundle or the tracks: {change}, and most tracks of this run are new or changed."
