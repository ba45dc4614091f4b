"""Over- and under-sampling."""

from __future__ import annotations

import numpy as np
import pytest
from model_makers import TAXONOMY, TRAINING, feature_set

from mgc.training.batches import Shard, TrainingWindows, draw_order, epoch_size

GENRES = np.array([0] * 7 + [1] * 3 + [2] + [-1] * 2)


@pytest.mark.parametrize(("sampling", "each"), [("oversample", 7), ("undersample", 1)])
def test_every_genre_comes_as_often(sampling: str, each: int) -> None:
    order = draw_order(np.random.default_rng(0), GENRES, sampling)  # type: ignore[arg-type]
    assert np.bincount(GENRES[order] + 1).tolist() == [2, each, each, each]
    assert len(order) == epoch_size(GENRES, sampling)  # type: ignore[arg-type]


def test_nothing_is_repeated_before_all_have_come() -> None:
    order = draw_order(np.random.default_rng(0), GENRES, "oversample")
    times = np.bincount(order, minlength=len(GENRES))
    assert times[:7].tolist() == [1] * 7
    assert sorted(times[7:10]) == [2, 2, 3]
    assert times[10] == 7


def test_undersampling_leaves_others_out_each_time() -> None:
    first, second = (
        set(draw_order(np.random.default_rng(seed), np.array([0] * 50 + [1] * 5), "undersample")) for seed in (0, 1)
    )
    assert len(first) == len(second) == 10
    assert first != second


def test_all_is_a_permutation_and_no_known_genre_is_no_error() -> None:
    assert sorted(draw_order(np.random.default_rng(0), GENRES, "all")) == list(range(13))
    unknown = np.full(4, -1)
    assert sorted(draw_order(np.random.default_rng(0), unknown, "oversample")) == [0, 1, 2, 3]
    assert epoch_size(unknown, "undersample") == 4


def test_an_epoch_has_the_batches_it_announces() -> None:
    features = feature_set(9)  # five high, four low, two windows each
    config = TRAINING.model_copy(update={"sampling": "oversample", "batch_size": 4})
    windows = TrainingWindows(features, TAXONOMY, config)
    batches = list(windows.epoch(0, 0, Shard()))
    assert len(batches) == windows.steps_per_epoch == 5
    assert sum(float((batch.genre_weight.argmax(dim=1) == 0).sum()) for batch in batches) == 10
