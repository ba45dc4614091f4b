from __future__ import annotations

import numpy as np
import pytest
from answer_makers import QUICK, genre_answers, tag_answers

from mgc.errors import SplitError
from mgc.evaluation.comparison import compare


def test_difference_is_over_shared_tracks() -> None:
    true = [0, 1, 0, 1, 0, 1]
    ours = genre_answers(true, [0, 1, 0, 1, 1, 0], 2)
    baseline = genre_answers(true[:5], [0, 0, 1, 1, 0], 2)
    found = compare(ours, baseline, QUICK, name="baseline")
    assert found.tracks == 5
    assert found.accuracy_difference.value == pytest.approx((4 - 3) / 5)
    assert (found.only_ours_right, found.only_baseline_right) == (2, 1)
    assert found.evaluation.answered == 5


def test_pairing_cancels_what_is_hard_for_both() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 2, 300)
    hard = generator.random(300) < 0.4
    baseline_prediction = np.where(hard, 1 - true, true)
    better = hard & (generator.random(300) < 0.25)
    our_prediction = np.where(better, true, baseline_prediction)
    found = compare(
        genre_answers(true, our_prediction, 2), genre_answers(true, baseline_prediction, 2), QUICK, name="baseline"
    )
    assert found.only_baseline_right == 0
    assert found.accuracy_difference.value == pytest.approx(better.mean())
    assert found.accuracy_difference.low is not None
    assert found.accuracy_difference.low > 0.05
    assert found.evaluation.genre is not None
    assert found.evaluation.genre.accuracy.high is not None
    ours = (our_prediction == true).mean()
    assert ours < found.evaluation.genre.accuracy.high + 0.06, "unpaired intervals would nearly touch"


def test_equal_systems_differ_by_nothing() -> None:
    answers = genre_answers([0, 1, 1, 0], [0, 1, 0, 0], 2)
    figure = compare(answers, answers, QUICK, name="twin").accuracy_difference
    other = 1 - 0.025**0.25  # none of four tracks tells them apart: as many of all may
    assert (figure.value, figure.low, figure.high) == (0.0, pytest.approx(-other), pytest.approx(other))


def test_groups_can_be_resampled() -> None:
    true = [0] * 40
    groups = [f"g{row // 20}" for row in range(40)]
    ours = genre_answers(true, [0] * 20 + [1] * 20, 2, groups=groups)
    baseline = genre_answers(true, [1] * 40, 2, groups=groups)
    by_group = compare(ours, baseline, QUICK, name="baseline", resample="group").accuracy_difference
    assert (by_group.low, by_group.high) == (0.0, 1.0)


def test_tags_alone_still_compare() -> None:
    generator = np.random.default_rng(0)
    answers = tag_answers(generator.random((20, 2)) < 0.5, generator.random((20, 2)))
    found = compare(answers, answers, QUICK, name="baseline")
    assert (found.tracks, found.accuracy_difference.value) == (0, None)
    assert found.evaluation.tag is not None


def test_no_shared_track_is_an_error() -> None:
    ours = genre_answers([0], [0], 2)
    baseline = genre_answers([0], [0], 2, track_ids=["other"])
    with pytest.raises(SplitError, match="no track was answered by both the ensemble and 'SVM'"):
        compare(ours, baseline, QUICK, name="SVM")
