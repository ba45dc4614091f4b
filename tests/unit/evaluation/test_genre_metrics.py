from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from answer_makers import genre_answers, mixed_answers, one_hot, resampling
from sklearn.metrics import f1_score, precision_recall_fscore_support, top_k_accuracy_score

from mgc.evaluation.answers import OUTSIDE, Failure, LabelledPredictions
from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.genre_metrics import GenreEvaluation, evaluate_genres


def evaluated(answers: LabelledPredictions, samples: int = 200) -> GenreEvaluation:
    found = evaluate_genres(answers, resampling(len(answers) + len(answers.failed), samples))
    assert found is not None
    return found


def test_figures_by_hand() -> None:
    found = evaluated(genre_answers([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], 3))
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    first, second, third = found.classes
    assert (first.support, first.predicted) == (3, 2)
    assert first.precision.value == 1.0
    assert first.recall.value == pytest.approx(2 / 3)
    assert first.f1.value == pytest.approx(0.8)
    assert second.f1.value == pytest.approx(0.5)
    assert third.f1.value == pytest.approx(2 / 3)
    assert found.macro_f1.value == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert found.majority_share == 0.5


def test_agrees_with_scikit_learn_and_intervals_hold_the_value() -> None:
    answers = mixed_answers(200)
    found = evaluated(answers)
    rows = answers.genre_true >= 0
    true, probabilities = answers.genre_true[rows], answers.genre_probabilities[rows]
    predicted = probabilities.argmax(axis=1)
    assert found.tracks == rows.sum()
    assert found.macro_f1.value == pytest.approx(f1_score(true, predicted, average="macro"))
    assert found.top2_accuracy.value == pytest.approx(top_k_accuracy_score(true, probabilities, k=2))
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted)
    for index, one in enumerate(found.classes):
        assert (one.precision.value, one.recall.value, one.f1.value) == pytest.approx(
            (precision[index], recall[index], f1[index])
        )
        for figure in (one.precision, one.recall, one.f1):
            assert figure.low is not None
            assert figure.high is not None
            assert figure.value is not None
            assert figure.low < figure.value < figure.high


def test_replicates_of_the_macro_f1_are_those_of_drawn_tracks() -> None:
    answers = mixed_answers(30)
    drawing = resampling(32, samples=1, seed=3)
    found = evaluate_genres(answers, drawing)
    assert found is not None
    drawn = np.repeat(np.arange(30), next(drawing.chunks())[:30, 0])
    drawn = drawn[answers.genre_true[drawn] >= 0]
    true, predicted = answers.genre_true[drawn], answers.genre_probabilities[drawn].argmax(axis=1)
    assert found.macro_f1.low == pytest.approx(f1_score(true, predicted, labels=np.unique(true), average="macro"))
    assert found.accuracy.low == found.accuracy.high == pytest.approx((true == predicted).mean())


def test_failures_and_unlearned_genres_count_as_wrong_in_one_figure_only() -> None:
    answers = genre_answers(
        [0, 1, -1, OUTSIDE],
        [0, 1, 0, 0],
        2,
        failed=[Failure("f1", "T201", "genre0"), Failure("f2", "T202", None), Failure("f3", "T202", "polka")],
        outside_genres=("polka",),
    )
    found = evaluated(answers)
    assert found.tracks == 2
    assert found.accuracy.value == 1.0
    assert found.tracks_with_failures == 5, "two right, one of a genre never learned, two failed"
    assert found.accuracy_with_failures.value == pytest.approx(2 / 5)


def test_class_without_examples_has_no_figures_and_stays_out_of_the_mean() -> None:
    found = evaluated(genre_answers([0, 0, 1, 1], [0, 2, 1, 1], 4))
    predicted_only, neither = found.classes[2], found.classes[3]
    assert (predicted_only.support, predicted_only.predicted) == (0, 1)
    assert predicted_only.precision.value == 0.0
    assert predicted_only.recall.value is None
    assert predicted_only.f1.value is None
    assert neither.precision.value is None
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1.0) / 2)


def test_class_never_predicted_has_no_precision_and_an_f1_of_zero() -> None:
    found = evaluated(genre_answers([0, 0, 1, 1], [0, 0, 0, 0], 2))
    assert found.classes[1].precision.value is None
    assert found.classes[1].f1.value == 0.0
    assert found.top2_accuracy.value is None, "of two genres the right one is always among the first two"


def test_what_is_stated_has_a_precision_and_a_recall_of_each_genre() -> None:
    answers = genre_answers([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], 2)
    sure = np.array([0.9, 0.6, 0.9, 0.9, 0.9, 0.6])
    answers.genre_probabilities[:] = 0.0
    predicted = np.array([0, 0, 1, 1, 1, 0])
    answers.genre_probabilities[np.arange(6), predicted] = sure
    answers.genre_probabilities[np.arange(6), 1 - predicted] = 1 - sure
    first, second = evaluated(replace(answers, abstain_below=0.8)).classes
    assert (first.stated_precision.value, first.stated_recall.value) == (1.0, pytest.approx(1 / 3))
    assert (second.stated_precision.value, second.stated_recall.value) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert evaluated(answers).classes[0].stated_precision == Figure(None)


def test_one_example_says_next_to_nothing() -> None:
    found = evaluated(genre_answers([0, 0, 0, 1], [0, 0, 1, 1], 2))
    assert found.classes[1].recall.value == 1.0
    assert found.classes[1].recall == Figure(1.0, pytest.approx(0.025), 1.0)
    assert found.classes[1].f1.low is None
    assert found.classes[0].recall.low is not None


def test_one_genre() -> None:
    found = evaluated(genre_answers([0, 0, 0], [0, 0, 0], 1))
    assert found.accuracy.value == 1.0
    assert found.macro_f1.value == 1.0
    assert found.confusion.tolist() == [[3]]
    assert found.mistakes == ()


def test_one_track() -> None:
    found = evaluated(genre_answers([1], [1], 3))
    assert found.accuracy == Figure(1.0, pytest.approx(0.025), 1.0)


def test_nothing_labelled_gives_none() -> None:
    assert evaluate_genres(genre_answers([-1, -1], [0, 1], 2), resampling(2)) is None


def test_mistakes_are_the_most_confident_ones() -> None:
    probabilities = one_hot([1] * 12 + [0], 2)
    probabilities[:, 1] = [0.51 + 0.03 * row for row in range(12)] + [0.2]
    probabilities[:, 0] = 1 - probabilities[:, 1]
    found = evaluated(genre_answers([0] * 13, [0] * 13, 2, genre_probabilities=probabilities))
    assert [one.track_id for one in found.mistakes] == [f"t{row:04}" for row in range(11, 1, -1)]
    worst = found.mistakes[0]
    assert (worst.genre, worst.predicted) == ("genre0", "genre1")
    assert (worst.confidence, worst.true_probability) == pytest.approx((0.84, 0.16))


def test_histograms_count_each_track_once() -> None:
    found = evaluated(mixed_answers(80))
    assert found.histogram_right.sum() + found.histogram_wrong.sum() == found.tracks
    assert found.histogram_right.sum() == np.trace(found.confusion)
