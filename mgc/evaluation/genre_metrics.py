"""Genre, one a track: accuracy, F1, confusion, and how sure the model was when it was wrong.

Class figures follow scikit-learn, but for one thing: what is not defined is None, not 0 (`GenreStatistics`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.evaluation.answers import LabelledPredictions, known_genre, predicted_genres
from mgc.evaluation.bootstrap import UNDEFINED, Figure, JsonRecord, Resampling, ratio
from mgc.evaluation.calibration_metrics import (
    CalibrationMetrics,
    Selective,
    measure_calibration,
    measure_selective,
    share_right,
)
from mgc.evaluation.metrics import GenreStatistics, confusion_matrix, genre_statistics, unweighted

MISTAKES_SHOWN = 10
HISTOGRAM_BINS = 20
CLASS_FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class ClassFigures(JsonRecord):
    """One genre: its examples, how often it was predicted, and its figures.

    `stated_precision` and `stated_recall` are those of the answers that are not abstained, with Wilson's interval;
    not defined where the bundle never abstains.
    """

    genre: str
    support: int
    predicted: int
    precision: Figure
    recall: Figure
    f1: Figure
    stated_precision: Figure = UNDEFINED
    stated_recall: Figure = UNDEFINED


@dataclass(frozen=True)
class Mistake(JsonRecord):
    """A track whose predicted genre is wrong, and the probability stated for it and for the right one."""

    track_id: str
    genre: str
    predicted: str
    confidence: float
    true_probability: float


@dataclass(frozen=True, eq=False)
class GenreEvaluation(JsonRecord):
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

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names of the fields, both histograms as `confidence_histogram`."""
        value = super().to_json()
        sides = {side: value.pop(f"histogram_{side}") for side in ("right", "wrong")}
        return value | {"confidence_histogram": sides}


@dataclass(frozen=True, eq=False)
class _GenrePredictions:
    """Predictions for the answered tracks with a known genre; `rows` are their units."""

    rows: npt.NDArray[np.intp]
    true: IntArray
    predicted: IntArray
    confidence: Float64Array
    right: BoolArray
    in_top2: BoolArray

    @classmethod
    def of(cls, answers: LabelledPredictions) -> _GenrePredictions:
        rows = np.flatnonzero(answers.labelled)
        true, probabilities = answers.genre_true[rows], answers.genre_probabilities[rows]
        predicted = predicted_genres(probabilities)
        first_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        in_top2 = np.asarray((first_two == true[:, None]).any(axis=1))
        return cls(rows, true, predicted, probabilities[np.arange(len(rows)), predicted], predicted == true, in_top2)


def evaluate_genres(answers: LabelledPredictions, resampling: Resampling) -> GenreEvaluation | None:
    """Return the genre figures; None where no answered track has a genre that the model knows.

    Parameters
    ----------
    answers
        In track order.
    resampling
        Of the answered tracks, then the failed ones.
    """
    if not answers.labelled.any():
        return None
    predictions, has_label, n_genres = _GenrePredictions.of(answers), _has_label(answers), len(answers.genres)
    true, predicted = predictions.true, predictions.predicted
    exact = genre_statistics(true, predicted, n_genres, unweighted(len(true)))
    replicates = _replicates(predictions, has_label, n_genres, resampling)
    headline = {
        "accuracy": float(exact.accuracy[0]),
        "accuracy_with_failures": float(predictions.right.sum() / has_label.sum()),
        "top2_accuracy": float(predictions.in_top2.mean()) if n_genres > 2 else None,
    }
    rows, units = predictions.rows, np.flatnonzero(has_label)
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    return GenreEvaluation(
        genres=tuple(answers.genres),
        tracks=len(rows),
        tracks_with_failures=len(units),
        macro_f1=resampling.figure(float(exact.macro_f1[0]), replicates["macro_f1"], enough=resampling.several(rows)),
        **{
            name: resampling.share(value, replicates[name], units if name == "accuracy_with_failures" else rows)
            for name, value in headline.items()
        },
        majority_share=float(np.bincount(true).max() / len(true)),
        classes=_classes(answers.genres, predictions, resampling, exact, replicates, answers.abstain_below),
        confusion=confusion_matrix(true, predicted, n_genres),
        calibration=measure_calibration(predictions.confidence, predictions.right, resampling, rows),
        histogram_right=np.histogram(predictions.confidence[predictions.right], edges)[0],
        histogram_wrong=np.histogram(predictions.confidence[~predictions.right], edges)[0],
        mistakes=_mistakes(answers, predictions),
        selective=measure_selective(
            predictions.confidence,
            predictions.right,
            answers.abstain_below,
            answers.abstain_precision,
            resampling,
            rows,
        ),
    )


def _has_label(answers: LabelledPredictions) -> BoolArray:
    """Return which units, answered then failed, have a genre label and so deserve a right answer."""
    failed = np.array([failure.genre is not None for failure in answers.failed], dtype=bool)
    return np.concatenate([known_genre(answers.genre_true), failed])


def _replicates(
    predictions: _GenrePredictions, has_label: BoolArray, n_genres: int, resampling: Resampling
) -> dict[str, Float64Array]:
    """Return each figure in each resample; class figures have shape (n_genres, samples)."""
    found: dict[str, list[Float64Array]] = defaultdict(list)
    for weights in resampling.chunks():
        drawn = weights[predictions.rows]
        statistics = genre_statistics(predictions.true, predictions.predicted, n_genres, drawn)
        right, in_top2, total, labelled = (
            counted.sum(axis=0, dtype=np.float64)
            for counted in (drawn[predictions.right], drawn[predictions.in_top2], drawn, weights[has_label])
        )
        found["accuracy_with_failures"].append(ratio(right, labelled))
        found["top2_accuracy"].append(ratio(in_top2, total))
        for name in ("accuracy", "macro_f1", *CLASS_FIGURES):
            found[name].append(getattr(statistics, name))
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def _classes(
    genres: Sequence[str],
    predictions: _GenrePredictions,
    resampling: Resampling,
    exact: GenreStatistics,
    replicates: dict[str, Float64Array],
    abstain_below: float,
) -> tuple[ClassFigures, ...]:
    made = []
    stated = predictions.confidence >= abstain_below
    right = predictions.right & stated

    def share(among: BoolArray) -> Figure:
        if abstain_below <= 0 or not among.any():
            return UNDEFINED
        return share_right(right[among], resampling, predictions.rows[among])

    for index, genre in enumerate(genres):
        examples = predictions.rows[predictions.true == index]
        named = predictions.rows[predictions.predicted == index]
        value = {name: float(getattr(exact, name)[index, 0]) for name in CLASS_FIGURES}
        drawn = {name: replicates[name][index] for name in CLASS_FIGURES}
        precision = resampling.share(value["precision"], drawn["precision"], named)
        recall = resampling.share(value["recall"], drawn["recall"], examples)
        f1 = resampling.figure(value["f1"], drawn["f1"], enough=resampling.several(examples))
        of_stated = share((predictions.predicted == index) & stated), share(predictions.true == index)
        made.append(ClassFigures(genre, len(examples), len(named), precision, recall, f1, *of_stated))
    return tuple(made)


def _mistakes(answers: LabelledPredictions, predictions: _GenrePredictions) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~predictions.right)
    worst = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:MISTAKES_SHOWN]
    return tuple(
        Mistake(
            track_id=answers.track_ids[int(predictions.rows[index])],
            genre=answers.genres[int(predictions.true[index])],
            predicted=answers.genres[int(predictions.predicted[index])],
            confidence=float(predictions.confidence[index]),
            true_probability=float(answers.genre_probabilities[predictions.rows[index], predictions.true[index]]),
        )
        for index in worst
    )
