"""Same-genre overlay in the feature domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set

from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.config import FeatureConfig
from mgc.training.batches import Shard, TrainingWindows
from mgc.training.overlay import NOBODY, draw_overlay, overlay

PLAIN = TRAINING.model_copy(
    update={"gain_db": 0.0, "mask_frequency_bins": 0, "mask_frames": 0, "crop_seconds": None, "class_weights": False}
)


def test_partners_are_of_the_genre_and_of_another_track() -> None:
    genres = np.array([0, 0, 0, 0, 1, 1, -1, 2])
    tracks = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    rows = np.tile(np.arange(8), 50)
    drawn = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 1.0)
    laid = drawn.partner != NOBODY
    assert (genres[drawn.partner[laid]] == genres[rows[laid]]).all()
    assert (tracks[drawn.partner[laid]] != tracks[rows[laid]]).all()
    # Unknown genres, and genres of one track, stay alone.
    assert set(rows[laid]) == {0, 1, 2, 3}
    assert drawn.own_part.min() >= 0.5
    assert drawn.own_part.max() <= 1.0
    never = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 0.0)
    assert (never.partner == NOBODY).all()


def test_the_power_of_a_sum_of_signals_is_met() -> None:
    # Equation 6 on samples, against the same in the feature domain: equal on average, cross terms aside.
    config = FeatureConfig(sample_rate=8_000, n_fft=512, hop_length=128, n_mels=16)
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 80_000)).astype(np.float32)
    analysis = Analysis(config)

    def decibels(samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> torch.Tensor:
        return torch.from_numpy(10 * np.log10(analysis.window(samples)[MEL_POWER]))[None]

    mixed = overlay(decibels(one), decibels(two), torch.tensor([0.7]))
    truth = decibels(0.7 * one + 0.3 * two)
    assert abs(float(mixed.mean() - truth.mean())) < 0.5
    torch.testing.assert_close(overlay(decibels(one), decibels(two), torch.tensor([1.0])), decibels(one))


def test_tags_of_both_are_heard() -> None:
    features = feature_set(6)
    config = PLAIN.model_copy(update={"overlay_probability": 1.0})
    plain, laid = (TrainingWindows(features, TAXONOMY, one) for one in (PLAIN, config))
    alone, both = next(plain.epoch(0, 0, Shard())), next(laid.epoch(0, 0, Shard()))
    assert torch.equal(alone.genre_mass, both.genre_mass)
    assert (both.tag_positive >= alone.tag_positive).all()
    assert float(both.tag_positive.sum()) > float(alone.tag_positive.sum())
    assert torch.equal(both.tag_positive + both.tag_negative, torch.ones_like(both.tag_positive))
    assert not torch.equal(alone.log_mel, both.log_mel)


def test_what_is_not_known_of_the_partner_is_not_known_of_the_sum() -> None:
    features = replace(feature_set(4), tags_known=[True, True, False, False])
    config = PLAIN.model_copy(update={"overlay_probability": 1.0})
    batch = next(TrainingWindows(features, TAXONOMY, config).epoch(0, 0, Shard()))
    # Tracks 0 and 2 are high, 1 and 3 low: every partner is the other kind of known.
    assert float(batch.tag_negative.sum()) == 0.0


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_workers_share_the_batch_of_one(mixup: float) -> None:
    update = {"overlay_probability": 0.7, "mixup_alpha": mixup, "equaliser_db": 4.0, "shift_mel_bins": 2}
    windows = TrainingWindows(feature_set(8), TAXONOMY, TRAINING.model_copy(update=update))
    parts = [list(windows.epoch(0, 0, Shard(rank, 2))) for rank in range(2)]
    for whole, *shares in zip(windows.epoch(0, 0, Shard()), *parts, strict=True):
        for rank, share in enumerate(shares):
            torch.testing.assert_close(share.log_mel, whole.log_mel[rank::2])
            torch.testing.assert_close(share.tag_positive, whole.tag_positive[rank::2])
