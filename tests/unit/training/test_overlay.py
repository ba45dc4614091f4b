"""Two tracks at once in the feature domain: overlay within a genre, blends of any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set

from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.config import FeatureConfig
from mgc.training.batches import Shard, TrainingWindows
from mgc.training.window_augment import NO_PARTNER, draw_overlay, overlay

PLAIN = TRAINING.model_copy(
    update={"gain_db": 0.0, "mask_frequency_bins": 0, "mask_frames": 0, "crop_seconds": None, "class_weights": False}
)


def test_partners_are_of_the_genre_and_of_another_track() -> None:
    genres = np.array([0, 0, 0, 0, 1, 1, -1, 2])
    tracks = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    rows = np.tile(np.arange(8), 50)
    drawn = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 1.0)
    laid = drawn.partner != NO_PARTNER
    assert (genres[drawn.partner[laid]] == genres[rows[laid]]).all()
    assert (tracks[drawn.partner[laid]] != tracks[rows[laid]]).all()
    # Unknown genres, and genres of one track, stay alone.
    assert set(rows[laid]) == {0, 1, 2, 3}
    assert drawn.own_part.min() >= 0.5
    assert drawn.own_part.max() <= 1.0
    never = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 0.0)
    assert (never.partner == NO_PARTNER).all()


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


def test_tags_of_both_are_present() -> None:
    features = feature_set(6)
    config = PLAIN.model_copy(update={"overlay_probability": 1.0})
    plain, laid = (TrainingWindows(features, TAXONOMY, one) for one in (PLAIN, config))
    alone, both = next(plain.epoch(0, 0, Shard())), next(laid.epoch(0, 0, Shard()))
    assert torch.equal(alone.genre_weight, both.genre_weight)
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
    update = {
        "overlay_probability": 0.4,
        "blend_probability": 0.5,
        "mixup_alpha": mixup,
        "equaliser_db": 4.0,
        "shift_mel_bins": 2,
    }
    windows = TrainingWindows(feature_set(8), TAXONOMY, TRAINING.model_copy(update=update))
    parts = [list(windows.epoch(0, 0, Shard(rank, 2))) for rank in range(2)]
    for whole, *shares in zip(windows.epoch(0, 0, Shard()), *parts, strict=True):
        for rank, share in enumerate(shares):
            torch.testing.assert_close(share.log_mel, whole.log_mel[rank::2])
            torch.testing.assert_close(share.tag_positive, whole.tag_positive[rank::2])


def test_a_blend_has_a_partner_of_any_genre_and_of_another_track() -> None:
    genres = np.array([0, 0, 0, 1, -1, 2])
    tracks = np.array([0, 0, 1, 2, 3, 4])
    rows = np.tile(np.arange(6), 100)
    drawn = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 0.0, 1.0)
    assert (drawn.blended == (drawn.partner != NO_PARTNER)).all()
    assert (tracks[drawn.partner[drawn.blended]] != tracks[rows[drawn.blended]]).all()
    # Tracks without a genre, and those alone in theirs, are blended and blended with.
    assert {4, 5} <= set(rows[drawn.blended]) & set(drawn.partner[drawn.blended])
    assert drawn.own_part[drawn.blended].min() >= 0.3
    assert drawn.own_part[drawn.blended].max() <= 0.7


def test_blends_change_no_overlay() -> None:
    genres, tracks, rows = np.array([0, 0, 1, 1]), np.arange(4), np.tile(np.arange(4), 20)
    alone = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 0.5)
    both = draw_overlay(np.random.default_rng(0), rows, genres, tracks, 0.5, 0.5)
    assert not alone.blended.any()
    assert not (both.blended & (alone.partner != NO_PARTNER)).any()
    kept = ~both.blended
    np.testing.assert_array_equal(both.partner[kept], alone.partner[kept])
    np.testing.assert_array_equal(both.own_part[kept], alone.own_part[kept])
    np.testing.assert_array_equal(both.start_part, alone.start_part)


def test_of_a_blend_the_sounds_are_known_and_nothing_else() -> None:
    # Tags are buzz, hum and still; the last is no sound.
    update = {"blend_probability": 1.0, "blend_unclear_tags": ("still",), "batch_size": 24}
    config = PLAIN.model_copy(update=update)
    batch = next(TrainingWindows(feature_set(12), TAXONOMY, config).epoch(0, 0, Shard()))
    blended = (batch.tag_positive + batch.tag_negative)[:, 2] == 0
    assert blended.any()
    assert not batch.genre_weight[blended].any()
    # Bins 2 and 13 are loud where, and only where, buzz and hum are.
    loud = batch.log_mel.mean(dim=1)[:, [2, 13]] > -20.0
    assert torch.equal(loud, batch.tag_positive[:, :2] == 1.0)
    assert torch.equal(batch.tag_negative[:, :2], 1.0 - batch.tag_positive[:, :2])
    assert (batch.tag_positive[:, :2].sum(dim=1) == 2.0).any()


def test_a_track_alone_is_not_blended() -> None:
    config = PLAIN.model_copy(update={"blend_probability": 1.0})
    plain, blended = (
        next(TrainingWindows(feature_set(1), TAXONOMY, one).epoch(0, 0, Shard())) for one in (PLAIN, config)
    )
    torch.testing.assert_close(blended.log_mel, plain.log_mel)
    torch.testing.assert_close(blended.genre_weight, plain.genre_weight)
