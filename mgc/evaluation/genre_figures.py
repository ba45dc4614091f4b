"""The genre figures of one split, and their JSON form."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.arrays import IntArray
from mgc.evaluation.bootstrap import Figure, rounded
from mgc.evaluation.calibration_metrics import CalibrationMetrics
from mgc.evaluation.selective import Selective


@dataclass(frozen=True)
class ClassFigures:
    """One genre: its examples, how often it was predicted, and its figures."""

    genre: str
    support: int
    predicted: int
    precision: Figure
    recall: Figure
    f1: Figure


@dataclass(frozen=True)
class Mistake:
    """A track that was given the wrong genre, and the probability stated for it and for the right one."""

    track_id: str
    genre: str
    predicted: str
    confidence: float
    true_probability: float


@dataclass(frozen=True, eq=False)
class GenreEvaluation:
    """The genre figures of one split.

    Parameters
    ----------
    tracks
        Answered tracks whose genre is known and in the vocabulary: what all figures but one are over.
    tracks_with_failures
        The same, and failed tracks with a known genre, and tracks of a genre the model never learned.
    accuracy
        Share right of `tracks`.
    accuracy_with_failures
        Share right of `tracks_with_failures`: no answer is a wrong answer.
    majority_share
        What always naming the commonest genre would reach.
    macro_f1
        Mean F1 over classes that have examples.
    top2_accuracy
        Share whose genre is among the two most probable; not defined below three genres.
    confusion
        Tracks, shape (n_genres, n_genres): rows the truth, columns the answer.
    histogram_right, histogram_wrong
        Tracks by confidence in 20 equal bins over [0, 1].
    mistakes
        The ten most confident ones.
    selective
        Accuracy against the share answered.
    """

    genres: tuple[str, ...]
    tracks: int
    tracks_with_failures: int
    accuracy: Figure
    accuracy_with_failures: Figure
    majority_share: float
    macro_f1: Figure
    top2_accuracy: Figure
    classes: tuple[ClassFigures, ...]
    confusion: IntArray
    calibration: CalibrationMetrics
    histogram_right: IntArray
    histogram_wrong: IntArray
    mistakes: tuple[Mistake, ...]
    selective: Selective

    def to_json(self) -> dict[str, object]:
        """Return the figures under the names of the fields."""
        figures = ("accuracy", "accuracy_with_failures", "macro_f1", "top2_accuracy")
        classes = [
            {
                "genre": one.genre,
                "support": one.support,
                "predicted": one.predicted,
                **{name: getattr(one, name).to_json() for name in ("precision", "recall", "f1")},
            }
            for one in self.classes
        ]
        return {
            "genres": list(self.genres),
            "tracks": self.tracks,
            "tracks_with_failures": self.tracks_with_failures,
            **{name: getattr(self, name).to_json() for name in figures},
            "majority_share": rounded(self.majority_share),
            "classes": classes,
            "confusion": self.confusion.tolist(),
            "calibration": self.calibration.to_json(),
            "selective": self.selective.to_json(),
            "confidence_histogram": {
                "right": self.histogram_right.tolist(),
                "wrong": self.histogram_wrong.tolist(),
            },
            "mistakes": [
                {
                    "track_id": one.track_id,
                    "genre": one.genre,
                    "predicted": one.predicted,
                    "confidence": rounded(one.confidence),
                    "true_probability": rounded(one.true_probability),
                }
                for one in self.mistakes
            ],
        }
