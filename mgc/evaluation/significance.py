"""Did a count or a mean move more than chance? Tests for runs that are themselves not quite alike.

Tracks come by albums and artists, so that shares vary between nights by more than a draw of single tracks would.
That is measured twice, and the statistics are divided by it. Within a run: how alike the tracks of a folder are, the
design effect (Kish 1965; Rao & Scott 1987). Between runs, where there are several: quasi-likelihood with a dispersion
(McCullagh & Nelder 1989, ch. 4), each one's own drawn towards the mean of its family as Smyth (2004) does for genes,
because few runs tell little of one tag. The larger of the two p-values counts. With counts below five Fisher's exact
test has a say, and the p-values of all questions of a run are corrected together (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mgc.arrays import BoolArray, Float64Array
from mgc.config import EvaluationConfig
from mgc.errors import SplitError
from mgc.evaluation.answers import LabelledPredictions, predicted_genres
from mgc.evaluation.bootstrap import UNDEFINED, Figure, Resample, Resampling, make_resampling, ratio
from mgc.evaluation.evaluate import Evaluation, evaluate

PRIOR_DEGREES = 20
"""Of freedom, at most, that the family's dispersion counts as beside a single question's own."""

SMALL_COUNT = 5.0


@dataclass(frozen=True)
class Dispersion:
    """How much more runs differ than single tracks would make them.

    Parameters
    ----------
    value, degrees
        Seen between runs, and on how many degrees of freedom.
    within
        Seen within runs: the design effect of folders.
    """

    value: float = 1.0
    degrees: float = np.inf
    within: float = 1.0

    def p_value(self, statistic: float, degrees: int) -> float:
        """Return the chance of a likelihood-ratio statistic as large, had nothing moved."""
        statistic = max(statistic, 0.0)
        if degrees < 1:
            return 1.0
        within = float(stats.chi2.sf(statistic / self.within, degrees))
        if np.isinf(self.degrees):
            return within
        return max(within, float(stats.f.sf(statistic / self.value / degrees, degrees, self.degrees)))


@dataclass(frozen=True)
class SignificanceResult:
    """One question's answer: p-value before correction, and the size of the effect (Cohen 1988)."""

    p_value: float
    effect: float


def dispersions(counts: Float64Array, totals: Float64Array, within: float = 1.0) -> list[Dispersion]:
    """Return the dispersion of each share over runs, drawn towards that of all.

    Parameters
    ----------
    counts
        Tracks that have something, shape (n_runs, n_questions).
    totals
        Tracks of each run, shape (n_runs,).
    within
        Design effect of folders.
    """
    used = totals > 0
    counts, totals = counts[used], totals[used]
    share = counts.sum(axis=0) / max(totals.sum(), 1.0)
    spread = np.outer(totals, share * (1 - share))
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(spread > 0, (counts - np.outer(totals, share)) ** 2 / spread, 0.0)
    return _moderated(squares.sum(axis=0), len(totals) - 1, spread.sum(axis=0) > 0, within)


def mean_dispersion(
    means: Float64Array, variances: Float64Array, totals: Float64Array, within: float = 1.0
) -> Dispersion:
    """Return how much more the means of runs differ than their tracks' variance would make them."""
    used = totals > 1
    means, variances, totals = means[used], variances[used], totals[used]
    variance = float(np.average(variances, weights=totals)) if len(totals) else 0.0
    if variance <= 0:
        return Dispersion(within=within)
    middle = np.average(means, weights=totals)
    squares = np.array([np.sum(totals * (means - middle) ** 2) / variance])
    return _moderated(squares, len(totals) - 1, np.array([True]), within)[0]


def _moderated(squares: Float64Array, degrees: int, tested: npt.NDArray[np.bool_], within: float) -> list[Dispersion]:
    if degrees < 1 or not tested.any():
        return [Dispersion(within=within)] * len(squares)
    family = max(1.0, float(squares[tested].mean()) / degrees)
    # The others of the family are the evidence for it; one alone has none but its own.
    prior = min(PRIOR_DEGREES, degrees * (int(tested.sum()) - 1))
    values = (prior * family + squares) / (prior + degrees)
    return [Dispersion(max(1.0, float(value)), float(prior + degrees), within) for value in values]


def compare_shares(
    before: float, before_total: float, now: float, now_total: float, spread: Dispersion | None = None
) -> SignificanceResult:
    """Compare two shares: G-test of a 2 x 2 table; the effect is Cohen's h, the difference of arcsines."""
    table = np.array([[before, before_total - before], [now, now_total - now]])
    effect = 2 * np.arcsin(np.sqrt(now / now_total)) - 2 * np.arcsin(np.sqrt(before / before_total))
    p_value = (spread or Dispersion()).p_value(g_statistic(table), 1)
    if _expected(table).min() < SMALL_COUNT:
        p_value = max(p_value, float(stats.fisher_exact(table.astype(np.int64)).pvalue))
    return SignificanceResult(p_value, float(effect))


def compare_distributions(
    before: Float64Array, now: Float64Array, spreads: Sequence[Dispersion]
) -> SignificanceResult:
    """Compare two sets of counts over the same names: G-test; the effect is Cohen's w.

    Names too rare to be expected five times are counted as one.
    """
    table = np.stack([before, now])
    rare = _expected(table).min(axis=0) < SMALL_COUNT
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return SignificanceResult(1.0, 0.0)
    first = spreads[0]
    spread = Dispersion(float(np.mean([one.value for one in spreads])), first.degrees, first.within)
    shares = table / table.sum(axis=1, keepdims=True)
    usual = np.maximum(shares[0], 0.5 / table[0].sum())
    effect = float(np.sqrt(np.sum((shares[1] - shares[0]) ** 2 / usual)))
    return SignificanceResult(spread.p_value(g_statistic(table), table.shape[1] - 1), effect)


def compare_means(
    before: tuple[float, float, float], now: tuple[float, float, float], spread: Dispersion | None = None
) -> SignificanceResult:
    """Compare two means, each given as (mean, variance, n): Welch's test; the effect is Cohen's d."""
    variance = before[1] / before[2] + now[1] / now[2]
    pooled = (before[1] * before[2] + now[1] * now[2]) / (before[2] + now[2])
    if variance <= 0 or pooled <= 0:
        return SignificanceResult(1.0, 0.0)
    difference = now[0] - before[0]
    return SignificanceResult(
        (spread or Dispersion()).p_value(difference**2 / variance, 1), float(difference / np.sqrt(pooled))
    )


def g_statistic(table: Float64Array) -> float:
    """Return twice the log-likelihood ratio of a contingency table against independence."""
    expected = _expected(table)
    used = table > 0
    return float(2 * np.sum(table[used] * np.log(table[used] / expected[used])))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are, so that one false alarm in all is as rare as stated."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


def _expected(table: Float64Array) -> Float64Array:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum(), dtype=np.float64)


# Two systems on the same tracks: is one better, or only luckier?
#
# The bootstrap is paired: a resample draws tracks, and both systems answer the same ones, so that what is hard
# for both cancels. That is a far sharper question than whether two intervals overlap.


@dataclass(frozen=True)
class BaselineComparison:
    """A system beside its baseline, on the tracks that both answered.

    Parameters
    ----------
    baseline
        What it is, in a few words.
    evaluation
        The baseline's own figures.
    tracks
        Tracks with a known genre that both answered.
    accuracy_difference
        Accuracy of the system minus that of the baseline on these, with its paired interval; not defined where
        there are none.
    only_ours_right, only_baseline_right
        Tracks that tell the two apart.
    details
        How the baseline was fitted, in the report's words.
    """

    baseline: str
    evaluation: Evaluation
    tracks: int
    accuracy_difference: Figure
    only_ours_right: int
    only_baseline_right: int
    details: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the comparison under the names of the fields."""
        return {
            "baseline": self.baseline,
            "details": self.details,
            "tracks": self.tracks,
            "accuracy_difference": self.accuracy_difference.to_json(),
            "only_ours_right": self.only_ours_right,
            "only_baseline_right": self.only_baseline_right,
            "evaluation": self.evaluation.to_json(),
        }


def compare(
    ours: LabelledPredictions,
    baseline: LabelledPredictions,
    config: EvaluationConfig,
    *,
    name: str,
    details: str = "",
    resample: Resample = "track",
) -> BaselineComparison:
    """Return the paired comparison of accuracy, with the baseline's figures.

    Raises
    ------
    SplitError
        There is no track that both answered, or the baseline answered none that is labelled.
    """
    both = set(ours.track_ids) & set(baseline.track_ids)
    if not both:
        raise SplitError(
            f"no track was answered by both the ensemble and '{name}'",
            "evaluate both on the same split of the same catalogue",
        )
    here, there = _rightness(ours), _rightness(baseline)
    shared = sorted(here.keys() & there.keys())
    ours_right = np.array([here[track] for track in shared], dtype=bool)
    baseline_right = np.array([there[track] for track in shared], dtype=bool)
    group_of = dict(zip(ours.track_ids, ours.groups, strict=True))
    groups = [group_of[track] for track in shared]
    return BaselineComparison(
        baseline=name,
        evaluation=evaluate(baseline, config, resample),
        tracks=len(shared),
        accuracy_difference=_paired_difference(
            ours_right, baseline_right, make_resampling(shared, groups, config, resample) if shared else None
        ),
        only_ours_right=_count(ours_right & ~baseline_right),
        only_baseline_right=_count(baseline_right & ~ours_right),
        details=details,
    )


def _paired_difference(ours_right: BoolArray, baseline_right: BoolArray, resampling: Resampling | None) -> Figure:
    """Return the difference of two accuracies over the same tracks; not defined without any."""
    if resampling is None:
        return UNDEFINED
    gain = ours_right.astype(np.int64) - baseline_right
    replicates = np.concatenate(
        [
            ratio((weights * gain[:, None]).sum(axis=0, dtype=np.float64), weights.sum(axis=0, dtype=np.float64))
            for weights in resampling.chunks()
        ]
    )
    enough = len(np.unique(resampling.clusters)) > 1
    return resampling.figure(float(gain.mean()), replicates, enough=enough)


def _rightness(answers: LabelledPredictions) -> dict[str, bool]:
    """Return track id → right, for the tracks whose genre is known and in the vocabulary."""
    if not answers.genres:
        return {}
    right = predicted_genres(answers.genre_probabilities) == answers.genre_true
    return {
        track: bool(is_right)
        for track, is_right, known in zip(answers.track_ids, right, answers.labelled, strict=True)
        if known
    }


def _count(mask: BoolArray) -> int:
    return int(np.count_nonzero(mask))
