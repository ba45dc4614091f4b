"""Weights of members."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.config.taxonomy import UNKNOWN
from mgc.models.ensemble import Fusion, HeadFusion, Method, TemperatureScaling, combine
from mgc.models.forward import TrackOutputs
from mgc.training.assemble import compare_fusions
from mgc.training.calibrate import fit_fusion
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
    assert list(found) == ["mean", "vote", "weighted", "stacked"]
    losses = {name: figures["genre_log_loss"] or 0.0 for name, figures in found.items()}
    assert losses["weighted"] < losses["mean"]
    assert losses["stacked"] < losses["mean"]
    assert list(compare_fusions([GOOD], LABELS, [f"g{track // 3}" for track in range(TRACKS)], fused)) == ["mean"]
