"""Linear and logarithmic pools, and the decision that a bundle carries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_makers import bundle_contents
from scipy.special import expit, logit

from mgc.models.bundle import load_bundle, write_bundle
from mgc.models.ensemble import Decision, Fusion, HeadFusion, Method

ONE = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
TWO = np.array([[0.3, 0.4, 0.3], [0.5, 0.4, 0.1]], np.float32)


def test_mean_and_weighted_mean() -> None:
    np.testing.assert_allclose(Fusion().genre_probabilities([ONE, TWO]), (ONE + TWO) / 2, atol=1e-7)
    weighted = Fusion("weighted", HeadFusion((0.25, 0.75)), HeadFusion((0.5, 0.5)))
    np.testing.assert_allclose(weighted.genre_probabilities([ONE, TWO]), 0.25 * ONE + 0.75 * TWO, atol=1e-7)
    np.testing.assert_allclose(weighted.tag_probabilities([ONE, TWO]), (ONE + TWO) / 2, atol=1e-7)


def test_stacked_is_a_product_of_powers() -> None:
    fusion = Fusion("stacked", HeadFusion((1.0, 0.5), (0.0, 0.1, -0.2)), HeadFusion((2.0, 0.0), (0.3, 0.3, 0.3)))
    powers = ONE * np.sqrt(TWO) * np.exp([0.0, 0.1, -0.2])
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fusion.genre_probabilities([ONE, TWO]), expected, atol=1e-6)
    np.testing.assert_allclose(fusion.tag_probabilities([ONE, TWO]), expit(2 * logit(ONE) + 0.3), atol=1e-6)


def test_the_majority_decides_and_where_it_is_none_the_mean() -> None:
    members = [ONE, TWO, np.array([[0.1, 0.5, 0.4], [0.2, 0.5, 0.3]], np.float32)]
    voted = Fusion("vote").genre_probabilities(members)
    # Votes: genres 0, 1, 1 of the first track, and 2, 0, 1 of the second, where the mean alone speaks.
    np.testing.assert_allclose(voted[0], (np.array([1, 2, 0]) + np.mean(members, axis=0)[0]) / 4, atol=1e-6)
    np.testing.assert_allclose(voted[1], (np.array([1, 1, 1]) + np.mean(members, axis=0)[1]) / 4, atol=1e-6)
    np.testing.assert_allclose(voted.sum(axis=1), 1.0, atol=1e-6)
    tags = Fusion("vote").tag_probabilities(members)
    np.testing.assert_allclose(tags[0], (np.array([1, 0, 0]) + np.mean(members, axis=0)[0]) / 4, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "weighted", "stacked"])
def test_certainty_and_temperature(method: Method) -> None:
    certain = np.array([[1.0, 0.0]], np.float32)
    fusion = Fusion(method, HeadFusion(temperature=2.0), HeadFusion(temperature=2.0))
    for probabilities in (fusion.genre_probabilities([certain] * 2), fusion.tag_probabilities([certain] * 2)):
        assert np.isfinite(probabilities).all()
        assert 0.99 < probabilities[0, 0] < 1.0
    warm = fusion.genre_probabilities([ONE, ONE])
    np.testing.assert_allclose(warm, np.sqrt(ONE) / np.sqrt(ONE).sum(axis=1, keepdims=True), atol=1e-6)
    assert fusion.genre_probabilities([ONE[:, :0]] * 2).shape == (2, 0)


def test_a_bundle_carries_its_decision_and_its_name_follows_from_it(tmp_path: Path) -> None:
    decision = Decision(
        Fusion("stacked", HeadFusion((0.5, 0.5), (0.1, -0.1)), HeadFusion((1.0, 0.25), (0.0, 0.5, 1.0), 1.5)),
        (0.2, 0.4, 0.6),
        0.8,
        0.95,
    )
    plain = write_bundle(str(tmp_path / "a"), bundle_contents())
    other = write_bundle(str(tmp_path / "b"), bundle_contents(decision=decision))
    assert plain != other
    assert load_bundle(str(tmp_path / "b")).decision == decision
    assert load_bundle(str(tmp_path / "a")).decision == Decision()
    assert "marked `abstained`" in (tmp_path / "b" / "README.md").read_text()
    later = bundle_contents(decision=replace(decision, abstain_below=0.81))
    assert write_bundle(str(tmp_path / "c"), later) not in (plain, other)
