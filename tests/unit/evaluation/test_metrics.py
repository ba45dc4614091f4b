"""Every metric by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from answer_makers import resampling
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, log_loss, roc_auc_score

from mgc.config.taxonomy import UNKNOWN
from mgc.evaluation import metrics
from mgc.evaluation.calibration_metrics import measure_calibration
from mgc.evaluation.metrics import RankedScores, rank_tags, ranking_figures, tag_ranking_figures, unweighted

GENRE_FIGURES = (
    metrics.genre_accuracy,
    metrics.genre_macro_f1,
    metrics.genre_log_loss,
    metrics.genre_calibration_error,
    metrics.genre_rmse,
)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]], np.float32)
TRUE = np.array([0, 1, 1, UNKNOWN])
TAGS = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]], np.float32)
TAGS_KNOWN = np.array([True, True, True, False])


def test_genre_figures_over_known_tracks() -> None:
    assert metrics.genre_accuracy(PROBABILITIES, TRUE) == pytest.approx(2 / 3)
    assert metrics.genre_macro_f1(PROBABILITIES, TRUE) == pytest.approx(2 / 3)
    assert metrics.genre_log_loss(PROBABILITIES, TRUE) == pytest.approx(-np.log([0.7, 0.3, 0.8]).mean(), rel=1e-6)


def test_genre_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    probabilities, true = rng.dirichlet([0.5] * 6, 200), rng.integers(-1, 5, 200)
    known = true >= 0
    predicted = probabilities[known].argmax(axis=1)
    f1 = f1_score(true[known], predicted, labels=np.unique(true[known]), average="macro", zero_division=0.0)
    assert metrics.genre_macro_f1(probabilities, true) == pytest.approx(f1, abs=1e-12)
    expected = log_loss(true[known], probabilities[known], labels=range(6))
    assert metrics.genre_log_loss(probabilities, true) == pytest.approx(expected, abs=1e-12)
    matrix = confusion_matrix(true[known], predicted, labels=range(6))
    assert (metrics.confusion_matrix(true[known], predicted, 6) == matrix).all()


def test_average_precision_over_tags_that_some_but_not_all_have() -> None:
    scores = np.array([[0.9, 0.5, 0.5], [0.8, 0.5, 0.5], [0.7, 0.5, 0.5], [0.0, 0.0, 0.0]], np.float32)
    # Tag 0: right at ranks 1 and 3 of 3, so (1 + 2/3) / 2; tags 1 and 2 have one kind of track only.
    assert metrics.tag_macro_average_precision(scores, TAGS, TAGS_KNOWN) == pytest.approx(5 / 6)


def test_nothing_known_gives_none() -> None:
    for figure in GENRE_FIGURES:
        assert figure(PROBABILITIES, np.full(4, UNKNOWN)) is None
    assert metrics.tag_macro_average_precision(PROBABILITIES, TAGS, np.zeros(4, bool)) is None


def test_no_vocabulary_gives_none() -> None:
    nothing = np.zeros((4, 0), np.float32)
    for figure in GENRE_FIGURES:
        assert figure(nothing, TRUE) is None
    assert metrics.tag_macro_average_precision(nothing, nothing, TAGS_KNOWN) is None


def test_rmse_is_over_all_genres_of_known_tracks() -> None:
    squares = [0.09, 0.04, 0.01, 0.36, 0.49, 0.01, 0.01, 0.04, 0.01]
    assert metrics.genre_rmse(PROBABILITIES, TRUE) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


@pytest.mark.parametrize("decimals", [1, 6])
def test_average_precision_of_all_columns_is_scikit_learns(decimals: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((60, 40)).round(decimals).astype(np.float32)  # one decimal: many ties
    truth = rng.random((60, 40)) < 0.2
    truth[0] = True
    expected = [average_precision_score(truth[:, tag], scores[:, tag]) for tag in range(40)]
    found = tag_ranking_figures(rank_tags(scores, truth), unweighted(60)).average_precision[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_calibration_error_is_that_of_the_evaluation() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], 200)
    truth = rng.integers(0, 3, 200)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    expected = measure_calibration(confidence, right, resampling(200), np.arange(200)).ece.value
    assert metrics.genre_calibration_error(probabilities, truth) == pytest.approx(expected)
    assert metrics.genre_calibration_error(np.eye(3)[truth], truth) == pytest.approx(0.0)


def test_sums_by_cell_adds_rows_of_a_cell() -> None:
    cells = np.array([2, 0, 2])
    values = np.array([[1, 10], [2, 20], [4, 40]])
    assert metrics.sums_by_cell(cells, values, 4).tolist() == [[2, 20], [0, 0], [5, 50], [0, 0]]
    assert metrics.sums_by_cell(np.array([], dtype=np.int64), np.zeros((0, 2)), 2).tolist() == [[0, 0], [0, 0]]


def figures_of(scores: list[float], truth: list[int], weights: list[int]) -> tuple[float, float]:
    ranked = RankedScores.of(np.array(scores, dtype=float), np.array(truth, dtype=bool))
    found = ranking_figures(ranked, np.array(weights, dtype=np.int32)[:, None])
    return float(found.roc_auc[0]), float(found.average_precision[0])


def test_known_order() -> None:
    # positives at places 1 and 3 of 4: AP = (1/1 + 2/3) / 2; of 4 pairs one is in the wrong order
    roc, precision = figures_of([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], [1, 1, 1, 1])
    assert roc == pytest.approx(3 / 4)
    assert precision == pytest.approx((1 + 2 / 3) / 2)


def test_ties_are_one_threshold() -> None:
    roc, precision = figures_of([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], [1, 1, 1, 1])
    assert roc == pytest.approx(0.5)
    assert precision == pytest.approx(0.25)


def test_without_positives_or_negatives_nothing_is_defined() -> None:
    for truth, weights in (([1, 0], [0, 1]), ([1, 0], [1, 0]), ([1, 1], [1, 1])):
        assert np.isnan(figures_of([0.2, 0.1], truth, weights)).all()


@given(st.data())
def test_agrees_with_scikit_learn_on_weighted_and_tied_scores(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 25))
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0]), min_size=n, max_size=n))
    truth = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    drawn = np.repeat(np.arange(n), weights)
    roc, precision = figures_of(scores, truth, weights)
    labels = np.array(truth)[drawn]
    if len(set(labels.tolist())) < 2:
        assert np.isnan(roc)
        assert np.isnan(precision)
        return
    assert roc == pytest.approx(roc_auc_score(labels, np.array(scores)[drawn]))
    assert precision == pytest.approx(average_precision_score(labels, np.array(scores)[drawn]))
