"""Batches and augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from model_makers import FEATURES, N_MELS, TAXONOMY, TRAINING, feature_set, without_labels
from table_makers import catalogue, commit_table, feature_part

from mgc.config.taxonomy import Taxonomy
from mgc.errors import TrainingError
from mgc.storage.store import Store
from mgc.tables.feature_cache import LogMels
from mgc.tables.feature_shards import read_feature_set
from mgc.tables.run_log import OutputDirectory
from mgc.training.batches import Batch, Shard, TrainingWindows
from mgc.training.window_augment import MaskedBand, WindowShape, augment, draw

PLAIN = TRAINING.model_copy(
    update={"mixup_alpha": 0.0, "gain_db": 0.0, "mask_frequency_bins": 0, "mask_frames": 0, "crop_seconds": None}
)


def epoch(windows: TrainingWindows, seed: int = 0, number: int = 0, shard: Shard = Shard()) -> list[Batch]:  # noqa: B008
    return list(windows.epoch(seed, number, shard))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.log_mel, other.log_mel) and torch.equal(one.genre_weight, other.genre_weight)


def test_every_window_comes_once_an_epoch() -> None:
    features = feature_set(7, n_windows=3)
    windows = TrainingWindows(features, TAXONOMY, PLAIN)
    batches = epoch(windows)
    assert len(windows) == 21
    assert [len(batch.log_mel) for batch in batches] == [7, 7, 7]
    found = torch.cat([batch.log_mel for batch in batches]).sum(dim=(1, 2))
    given = torch.from_numpy(np.concatenate(features.log_mels)).float().sum(dim=(1, 2))
    torch.testing.assert_close(found.sort().values, given.sort().values)


def test_labels_go_with_their_windows() -> None:
    features = feature_set(6)
    for batch in epoch(TrainingWindows(features, TAXONOMY, PLAIN)):
        # What makes a genre and a tag in these tracks: see `feature_set`.
        loud = batch.log_mel.mean(dim=1)
        high = loud[:, 9] > loud[:, 5]
        assert torch.equal(batch.genre_weight.argmax(dim=1) == 0, high)
        assert torch.equal(batch.tag_positive[:, 0] > 0, loud[:, 2] > -10)
        assert torch.equal(batch.tag_positive + batch.tag_negative, torch.ones(len(loud), 3))


def test_seed_and_epoch_decide_everything() -> None:
    windows = TrainingWindows(feature_set(8), TAXONOMY, TRAINING)
    first = epoch(windows, 3, 1)
    assert all(same(one, other) for one, other in zip(first, epoch(windows, 3, 1), strict=True))
    assert not same(first[0], epoch(windows, 3, 2)[0])
    assert not same(first[0], epoch(windows, 4, 1)[0])


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_share_the_batch_of_one(world_size: int) -> None:
    windows = TrainingWindows(feature_set(8), TAXONOMY, TRAINING)
    parts = [epoch(windows, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for whole, *shares in zip(epoch(windows), *parts, strict=True):
        joined = torch.empty_like(whole.log_mel)
        for rank, share in enumerate(shares):
            joined[rank::world_size] = share.log_mel
            assert share.genre_total == pytest.approx(whole.genre_total / world_size)
            assert share.tag_total == pytest.approx(whole.tag_total / world_size)
        torch.testing.assert_close(joined, whole.log_mel)


def test_no_worker_is_left_without_a_window() -> None:
    windows = TrainingWindows(feature_set(1), TAXONOMY, PLAIN)
    for rank in range(5):
        (batch,) = epoch(windows, shard=Shard(rank, 5))
        assert len(batch.log_mel) == 1


def test_crops_lie_inside_the_window() -> None:
    features = feature_set(4)
    config = PLAIN.model_copy(update={"crop_seconds": 0.32})
    whole = np.concatenate(features.log_mels).astype(np.float32)
    (batch,) = epoch(TrainingWindows(features, TAXONOMY, config))
    assert batch.log_mel.shape == (8, 10, N_MELS)
    places = np.lib.stride_tricks.sliding_window_view(whole, 10, axis=1).transpose(0, 1, 3, 2).reshape(-1, 10, N_MELS)
    for crop in batch.log_mel.numpy():
        assert (places == crop).all(axis=(1, 2)).any()


def test_a_crop_longer_than_the_window_is_the_window() -> None:
    config = PLAIN.model_copy(update={"crop_seconds": 60.0})
    (batch,) = epoch(TrainingWindows(feature_set(2), TAXONOMY, config))
    assert batch.log_mel.shape[1] == FEATURES.n_frames


def test_mixup_mixes_sound_and_labels_alike() -> None:
    config = PLAIN.model_copy(update={"mixup_alpha": 1.0, "class_weights": False})
    features = feature_set(8)
    level = [np.full_like(log_mel, -10 if genre == "high" else -50) for log_mel, genre in
             zip(features.log_mels, features.genres, strict=True)]  # fmt: skip
    for batch in epoch(TrainingWindows(replace(features, log_mels=level), TAXONOMY, config)):
        share_of_high = (batch.log_mel.mean(dim=(1, 2)) + 50) / 40
        torch.testing.assert_close(batch.genre_weight[:, 0], share_of_high, atol=1e-4, rtol=0)
        torch.testing.assert_close(batch.genre_weight.sum(dim=1), torch.ones(len(share_of_high)))


def test_what_is_unknown_has_no_mass_even_mixed() -> None:
    features = replace(feature_set(4), genres=["high", None, None, "low"], tags_known=[True, True, False, False])
    config = TRAINING.model_copy(update={"class_weights": False})
    batches = epoch(TrainingWindows(features, TAXONOMY, config))
    assert sum(batch.genre_total for batch in batches) == pytest.approx(4.0, abs=1.0)
    assert all(float(batch.genre_weight.sum(dim=1).max()) <= 1.0 + 1e-6 for batch in batches)


def test_tracks_without_any_label_are_left_out() -> None:
    features = replace(feature_set(3), genres=["high", None, "low"], tags_known=[False, False, False])
    assert len(TrainingWindows(features, TAXONOMY, PLAIN)) == 4
    with pytest.raises(TrainingError, match="none of the 3 tracks to train on has a genre or a tag"):
        TrainingWindows(without_labels(features), TAXONOMY, PLAIN)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_track(value: float) -> None:
    features = feature_set(3)
    features.log_mels[1][0, 3, 5] = value
    with pytest.raises(TrainingError, match="track 't0001' has features that are not finite"):
        TrainingWindows(features, TAXONOMY, PLAIN)


def test_features_of_another_shape_name_the_track() -> None:
    features = feature_set(3)
    features.log_mels[2] = features.log_mels[2][:, :20]
    with pytest.raises(TrainingError, match=r"track 't0002' has features of shape \(2, 20, 16\)"):
        TrainingWindows(features, TAXONOMY, PLAIN)


def test_masked_bands_hold_the_mean_and_the_rest_is_untouched() -> None:
    shape = WindowShape(10, 6, 10)
    draws = draw(np.random.default_rng(0), 2, shape, PLAIN)
    draws = replace(
        draws,
        gain_db=np.array([3.0, 0.0], np.float32),
        bins=MaskedBand(np.array([1, 0]), np.array([2, 0]), 6),
        frames=MaskedBand(np.array([0, 0]), np.array([4, 0]), 10),
    )
    log_mel = torch.rand(2, 10, 6) * -80
    found = augment(log_mel, draws, np.array([0, 1]))
    mean = (log_mel[0] + 3).mean()
    torch.testing.assert_close(found[0, :4], mean.expand(4, 6))
    torch.testing.assert_close(found[0, :, 1:3], mean.expand(10, 2))
    torch.testing.assert_close(found[0, 4:, 3:], log_mel[0, 4:, 3:] + 3)
    torch.testing.assert_close(found[1], log_mel[1])


def test_draws_stay_inside_and_leave_half() -> None:
    config = TRAINING.model_copy(update={"mask_frequency_bins": 500, "mask_frames": 500, "crop_seconds": None})
    draws = draw(np.random.default_rng(0), 500, WindowShape(20, 8, 12), config)
    assert draws.crop_start.min() == 0
    assert draws.crop_start.max() == 8
    assert draws.bins.width.max() == 4
    assert (draws.bins.start + draws.bins.width).max() <= 8
    assert (draws.frames.start + draws.frames.width).max() <= 12
    assert draws.own_part.min() >= 0.5
    assert np.abs(draws.gain_db).max() <= config.gain_db
    assert sorted(draws.partner) == list(range(500))


def test_the_spectrum_moves_by_whole_bins() -> None:
    config = PLAIN.model_copy(update={"shift_mel_bins": 2})
    draws = replace(draw(np.random.default_rng(0), 3, WindowShape(5, 6, 5), config), shift=np.array([2, 0, -1]))
    log_mel = torch.arange(6.0).expand(3, 5, 6)
    found = augment(log_mel, draws, np.array([0, 1, 2]))
    assert found[0, 0].tolist() == [0, 0, 0, 1, 2, 3]
    assert found[1, 4].tolist() == [0, 1, 2, 3, 4, 5]
    assert found[2, 0].tolist() == [1, 2, 3, 4, 5, 5]


def test_the_equaliser_bends_the_spectrum_and_not_time() -> None:
    config = PLAIN.model_copy(update={"equaliser_db": 5.0})
    draws = draw(np.random.default_rng(0), 4, WindowShape(7, 12, 7), config)
    gain = augment(torch.full((4, 7, 12), -40.0), draws, np.arange(4)) + 40.0
    assert 1.0 < float(gain.abs().max()) <= 5.0
    assert torch.equal(gain[:, 0], gain[:, 6])
    np.testing.assert_allclose(gain[:, 0, 0].numpy(), draws.equaliser_db[:, 0], atol=1e-5)


def test_batches_made_ahead_are_the_same_and_so_are_their_errors() -> None:
    windows = TrainingWindows(feature_set(20), TAXONOMY, TRAINING)
    plain, ahead = epoch(windows, 3, 1), list(windows.epoch_ahead(3, 1, Shard()))
    assert len(plain) == len(ahead) == 5
    assert all(same(one, other) for one, other in zip(plain, ahead, strict=True))
    next(windows.epoch_ahead(3, 1, Shard()))  # left in the middle, it ends

    def failing(row: int) -> np.ndarray:
        raise OSError("the disk is gone")

    windows._log_mels = LogMels(failing, np.arange(20))
    with pytest.raises(OSError, match="the disk is gone"):
        list(windows.epoch_ahead(3, 1, Shard()))


def test_batches_from_disk_are_those_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    part = feature_part(dict.fromkeys("abcdefg", "1"), FEATURES)
    noise = np.random.default_rng(0).uniform(-80, 0, (7, FEATURES.n_frames * N_MELS)).astype("<f2")
    place = part.schema.get_field_index("log_mel")
    values = pa.array([row.tobytes() for row in noise], part.schema.field(place).type)
    part = part.set_column(place, part.schema.field(place), values)
    commit_table(OutputDirectory(Store.open(str(tmp_path)), "features"), part, FEATURES.fingerprint())
    tracks = catalogue(dict.fromkeys("abcdefg", "1"))
    stored = read_feature_set(str(tmp_path), tracks, "train")
    held = replace(stored, log_mels=[np.array(log_mel) for log_mel in stored.log_mels], finite=None)
    changes = {"mixup_alpha": 0.5, "overlay_probability": 0.5, "blend_probability": 0.5, "batch_size": 3}
    config, taxonomy = TRAINING.model_copy(update=changes), Taxonomy(("jazz",), ("drums",))
    assert [len(log_mel) for log_mel in stored.log_mels] == [1] * 7
    for rank in range(2):
        one, other = (
            TrainingWindows(features, taxonomy, config).epoch(3, 1, Shard(rank, 2)) for features in (stored, held)
        )
        for from_disk, from_memory in zip(one, other, strict=True):
            for name, values in vars(from_memory).items():
                assert np.array_equal(vars(from_disk)[name], values)
