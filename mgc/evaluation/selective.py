"""What keeping silent buys: the share right among the answers that the model is surest of.

Coverage against accuracy (El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017): tracks from the surest down, the share
answered on one axis, the share of those that is right on the other; and where the bundle's own threshold stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.arrays import BoolArray, Float64Array
from mgc.evaluation.bootstrap import UNDEFINED, Figure, rounded
from mgc.evaluation.calibration_metrics import wilson_interval

COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares answered at which the JSON states the accuracy."""


@dataclass(frozen=True)
class Abstention:
    """The bundle's threshold at work on this split.

    Parameters
    ----------
    below
        A genre less probable than this is marked as a guess.
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

    def to_json(self) -> dict[str, object]:
        """Return the figures under the names of the fields."""
        return {
            "below": rounded(self.below),
            "precision": self.precision,
            "answered": self.answered,
            "tracks": self.tracks,
            "coverage": self.coverage.to_json(),
            "accuracy": self.accuracy.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Selective:
    """Coverage against accuracy, one point a distinct confidence.

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

    def to_json(self) -> dict[str, object]:
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
