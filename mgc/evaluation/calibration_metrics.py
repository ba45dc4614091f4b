"""Reliability: whether stated probabilities mean what they say; selective accuracy: what abstaining gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.evaluation.bootstrap import SAME, UNDEFINED, Figure, JsonRecord, Resampling, rounded
from mgc.evaluation.metrics import calibration_error, calibration_errors, equal_mass_bins

FLOOR_DRAWS = 200
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares answered at which the JSON states the accuracy."""


@dataclass(frozen=True)
class ReliabilityBin(JsonRecord):
    """Tracks of like confidence: how many, what they claimed, what share was right (with Wilson's interval)."""

    tracks: int
    confidence: float
    accuracy: Figure


@dataclass(frozen=True)
class CalibrationMetrics(JsonRecord):
    """Expected calibration error of the most probable genre, and the reliability behind it.

    Parameters
    ----------
    ece
        Expected calibration error, 0 to 1. Its interval takes its bias into account.
    ece_if_perfect
        What a model whose probabilities are exact would show on so few tracks, on average: the error is
        biased upwards, and only what lies above this says anything.
    bins
        In order of confidence.
    """

    ece: Figure
    ece_if_perfect: float | None
    bins: tuple[ReliabilityBin, ...]


def measure_calibration(
    confidence: Float64Array, right: BoolArray, resampling: Resampling, rows: npt.NDArray[np.intp]
) -> CalibrationMetrics:
    """Return the calibration of n stated probabilities.

    Parameters
    ----------
    confidence, right
        Probability of the chosen genre and whether it was right, shape (n,).
    resampling, rows
        Resamples of all units, and which of them these n tracks are.
    """
    if not len(confidence):
        return CalibrationMetrics(UNDEFINED, None, ())
    bins = equal_mass_bins(confidence)
    own = [np.flatnonzero(bins == place) for place in range(int(bins.max()) + 1)]
    reliability = tuple(
        ReliabilityBin(len(some), float(confidence[some].mean()), share_right(right[some], resampling, rows[some]))
        for some in own
    )
    gaps = right - confidence
    errors = np.concatenate([calibration_errors(gaps, bins, weights[rows]) for weights in resampling.chunks()])
    floor = _ece_if_perfect(confidence, bins, resampling.seed)
    ece = resampling.corrected_figure(calibration_error(confidence, right), errors, enough=resampling.several(rows))
    return CalibrationMetrics(ece, floor, reliability)


def share_right(right: BoolArray, resampling: Resampling, rows: npt.NDArray[np.intp]) -> Figure:
    """Return a share of n > 0 tracks with Wilson's interval over as many independent ones as their groups leave."""
    size = effective_size(right, resampling.independent[rows])
    return wilson_interval(float(right.mean()) * size, size, resampling.confidence)


def effective_size(right: BoolArray, groups: IntArray) -> float:
    """Return how many independent tracks n > 0 tracks are worth: n over the design effect (Kish 1965).

    Where all are right, or none, nothing tells how alike the tracks of a group are: a group counts once.
    """
    tracks, places = len(right), np.unique(groups, return_inverse=True)[1]
    n_groups, share = int(places.max()) + 1, float(right.mean())
    spread = float(np.square(np.bincount(places, weights=right - share)).sum())
    if n_groups == 1 or spread < SAME:
        return float(n_groups)
    of_single_tracks = share * (1.0 - share) / (tracks - 1)
    of_groups = spread / tracks**2 * n_groups / (n_groups - 1)
    return float(min(tracks, tracks * of_single_tracks / of_groups))


def wilson_interval(hits: float, tracks: float, confidence: float) -> Figure:
    """Return a share with its score interval (Wilson 1927), which has a width even where all are right."""
    z, share = float(norm.isf((1.0 - confidence) / 2)), hits / tracks
    centre, scale = share + z * z / (2 * tracks), 1.0 + z * z / tracks
    half = z * float(np.sqrt(share * (1.0 - share) / tracks + (z / (2 * tracks)) ** 2))
    return Figure(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def _ece_if_perfect(confidence: Float64Array, bins: IntArray, seed: int) -> float:
    generator = np.random.default_rng(seed)
    gaps = [
        np.abs(np.bincount(bins, weights=(generator.random(len(bins)) < confidence) - confidence)).sum()
        for _ in range(FLOOR_DRAWS)
    ]
    return float(np.mean(gaps) / len(confidence))


@dataclass(frozen=True)
class Abstention(JsonRecord):
    """The bundle's threshold at work on this split.

    Parameters
    ----------
    below
        It abstains where its genre is less probable than this.
    precision
        The share right that the bundle promises; None: not stated.
    answered, tracks
        Tracks at or above it, of how many.
    coverage, accuracy
        Share answered; share right of those, each with Wilson's interval. Not defined where nothing is answered.
    """

    below: float
    precision: float | None
    answered: int
    tracks: int
    coverage: Figure
    accuracy: Figure


@dataclass(frozen=True, eq=False)
class Selective(JsonRecord):
    """Coverage against accuracy, one point a distinct confidence (El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017).

    Tracks from the surest down: the share answered, and the share of those that is right.

    Parameters
    ----------
    coverage, accuracy
        Shape (n_points,), coverage rising to 1.
    abstention
        Where the bundle abstains; None where it never does.
    """

    coverage: Float64Array
    accuracy: Float64Array
    abstention: Abstention | None

    def to_json(self) -> dict[str, Any]:
        """Return the accuracy at some coverages, and the abstention."""
        points = {f"{share:g}": self._accuracy_at(share) for share in COVERAGES} if len(self.coverage) else {}
        return {"accuracy_at_coverage": points, "abstention": self.abstention and self.abstention.to_json()}

    def _accuracy_at(self, share: float) -> float | None:
        place = min(int(np.searchsorted(self.coverage, share - 1e-9)), len(self.coverage) - 1)
        return rounded(float(self.accuracy[place]))


def measure_selective(
    confidence: Float64Array,
    right: BoolArray,
    below: float,
    precision: float | None,
    resampling: Resampling,
    rows: npt.NDArray[np.intp],
) -> Selective:
    """Return the curve of n answers.

    Parameters
    ----------
    confidence, right
        Probability of the chosen genre and whether it was right, shape (n,).
    below, precision
        The bundle's threshold, 0 for none, and what it was chosen for.
    resampling, rows
        As in `measure_calibration`.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    counts = np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], np.ones(min(1, len(ranked)), dtype=bool))
    accuracy = np.cumsum(right[order]) / counts
    abstention = None
    if below > 0 and len(ranked):
        abstention = _abstention(confidence >= below, right, below, precision, resampling, rows)
    return Selective((counts / max(1, len(order)))[ends], accuracy[ends], abstention)


def _abstention(
    answered: BoolArray,
    right: BoolArray,
    below: float,
    precision: float | None,
    resampling: Resampling,
    rows: npt.NDArray[np.intp],
) -> Abstention:
    accuracy = share_right(right[answered], resampling, rows[answered]) if answered.any() else UNDEFINED
    coverage = share_right(answered, resampling, rows)
    return Abstention(below, precision, int(answered.sum()), len(answered), coverage, accuracy)
