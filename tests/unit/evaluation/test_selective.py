"""Accuracy against the share answered."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.evaluation.calibration_metrics import measure_selective


def test_the_curve_goes_from_the_surest_down() -> None:
    confidence = np.array([0.6, 0.9, 0.8, 0.7])
    right = np.array([False, True, True, False])
    found = measure_selective(confidence, right, 0.0, None, 0.95)
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 1.0, 2 / 3, 0.5])
    assert found.abstention is None
    stated = found.to_json()["accuracy_at_coverage"]
    assert stated == {"0.25": 1.0, "0.5": 1.0, "0.75": pytest.approx(2 / 3, abs=1e-6), "0.9": 0.5, "1": 0.5}


def test_equal_confidences_are_one_point() -> None:
    found = measure_selective(np.array([0.5, 0.5, 0.9]), np.array([True, False, True]), 0.0, None, 0.95)
    np.testing.assert_allclose(found.coverage, [1 / 3, 1.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 2 / 3])


def test_the_bundles_threshold_on_this_split() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.3])
    found = measure_selective(confidence, np.array([True, True, False, True]), 0.8, 0.95, 0.95).abstention
    assert found is not None
    assert (found.answered, found.tracks) == (3, 4)
    assert found.coverage.value == 0.75
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.accuracy.low is not None
    assert found.accuracy.low < 2 / 3


def test_nothing_answered_and_no_track() -> None:
    abstention = measure_selective(np.array([0.5]), np.array([True]), 1.0, 0.95, 0.95).abstention
    assert abstention is not None
    assert (abstention.answered, abstention.accuracy.value) == (0, None)
    empty = measure_selective(np.zeros(0), np.zeros(0, bool), 0.5, 0.95, 0.95)
    assert len(empty.coverage) == 0
    assert empty.to_json() == {"accuracy_at_coverage": {}, "abstention": None}
