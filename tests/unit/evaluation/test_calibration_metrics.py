from __future__ import annotations

import numpy as np
import pytest
from answer_makers import resampling
from scipy.stats import binomtest

from mgc.config import EvaluationConfig
from mgc.evaluation.bootstrap import make_resampling
from mgc.evaluation.calibration_metrics import (
    CalibrationMetrics,
    Selective,
    effective_size,
    measure_calibration,
    measure_selective,
    wilson_interval,
)
from mgc.evaluation.metrics import equal_mass_bins


def calibrated(confidence: np.ndarray, right: np.ndarray, samples: int = 200) -> CalibrationMetrics:
    return measure_calibration(confidence, right, resampling(len(right), samples), np.arange(len(right)))


def selective(confidence: np.ndarray, right: np.ndarray, below: float, precision: float | None) -> Selective:
    return measure_selective(
        confidence, right, below, precision, resampling(max(1, len(right))), np.arange(len(right))
    )


def test_bins_hold_equally_many_tracks_in_order_of_confidence() -> None:
    confidence = np.random.default_rng(0).random(300)
    bins = equal_mass_bins(confidence)
    assert np.bincount(bins).tolist() == [20] * 15
    assert (np.diff(bins[np.argsort(confidence)]) >= 0).all()


def test_few_tracks_have_fewer_bins() -> None:
    assert np.bincount(equal_mass_bins(np.linspace(0, 1, 23))).tolist() == [6, 6, 6, 5]
    assert equal_mass_bins(np.array([0.5, 0.6])).tolist() == [0, 0]


def test_error_by_hand() -> None:
    confidence = np.array([0.6] * 5 + [0.9] * 5)
    right = np.array([True] * 5 + [True] * 3 + [False] * 2)
    found = calibrated(confidence, right)
    assert found.ece.value == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)
    assert [(one.tracks, one.confidence, one.accuracy.value) for one in found.bins] == [
        (5, pytest.approx(0.6), 1.0),
        (5, pytest.approx(0.9), pytest.approx(0.6)),
    ]


def test_honest_model_stays_near_its_floor_and_a_boaster_does_not() -> None:
    generator = np.random.default_rng(2)
    confidence = generator.uniform(0.3, 1.0, 600)
    honest = calibrated(confidence, generator.random(600) < confidence)
    boaster = calibrated(confidence, generator.random(600) < confidence - 0.25)
    assert honest.ece_if_perfect is not None
    assert honest.ece.value == pytest.approx(honest.ece_if_perfect, rel=0.5)
    assert honest.ece.low is not None
    assert honest.ece.low < 0.02
    assert boaster.ece.low is not None
    assert boaster.ece.low > 2 * honest.ece_if_perfect


def test_no_track_gives_nothing() -> None:
    found = measure_calibration(np.zeros(0), np.zeros(0, dtype=bool), resampling(3), np.zeros(0, dtype=np.intp))
    assert (found.ece.value, found.ece_if_perfect, found.bins) == (None, None, ())


@pytest.mark.parametrize(("hits", "tracks"), [(0, 5), (7, 9), (20, 20)])
def test_wilson_interval_agrees_with_scipy(hits: int, tracks: int) -> None:
    figure = wilson_interval(hits, tracks, 0.9)
    expected = binomtest(hits, tracks).proportion_ci(0.9, method="wilson")
    assert (figure.value, figure.low, figure.high) == pytest.approx((hits / tracks, expected.low, expected.high))


def test_tracks_of_one_artist_are_worth_less_than_as_many_of_others() -> None:
    right, alone = np.arange(40) % 4 > 0, np.arange(40)
    assert effective_size(right, alone) == pytest.approx(40)
    assert effective_size(np.repeat(right[:8], 5), np.repeat(alone[:8], 5)) == pytest.approx(40 * 7 / 39)
    assert effective_size(np.ones(40, dtype=bool), np.repeat(alone[:8], 5)) == 8, "a group counts once"
    assert effective_size(right, np.zeros(40, dtype=np.int64)) == 1


def test_interval_of_a_bin_and_of_what_is_answered_counts_artists() -> None:
    confidence, right = np.full(32, 0.9), np.ones(32, dtype=bool)
    of_four = make_resampling(
        [f"t{row}" for row in range(32)], [f"a{row % 4}" for row in range(32)], EvaluationConfig()
    )
    expected = binomtest(4, 4).proportion_ci(0.95, method="wilson").low
    found = measure_selective(confidence, right, 0.5, 0.95, of_four, np.arange(32)).abstention
    assert found is not None
    assert (found.accuracy.value, found.accuracy.low) == (1.0, pytest.approx(expected))
    bins = measure_calibration(confidence, right, of_four, np.arange(32)).bins
    assert all(one.accuracy.low < 0.6 for one in bins if one.accuracy.low is not None)


def test_the_curve_goes_from_the_surest_down() -> None:
    confidence = np.array([0.6, 0.9, 0.8, 0.7])
    right = np.array([False, True, True, False])
    found = selective(confidence, right, 0.0, None)
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 1.0, 2 / 3, 0.5])
    assert found.abstention is None
    stated = found.to_json()["accuracy_at_coverage"]
    assert stated == {"0.25": 1.0, "0.5": 1.0, "0.75": pytest.approx(2 / 3, abs=1e-6), "0.9": 0.5, "1": 0.5}


def test_equal_confidences_are_one_point() -> None:
    found = selective(np.array([0.5, 0.5, 0.9]), np.array([True, False, True]), 0.0, None)
    np.testing.assert_allclose(found.coverage, [1 / 3, 1.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 2 / 3])


def test_the_bundles_threshold_on_this_split() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.3])
    found = selective(confidence, np.array([True, True, False, True]), 0.8, 0.95).abstention
    assert found is not None
    assert (found.answered, found.tracks) == (3, 4)
    assert found.coverage.value == 0.75
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.accuracy.low is not None
    assert found.accuracy.low < 2 / 3


def test_nothing_answered_and_no_track() -> None:
    abstention = selective(np.array([0.5]), np.array([True]), 1.0, 0.95).abstention
    assert abstention is not None
    assert (abstention.answered, abstention.accuracy.value) == (0, None)
    empty = selective(np.zeros(0), np.zeros(0, bool), 0.5, 0.95)
    assert len(empty.coverage) == 0
    assert empty.to_json() == {"accuracy_at_coverage": {}, "abstention": None}
