from __future__ import annotations

import numpy as np
import pytest
from answer_makers import resampling
from scipy.stats import binomtest

from mgc.evaluation.calibration_metrics import (
    CalibrationMetrics,
    measure_calibration,
    wilson_interval,
)
from mgc.evaluation.metrics import equal_mass_bins


def calibrated(confidence: np.ndarray, right: np.ndarray, samples: int = 200) -> CalibrationMetrics:
    return measure_calibration(confidence, right, resampling(len(right), samples), np.arange(len(right)))


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
