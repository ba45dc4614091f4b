"""Temperatures."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.config.taxonomy import UNKNOWN
from mgc.models.forward import TrackOutputs
from mgc.training.calibrate import fit_calibration
from mgc.training.losses import LabelArrays


def sample(n_tracks: int, temperature: float) -> tuple[TrackOutputs, LabelArrays]:
    """Return logits that are right at `temperature`, and labels drawn accordingly."""
    rng = np.random.default_rng(3)
    genre_logits = rng.normal(0, 2, (n_tracks, 4))
    noise = rng.gumbel(size=genre_logits.shape)
    tag_logits = rng.normal(0, 2, (n_tracks, 5))
    tags = (rng.logistic(size=tag_logits.shape) < tag_logits).astype(np.float32)
    labels = LabelArrays((genre_logits + noise).argmax(axis=1), tags, np.ones(n_tracks, bool))
    scaled = [(logits * temperature).astype(np.float32) for logits in (genre_logits, tag_logits)]
    return TrackOutputs(*scaled, np.zeros((n_tracks, 1), np.float32)), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_true_temperature_is_found(temperature: float) -> None:
    found = fit_calibration(*sample(4_000, temperature))
    assert found.genre_temperature == pytest.approx(temperature, rel=0.08)
    assert found.tag_temperature == pytest.approx(temperature, rel=0.08)


def test_a_few_tracks_all_right_do_not_make_it_certain() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)
    outputs = TrackOutputs(logits, logits, np.zeros((2, 1), np.float32))
    labels = LabelArrays(np.array([0, 1]), np.eye(2, dtype=np.float32), np.ones(2, bool))
    found = fit_calibration(outputs, labels)
    assert 0.7 < found.genre_temperature < 1.0
    assert 0.7 < found.tag_temperature < 1.0


def test_unknown_labels_have_no_say() -> None:
    outputs, labels = sample(400, 2.0)
    unknown = LabelArrays(np.full(400, UNKNOWN), labels.tags, np.zeros(400, bool))
    assert fit_calibration(outputs, unknown) == fit_calibration(outputs, unknown).__class__(1.0, 1.0)
    half = np.arange(400) % 2 == 0
    mixed = LabelArrays(np.where(half, labels.genres, UNKNOWN), labels.tags, half)
    alone = TrackOutputs(outputs.genre_logits[half], outputs.tag_logits[half], outputs.embeddings[half])
    expected = fit_calibration(alone, LabelArrays(labels.genres[half], labels.tags[half], np.ones(200, bool)))
    assert fit_calibration(outputs, mixed) == expected


def test_no_genres_and_no_tags() -> None:
    outputs = TrackOutputs(np.zeros((3, 0), np.float32), np.zeros((3, 0), np.float32), np.zeros((3, 1), np.float32))
    labels = LabelArrays(np.full(3, UNKNOWN), np.zeros((3, 0), np.float32), np.ones(3, bool))
    found = fit_calibration(outputs, labels)
    assert (found.genre_temperature, found.tag_temperature) == (1.0, 1.0)
