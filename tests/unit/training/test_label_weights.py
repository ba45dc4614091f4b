"""Labels and their weights."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from model_makers import TAXONOMY, feature_set

from mgc.config.taxonomy import UNKNOWN
from mgc.training.losses import LabelArrays, encode_labels, genre_weights, weigh_labels


def test_labels_of_a_feature_set() -> None:
    features = feature_set(3)
    features = replace(features, genres=["low", None, "high"], tags=[["hum", "unlisted"], [], ["buzz", "still"]])
    features = replace(features, tags_known=[True, False, True])
    labels = encode_labels(features, TAXONOMY)
    assert labels.genres.tolist() == [1, UNKNOWN, 0]
    assert labels.tags.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert labels.useful().tolist() == [True, False, True]


def test_a_genre_outside_the_taxonomy_is_unknown_and_said(caplog: pytest.LogCaptureFixture) -> None:
    features = replace(feature_set(2), genres=["high", "polka"])
    with caplog.at_level(logging.WARNING):
        labels = encode_labels(features, TAXONOMY)
    assert labels.genres.tolist() == [0, UNKNOWN]
    assert "polka" in caplog.text


def test_known_tags_without_a_vocabulary_teach_nothing() -> None:
    labels = LabelArrays(np.array([UNKNOWN]), np.zeros((1, 0), np.float32), np.array([True]))
    assert labels.useful().tolist() == [False]


def test_label_weights_of_known_and_unknown() -> None:
    labels = LabelArrays(np.array([1, UNKNOWN]), np.array([[1, 0], [1, 1]], np.float32), np.array([True, False]))
    label_weights = weigh_labels(labels, 3, class_weights=False)
    assert label_weights.genre.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert label_weights.tag_positive.tolist() == [[1, 0], [0, 0]]
    assert label_weights.tag_negative.tolist() == [[0, 1], [0, 0]]
    assert (label_weights.genre_total, label_weights.tag_total) == (1.0, 2.0)


def test_class_weights_make_genres_count_alike() -> None:
    genres = np.array([0] * 8 + [1] * 2)
    labels = LabelArrays(genres, np.zeros((10, 0), np.float32), np.zeros(10, bool))
    label_weights = weigh_labels(labels, 2, class_weights=True)
    np.testing.assert_allclose(label_weights.genre.sum(axis=0), [5.0, 5.0], rtol=1e-6)


def test_class_weights_are_bounded_and_ignore_what_never_occurs() -> None:
    weights = genre_weights(np.array([0] * 999 + [1]), 3)
    np.testing.assert_allclose(weights, [1000 / 1998, 10.0, 1.0], rtol=1e-6)


def test_mixture_of_label_weights_is_that_of_the_labels() -> None:
    labels = LabelArrays(np.array([0, UNKNOWN]), np.array([[1.0], [0.0]], np.float32), np.array([True, True]))
    mixed = weigh_labels(labels, 2, class_weights=False).mixed(np.array([1, 0]), np.array([0.75, 0.5], np.float32))
    assert mixed.genre.tolist() == [[0.75, 0.0], [0.5, 0.0]]
    assert mixed.tag_positive.tolist() == [[0.75], [0.5]]
    assert mixed.tag_negative.tolist() == [[0.25], [0.5]]
