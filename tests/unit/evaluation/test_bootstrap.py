from __future__ import annotations

import numpy as np
import pytest
from answer_makers import resampling
from scipy.stats import binomtest

from mgc.config import EvaluationConfig
from mgc.evaluation.bootstrap import Figure, Resampling, make_resampling, mean_of_defined, ratio


def weights_of(of: Resampling) -> np.ndarray:
    return np.concatenate(list(of.chunks()), axis=1)


def test_each_resample_draws_as_many_tracks_as_there_are() -> None:
    weights = weights_of(resampling(37, samples=50))
    assert weights.shape == (37, 50)
    assert (weights.sum(axis=0) == 37).all()


def test_same_seed_same_resamples_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights_of(resampling(20, samples=30, seed=5))
    monkeypatch.setattr("mgc.evaluation.bootstrap.WEIGHTS_A_CHUNK", 60)
    assert len(list(resampling(20, samples=30, seed=5).chunks())) == 10
    assert (weights_of(resampling(20, samples=30, seed=5)) == whole).all()
    assert (weights_of(resampling(20, samples=30, seed=6)) != whole).any()


def test_groups_are_drawn_whole() -> None:
    of = make_resampling(["a", "b", "c", "d"], ["x", "y", "x", ""], EvaluationConfig(bootstrap_samples=40), "group")
    weights = weights_of(of)
    assert (weights[0] == weights[2]).all()
    assert set(of.clusters) == {0, 1, 2}, "a track without a group is one of its own"
    assert (weights[[0, 1, 3]].sum(axis=0) == 3).all()


def test_track_without_group_is_not_mixed_up_with_a_group_of_its_name() -> None:
    of = make_resampling(["a", "b"], ["", "a"], EvaluationConfig(), "group")
    assert of.clusters[0] != of.clusters[1]


def test_interval_is_the_middle_of_the_replicates() -> None:
    figure = resampling(10).figure(0.5, np.linspace(0.0, 1.0, 1001))
    assert figure == Figure(0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_no_interval_where_most_resamples_do_not_define_the_figure() -> None:
    replicates = np.array([0.1, 0.2, np.nan, np.nan, np.nan])
    assert resampling(10).figure(0.15, replicates) == Figure(0.15)
    assert resampling(10).figure(0.15, replicates[:4]).low == pytest.approx(0.1025)
    assert resampling(10).figure(0.15, replicates[:2], enough=False) == Figure(0.15)
    assert resampling(10).figure(None, replicates) == Figure(None)
    assert resampling(10).figure(float("nan"), replicates) == Figure(None)


def test_corrected_interval_is_mirrored_and_holds_the_value() -> None:
    replicates = np.linspace(0.5, 0.7, 1001)
    mirrored = resampling(10).corrected_figure(0.55, replicates)
    assert mirrored.low == pytest.approx(1.1 - 0.695)
    assert mirrored.high == pytest.approx(1.1 - 0.505)
    far = resampling(10).corrected_figure(0.4, replicates)
    assert far.high == 0.4
    assert resampling(10).corrected_figure(0.05, replicates).low == 0.0


def test_interval_of_a_share_agrees_with_the_binomial() -> None:
    hits = np.arange(400) < 300
    shares = np.concatenate(
        [(weights * hits[:, None]).sum(axis=0) / 400 for weights in resampling(400, 4000).chunks()]
    )
    figure = resampling(400).figure(0.75, shares)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert figure.low == pytest.approx(0.75 - half, abs=0.006)
    assert figure.high == pytest.approx(0.75 + half, abs=0.006)


def test_coverage_of_a_share_is_about_what_is_claimed() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        right = generator.random(120) < 0.7
        shares = np.concatenate([right @ weights / 120 for weights in resampling(120, 200, seed=trial).chunks()])
        figure = resampling(120).figure(float(right.mean()), shares)
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 0.7 <= figure.high
    assert 0.90 <= covered / 300 <= 0.985


def test_group_intervals_are_wider_where_groups_agree() -> None:
    groups = [f"g{row // 10}" for row in range(100)]
    right = np.array([int(group[1:]) % 2 == 0 for group in groups])
    widths = {}
    for kind in ("track", "group"):
        of = make_resampling([f"t{row}" for row in range(100)], groups, EvaluationConfig(), kind)  # type: ignore[arg-type]
        shares = np.concatenate([right @ weights / weights.sum(axis=0) for weights in of.chunks()])
        figure = of.figure(0.5, shares)
        assert figure.low is not None
        assert figure.high is not None
        widths[kind] = figure.high - figure.low
    assert widths["group"] == pytest.approx(widths["track"] * np.sqrt(10), rel=0.2)


@pytest.mark.parametrize(("hits", "tracks"), [(4, 4), (32, 32), (0, 9), (1, 1)])
def test_share_that_no_resample_changes_has_the_exact_interval(hits: int, tracks: int) -> None:
    figure = resampling(tracks).share(hits / tracks, np.full(200, hits / tracks))
    expected = binomtest(hits, tracks).proportion_ci(0.95, method="exact")
    assert (figure.low, figure.high) == pytest.approx((expected.low, expected.high))
    assert resampling(tracks).figure(hits / tracks, np.full(200, hits / tracks)) == Figure(hits / tracks)


def test_exact_interval_counts_groups_whatever_is_resampled() -> None:
    for kind in ("track", "group"):
        of = make_resampling([f"t{row}" for row in range(32)], ["x", "y", "x", "z"] * 8, EvaluationConfig(), kind)  # type: ignore[arg-type]
        assert of.share(1.0, np.ones(200)).low == pytest.approx(0.025 ** (1 / 3))
        assert of.share(1.0, np.ones(200), np.array([0, 2, 4])).low == pytest.approx(0.025)


def test_exact_interval_holds_the_truth_as_often_as_claimed() -> None:
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        right = generator.random(12) < 0.9
        shares = np.concatenate([right @ weights / 12 for weights in resampling(12, 100).chunks()])
        figure = resampling(12).share(float(right.mean()), shares)
        held += right.all() and figure.low is not None and figure.low <= 0.9
    assert held / 400 == pytest.approx(0.9**12, abs=0.06), "each time that all are right"


def test_difference_that_no_resample_changes_leaves_room_both_ways() -> None:
    of, other = resampling(32), 1 - 0.025 ** (1 / 32)
    assert of.share(0.0, np.zeros(200), least=-1.0) == Figure(0.0, pytest.approx(-other), pytest.approx(other))
    assert of.share(1.0, np.ones(200), least=-1.0) == Figure(1.0, pytest.approx(1 - 2 * other), 1.0)


def test_ratio_and_mean_leave_out_what_is_not_defined() -> None:
    quotient = ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert quotient[0] == 0.5
    assert np.isnan(quotient[1])
    means = mean_of_defined(np.array([[1.0, np.nan], [3.0, np.nan]]))
    assert means[0] == 2.0
    assert np.isnan(means[1])
