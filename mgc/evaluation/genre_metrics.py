"""Genre, one a track: accuracy, F1, confusion, and how sure the model was when it was wrong.

Class figures follow scikit-learn, but for one thing: what is not defined is None, not 0. A class without
examples has no recall and no F1 and stays out of the macro mean; a class that was never predicted has no
precision, and an F1 of 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from mgc.evaluation.answers import Answers, BoolArray, FloatArray, IntArray, guessed_genres, known_genre
from mgc.evaluation.bootstrap import Resampling, mean_of_defined, ratio, sums_by_cell
from mgc.evaluation.calibration_metrics import calibration_of
from mgc.evaluation.genre_figures import ClassFigures, GenreEvaluation, Mistake
from mgc.evaluation.selective import selective_of

MISTAKES_SHOWN = 10
HISTOGRAM_BINS = 20


@dataclass(frozen=True, eq=False)
class _Guesses:
    """What was guessed for the answered tracks with a known genre; `rows` are their units."""

    rows: npt.NDArray[np.intp]
    true: IntArray
    guess: IntArray
    confidence: FloatArray
    right: BoolArray
    in_top2: BoolArray

    @classmethod
    def of(cls, answers: Answers) -> _Guesses:
        rows = np.flatnonzero(answers.labelled)
        true, probabilities = answers.genre_true[rows], answers.genre_probabilities[rows]
        guess = guessed_genres(probabilities)
        first_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        in_top2 = np.asarray((first_two == true[:, None]).any(axis=1))
        return cls(rows, true, guess, probabilities[np.arange(len(rows)), guess], guess == true, in_top2)


def evaluate_genres(answers: Answers, resampling: Resampling) -> GenreEvaluation | None:
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
    guesses, asked, n_genres = _Guesses.of(answers), _asked(answers), len(answers.genres)
    replicates = _replicates(guesses, asked, n_genres, resampling)
    classes = _classes(answers.genres, guesses, resampling, replicates)
    headline = {
        "accuracy": float(guesses.right.mean()),
        "accuracy_with_failures": float(guesses.right.sum() / asked.sum()),
        "macro_f1": float(np.mean([one.f1.value for one in classes if one.f1.value is not None])),
        "top2_accuracy": float(guesses.in_top2.mean()) if n_genres > 2 else None,
    }
    several = _several(resampling, guesses.rows)
    cells = guesses.true * n_genres + guesses.guess
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    return GenreEvaluation(
        genres=tuple(answers.genres),
        tracks=len(guesses.rows),
        tracks_with_failures=int(asked.sum()),
        **{name: resampling.figure(value, replicates[name], enough=several) for name, value in headline.items()},
        majority_share=float(np.bincount(guesses.true).max() / len(guesses.rows)),
        classes=classes,
        confusion=np.bincount(cells, minlength=n_genres**2).reshape(n_genres, n_genres),
        calibration=calibration_of(guesses.confidence, guesses.right, resampling, guesses.rows),
        histogram_right=np.histogram(guesses.confidence[guesses.right], edges)[0],
        histogram_wrong=np.histogram(guesses.confidence[~guesses.right], edges)[0],
        mistakes=_mistakes(answers, guesses),
        selective=selective_of(
            guesses.confidence,
            guesses.right,
            answers.abstain_below,
            answers.abstain_precision,
            resampling.confidence,
        ),
    )


def _asked(answers: Answers) -> BoolArray:
    """Return which units, answered then failed, have a genre label and so deserve a right answer."""
    failed = np.array([failure.genre is not None for failure in answers.failed], dtype=bool)
    return np.concatenate([known_genre(answers.genre_true), failed])


def _replicates(guesses: _Guesses, asked: BoolArray, n_genres: int, resampling: Resampling) -> dict[str, FloatArray]:
    """Return each figure in each resample; class figures have shape (n_genres, samples)."""
    cells = guesses.true * n_genres + guesses.guess
    found: dict[str, list[FloatArray]] = defaultdict(list)
    for weights in resampling.chunks():
        drawn = weights[guesses.rows]
        confusion = sums_by_cell(cells, drawn, n_genres**2).reshape(n_genres, n_genres, -1)
        hits, support, predicted = np.einsum("iib->ib", confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        total, right = support.sum(axis=0), hits.sum(axis=0)
        f1 = np.where(support > 0, ratio(2 * hits, support + predicted), np.nan)
        found["accuracy"].append(ratio(right, total))
        found["accuracy_with_failures"].append(ratio(right, weights[asked].sum(axis=0, dtype=np.float64)))
        found["top2_accuracy"].append(ratio(drawn[guesses.in_top2].sum(axis=0, dtype=np.float64), total))
        found["macro_f1"].append(mean_of_defined(f1))
        found["f1"].append(f1)
        found["precision"].append(ratio(hits, predicted))
        found["recall"].append(ratio(hits, support))
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def _classes(
    genres: Sequence[str], guesses: _Guesses, resampling: Resampling, replicates: dict[str, FloatArray]
) -> tuple[ClassFigures, ...]:
    points = precision_recall_fscore_support(
        guesses.true, guesses.guess, labels=range(len(genres)), zero_division=np.nan
    )
    made = []
    for index, genre in enumerate(genres):
        examples, named = guesses.rows[guesses.true == index], guesses.rows[guesses.guess == index]
        precision, recall, f1 = (
            resampling.figure(
                float(point[index]) if len(over) else None,
                replicates[name][index],
                enough=_several(resampling, over),
            )
            for name, point, over in zip(
                ("precision", "recall", "f1"), points[:3], (named, examples, examples), strict=True
            )
        )
        made.append(ClassFigures(genre, len(examples), len(named), precision, recall, f1))
    return tuple(made)


def _several(resampling: Resampling, rows: npt.NDArray[np.intp]) -> bool:
    """Return whether there is anything to resample: at least two tracks or groups that differ."""
    return len(np.unique(resampling.clusters[rows])) > 1


def _mistakes(answers: Answers, guesses: _Guesses) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~guesses.right)
    worst = wrong[np.argsort(-guesses.confidence[wrong], kind="stable")][:MISTAKES_SHOWN]
    return tuple(
        Mistake(
            track_id=answers.track_ids[int(guesses.rows[index])],
            genre=answers.genres[int(guesses.true[index])],
            predicted=answers.genres[int(guesses.guess[index])],
            confidence=float(guesses.confidence[index]),
            true_probability=float(answers.genre_probabilities[guesses.rows[index], guesses.true[index]]),
        )
        for index in worst
    )
