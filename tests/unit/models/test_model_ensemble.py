"""Calibrated probabilities and the members' joint prediction."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.models.ensemble import TemperatureScaling, combine, unit_length
from mgc.models.forward import TrackOutputs


def outputs(genre: list[list[float]], tag: list[list[float]], embedding: list[list[float]]) -> TrackOutputs:
    return TrackOutputs(*(np.array(rows, np.float32).reshape(len(embedding), -1) for rows in (genre, tag, embedding)))


def test_probabilities_at_a_temperature() -> None:
    calibration = TemperatureScaling(genre_temperature=2.0, tag_temperature=0.5)
    genre = calibration.genre_probabilities(np.array([[2 * np.log(3), 0.0]], np.float32))
    np.testing.assert_allclose(genre, [[0.75, 0.25]], atol=1e-6)
    tag = calibration.tag_probabilities(np.array([[0.5 * np.log(4), 0.0]], np.float32))
    np.testing.assert_allclose(tag, [[0.8, 0.5]], atol=1e-6)


def test_huge_logits_stay_finite() -> None:
    genre = TemperatureScaling().genre_probabilities(np.array([[1e4, -1e4]], np.float32))
    np.testing.assert_array_equal(genre, [[1.0, 0.0]])


def test_ensemble_is_the_mean_of_members() -> None:
    first = outputs([[np.log(3), 0]], [[0.0]], [[3.0, 4.0]])
    second = outputs([[0, 0]], [[np.log(3)]], [[0.0, 2.0]])
    whole = combine([first, second], [TemperatureScaling(), TemperatureScaling()])
    np.testing.assert_allclose(whole.genre_probabilities, [[0.625, 0.375]], atol=1e-6)
    np.testing.assert_allclose(whole.tag_probabilities, [[0.625]], atol=1e-6)
    np.testing.assert_allclose(whole.embeddings, np.array([[0.6, 0.8, 0.0, 1.0]]) / np.sqrt(2), atol=1e-6)


def test_cosine_of_the_whole_is_the_mean_of_the_members_cosines() -> None:
    rng = np.random.default_rng(0)
    members = [
        TrackOutputs(np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32), rng.normal(size=(2, 5)).astype("f4"))
        for _ in range(3)
    ]
    whole = combine(members, [TemperatureScaling()] * 3).embeddings
    cosines = [float(np.prod(unit_length(member.embeddings), axis=0).sum()) for member in members]
    assert float(whole[0] @ whole[1]) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_no_labels_and_no_members() -> None:
    whole = combine([outputs([], [[0.0]], [[1.0]])], [TemperatureScaling()])
    assert whole.genre_probabilities.shape == (1, 0)
    with pytest.raises(ValueError, match="at least one member"):
        combine([], [])


def test_a_vector_of_zeros_stays() -> None:
    np.testing.assert_array_equal(unit_length(np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
