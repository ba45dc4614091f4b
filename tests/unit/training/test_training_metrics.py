"""The figures that training shows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mgc.config import EvaluationConfig
from mgc.config.taxonomy import UNKNOWN
from mgc.evaluation.bootstrap import make_resampling
from mgc.evaluation.calibration_metrics import measure_calibration
from mgc.training.losses import LabelArrays
from mgc.training.validate import (
    average_precisions,
    genre_accuracy,
    genre_calibration_error,
    genre_log_loss,
    genre_macro_f1,
    genre_rmse,
    tag_macro_average_precision,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]], np.float32)
LABELS = LabelArrays(
    np.array([0, 1, 1, UNKNOWN]),
    np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]], np.float32),
    np.array([True, True, True, False]),
)


def test_genre_figures_over_known_tracks() -> None:
    assert genre_accuracy(PROBABILITIES, LABELS) == pytest.approx(2 / 3)
    assert genre_macro_f1(PROBABILITIES, LABELS) == pytest.approx(2 / 3)
    assert genre_log_loss(PROBABILITIES, LABELS) == pytest.approx(-np.log([0.7, 0.3, 0.8]).mean(), rel=1e-6)


def test_average_precision_over_tags_that_some_but_not_all_have() -> None:
    scores = np.array([[0.9, 0.5, 0.5], [0.8, 0.5, 0.5], [0.7, 0.5, 0.5], [0.0, 0.0, 0.0]], np.float32)
    # Tag 0: right at ranks 1 and 3 of 3, so (1 + 2/3) / 2; tags 1 and 2 have one kind of track only.
    assert tag_macro_average_precision(scores, LABELS) == pytest.approx(5 / 6)


def test_nothing_known_gives_none() -> None:
    unknown = LabelArrays(np.full(4, UNKNOWN), LABELS.tags, np.zeros(4, bool))
    for figure in (
        genre_accuracy,
        genre_macro_f1,
        genre_log_loss,
        genre_calibration_error,
        genre_rmse,
        tag_macro_average_precision,
    ):
        assert figure(PROBABILITIES, unknown) is None


def test_no_vocabulary_gives_none() -> None:
    nothing = np.zeros((4, 0), np.float32)
    labels = LabelArrays(LABELS.genres, nothing, LABELS.tags_known)
    for figure in (
        genre_accuracy,
        genre_macro_f1,
        genre_log_loss,
        genre_calibration_error,
        genre_rmse,
        tag_macro_average_precision,
    ):
        assert figure(nothing, labels) is None


def test_rmse_is_over_all_genres_of_known_tracks() -> None:
    squares = [0.09, 0.04, 0.01, 0.36, 0.49, 0.01, 0.01, 0.04, 0.01]
    assert genre_rmse(PROBABILITIES, LABELS) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


@pytest.mark.parametrize("decimals", [1, 6])
def test_average_precision_of_all_columns_is_scikit_learns(decimals: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((60, 40)).round(decimals).astype(np.float32)  # one decimal: many ties
    truth = (rng.random((60, 40)) < 0.2).astype(np.float32)
    truth[0] = 1.0
    expected = [average_precision_score(truth[:, tag], scores[:, tag]) for tag in range(40)]
    np.testing.assert_allclose(average_precisions(scores, truth), expected, atol=1e-12)


def test_calibration_error_is_that_of_the_evaluation() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], 200)
    truth = rng.integers(0, 3, 200)
    labels = LabelArrays(truth, np.zeros((200, 0), np.float32), np.zeros(200, bool))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    resampling = make_resampling([f"t{row:03d}" for row in range(200)], [""] * 200, EvaluationConfig(), "track")
    expected = measure_calibration(confidence, right, resampling, np.arange(200)).ece.value
    assert genre_calibration_error(probabilities, labels) == pytest.approx(expected)
    sure = np.eye(3)[truth]
    assert genre_calibration_error(sure, labels) == pytest.approx(0.0)
