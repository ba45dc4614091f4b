"""Weights of members, thresholds of tags, and when to abstain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from mgc.config.taxonomy import UNKNOWN
from mgc.models.ensemble import EnsembleOutputs, Fusion, HeadFusion, Method, TemperatureScaling, combine
from mgc.models.forward import TrackOutputs
from mgc.training.assemble import abstention_figures, compare_fusions
from mgc.training.calibrate import best_f1_threshold, fit_abstention, fit_fusion, fit_tag_thresholds
from mgc.training.losses import LabelArrays

RNG = np.random.default_rng(0)
TRACKS, GENRES, TAGS = 300, 4, 3
TRUTH = RNG.integers(0, GENRES, TRACKS)
TAG_TRUTH = (RNG.random((TRACKS, TAGS)) < 0.4).astype(np.float32)
LABELS = LabelArrays(TRUTH, TAG_TRUTH, np.ones(TRACKS, bool))
PLAIN = [TemperatureScaling(), TemperatureScaling()]


def member(skill: float) -> TrackOutputs:
    """Return logits that know so much of the truth."""
    genre = RNG.normal(0, 1, (TRACKS, GENRES)) + skill * np.eye(GENRES)[TRUTH]
    tag = RNG.normal(0, 1, (TRACKS, TAGS)) + skill * (2 * TAG_TRUTH - 1)
    return TrackOutputs(genre.astype(np.float32), tag.astype(np.float32), np.zeros((TRACKS, 2), np.float32))


GOOD, BAD = member(3.0), member(0.0)


def log_loss(outputs: list[TrackOutputs], fusion: Fusion) -> float:
    probabilities = combine(outputs, PLAIN, fusion).genre_probabilities
    return -float(np.log(probabilities[np.arange(TRACKS), TRUTH]).mean())


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_the_member_that_knows_more_weighs_more(method: Method) -> None:
    fusion = fit_fusion([GOOD, BAD], PLAIN, LABELS, method)
    for pool in (fusion.genre, fusion.tag):
        assert pool.weights[0] > pool.weights[1] + 0.3
    assert log_loss([GOOD, BAD], fusion) < log_loss([GOOD, BAD], Fusion()) - 0.1


def test_equal_members_weigh_alike() -> None:
    fusion = fit_fusion([GOOD, GOOD], PLAIN, LABELS, "weighted")
    assert fusion.genre.weights == pytest.approx((0.5, 0.5))
    assert sum(fit_fusion([GOOD, BAD], PLAIN, LABELS, "weighted").tag.weights) == pytest.approx(1.0)


def test_mean_has_nothing_to_fit_and_a_lone_member_neither() -> None:
    assert fit_fusion([GOOD, BAD], PLAIN, LABELS, "mean") == Fusion()
    assert fit_fusion([GOOD], PLAIN[:1], LABELS, "stacked") == Fusion("stacked")


def test_nothing_known_keeps_equal_weights() -> None:
    unknown = LabelArrays(np.full(TRACKS, UNKNOWN), TAG_TRUTH, np.zeros(TRACKS, bool))
    for method in ("weighted", "stacked"):
        fusion = fit_fusion([GOOD, BAD], PLAIN, unknown, method, fused_temperature=True)  # type: ignore[arg-type]
        assert (fusion.genre, fusion.tag) == (HeadFusion(), HeadFusion())


@pytest.mark.parametrize("method", ["mean", "weighted", "stacked"])
def test_a_temperature_of_the_whole(method: Method) -> None:
    loud = [TrackOutputs(5 * one.genre_logits, 5 * one.tag_logits, one.embeddings) for one in (GOOD, BAD)]
    without = fit_fusion(loud, PLAIN, LABELS, method)
    fitted = fit_fusion(loud, PLAIN, LABELS, method, fused_temperature=True)
    assert fitted.genre.weights == without.genre.weights
    assert fitted.genre.temperature != 1.0
    assert log_loss(loud, fitted) <= log_loss(loud, without) + 1e-3


@pytest.mark.parametrize("fused", [False, True])
def test_each_way_is_measured_on_groups_that_it_was_not_fitted_on(fused: bool) -> None:
    found = compare_fusions([GOOD, BAD], LABELS, [f"g{track // 3}" for track in range(TRACKS)], fused)
    assert list(found) == ["mean", "weighted", "stacked"]
    losses = {name: figures["genre_log_loss"] or 0.0 for name, figures in found.items()}
    assert losses["weighted"] < losses["mean"]
    assert losses["stacked"] < losses["mean"]
    assert list(compare_fusions([GOOD], LABELS, [f"g{track // 3}" for track in range(TRACKS)], fused)) == ["mean"]


def test_the_threshold_of_best_f1() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.4, 0.35, 0.1], np.float32)
    truth = np.array([1, 1, 0, 1, 0, 0], np.float32)
    # Listed down to 0.4: three hits of four; F1 with two prior errors 6/9, more than 4/7 and less before.
    assert best_f1_threshold(probabilities, truth) == pytest.approx(0.375)
    assert best_f1_threshold(probabilities, np.array([1, 1, 0, 0, 0, 0], np.float32)) == 0.5
    assert best_f1_threshold(probabilities, np.ones(6, np.float32)) == 0.5


def test_equal_probabilities_are_listed_together() -> None:
    probabilities = np.array([0.6] * 6 + [0.2] * 6, np.float32)
    truth = np.array([1, 1, 1, 1, 0, 0] + [0] * 6, np.float32)
    assert best_f1_threshold(probabilities, truth) == pytest.approx(0.4)


def answers(confidence: list[float], right: list[bool]) -> tuple[EnsembleOutputs, LabelArrays]:
    stated = np.array(confidence, np.float32)
    outputs = EnsembleOutputs(
        np.stack([stated, 1 - stated], axis=1), np.zeros((len(stated), 0), np.float32), np.zeros((len(stated), 1))
    )
    truth = np.where(right, 0, 1)
    return outputs, LabelArrays(truth, np.zeros((len(stated), 0), np.float32), np.ones(len(stated), bool))


def test_silence_where_precision_would_be_lost() -> None:
    confidence = [0.99 - 0.02 * place for place in range(20)]
    right = [True] * 15 + [False] + [True] * 2 + [False] * 2
    outputs, labels = answers(confidence, right)
    below = fit_abstention(outputs, labels, 0.94)
    # Of the first 18, 17 are right (0.944); one more is too many.
    assert below == pytest.approx((confidence[17] + confidence[18]) / 2)
    figures = abstention_figures(outputs, labels, below)
    assert figures["coverage"] == pytest.approx(0.9)
    assert figures["accuracy_of_answered"] == pytest.approx(17 / 18)


def test_never_and_always_abstained() -> None:
    sure = answers([0.9] * 12, [True] * 12)
    assert fit_abstention(*sure, precision=0.95) == 0.0
    wrong = answers([0.9] * 12, [False] * 12)
    assert fit_abstention(*wrong, precision=0.95) == 1.0
    few = answers([0.9] * 5 + [0.6] * 5, [True] * 5 + [False] * 5)
    assert fit_abstention(*few, precision=0.95) == 1.0
    outputs, labels = sure
    unknown = LabelArrays(np.full(12, UNKNOWN), labels.tags, labels.tags_known)
    assert fit_abstention(outputs, unknown, 0.95) == 0.0
    assert abstention_figures(outputs, unknown, 0.0) == {"coverage": None, "accuracy_of_answered": None}


def test_thresholds_for_every_tag() -> None:
    probabilities = softmax(GOOD.tag_logits, axis=1).astype(np.float32)
    outputs = EnsembleOutputs(np.zeros((TRACKS, 0), np.float32), probabilities, np.zeros((TRACKS, 1), np.float32))
    found = fit_tag_thresholds(outputs, LABELS)
    assert len(found) == TAGS
    assert all(0.0 < threshold < 1.0 for threshold in found)
