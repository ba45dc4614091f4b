"""Reliability: whether stated probabilities mean what they say; selective accuracy: what abstaining gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.evaluation.bootstrap import UNDEFINED, Figure, JsonRecord, Resampling, rounded
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
    counts = np.bincount(bins)
    hits = np.bincount(bins, weights=right)
    claims = np.bincount(bins, weights=confidence)
    reliability = tuple(
        ReliabilityBin(int(n), float(claim / n), wilson_interval(int(hit), int(n), resampling.confidence))
        for n, claim, hit in zip(counts, claims, hits, strict=True)
    )
    gaps = right - confidence
    errors = np.concatenate([calibration_errors(gaps, bins, weights[rows]) for weights in resampling.chunks()])
    floor = _ece_if_perfect(confidence, bins, resampling.seed)
    ece = resampling.corrected_figure(calibration_error(confidence, right), errors, enough=resampling.several(rows))
    return CalibrationMetrics(ece, floor, reliability)


def wilson_interval(hits: int, tracks: int, confidence: float) -> Figure:
    """Return a share with its score interval (Wilson 1927), which has a width even where all are right."""
    ends = binomtest(hits, tracks).proportion_ci(confidence, method="wilson")
    return Figure(hits / tracks, float(ends.low), float(ends.high))


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
        The share right that was to be reached, on the validation split; None: not stated.
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
    confidence: Float64Array, right: BoolArray, below: float, precision: float | None, level: float
) -> Selective:
    """Return the curve of n answers.

    Parameters
    ----------
    confidence, right
        Probability of the chosen genre and whether it was right, shape (n,).
    below, precision
        The bundle's threshold, 0 for none, and what it was chosen for.
    level
        Of the intervals.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    counts = np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], np.ones(min(1, len(ranked)), dtype=bool))
    accuracy = np.cumsum(right[order]) / counts
    abstention = _abstention(confidence, right, below, precision, level) if below > 0 and len(ranked) else None
    return Selective((counts / max(1, len(order)))[ends], accuracy[ends], abstention)


def _abstention(
    confidence: Float64Array, right: BoolArray, below: float, precision: float | None, level: float
) -> Abstention:
    confident = confidence >= below
    answered, tracks = int(confident.sum()), len(confident)
    hits = int((right & confident).sum())
    accuracy = wilson_interval(hits, answered, level) if answered else UNDEFINED
    return Abstention(below, precision, answered, tracks, wilson_interval(answered, tracks, level), accuracy)
