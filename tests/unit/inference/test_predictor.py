"""A bundle at work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_makers import FEATURES, N_MELS, TAXONOMY, bundle_contents

from mgc.config import FeatureConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import DeviceError, FingerprintError, TrackCode, TrackError
from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle, load_bundle, write_bundle
from mgc.models.ensemble import Decision


def bundle(folder: Path, taxonomy: Taxonomy = TAXONOMY) -> Bundle:
    write_bundle(str(folder), bundle_contents(2, taxonomy))
    return load_bundle(str(folder))


def tracks(*windows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-80, 0, (count, 24, N_MELS)).astype(np.float32) for count in windows]


def test_predictions_by_hand(tmp_path: Path) -> None:
    loaded = bundle(tmp_path)
    heard = tracks(3, 1)
    predictions = Predictor(loaded, batch_windows=2, tag_threshold=0.5).predict(heard)
    for track, prediction in zip(heard, predictions, strict=True):
        genre, tag, embedding = [], [], []
        for number, model in enumerate(loaded.build_members()):
            with torch.inference_mode():
                output = model(torch.from_numpy(track))
            # The temperatures that `bundle_contents` gives its members.
            genre.append(torch.softmax(output.genre_logits.mean(0) / (1 + number), 0))
            tag.append(torch.sigmoid(output.tag_logits.mean(0) / (2 + number)))
            mean = output.embedding.mean(0)
            embedding.append(mean / mean.norm())
        expected = torch.stack(genre).mean(0).numpy()
        np.testing.assert_allclose(prediction.genre_probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(prediction.tag_probabilities, torch.stack(tag).mean(0), atol=1e-5)
        np.testing.assert_allclose(prediction.embedding, torch.cat(embedding) / np.sqrt(2), atol=1e-5)
        assert prediction.genre == TAXONOMY.genres[int(expected.argmax())]
        assert prediction.genre_probability == pytest.approx(expected.max(), abs=1e-5)
        assert prediction.windows == len(track)


def test_tags_at_or_above_the_threshold_likeliest_first(tmp_path: Path) -> None:
    loaded = bundle(tmp_path)
    (prediction,) = Predictor(loaded, tag_threshold=0.0).predict(tracks(2))
    order = np.argsort(-prediction.tag_probabilities)
    assert prediction.tags == [TAXONOMY.tags[tag] for tag in order]
    second = float(prediction.tag_probabilities[order[1]])
    (same,) = Predictor(loaded, tag_threshold=second).predict(tracks(2))
    assert same.tags == prediction.tags[:2]
    (none,) = Predictor(loaded, tag_threshold=1.0).predict(tracks(2))
    assert none.tags == []


def test_tracks_do_not_change_each_other(tmp_path: Path) -> None:
    predictor = Predictor(bundle(tmp_path), batch_windows=4)
    heard = tracks(1, 5, 2, 3)
    together = predictor.predict(heard)
    for track, prediction in zip(heard, together, strict=True):
        (alone,) = predictor.predict([track])
        np.testing.assert_allclose(alone.genre_probabilities, prediction.genre_probabilities, atol=1e-6)
        np.testing.assert_allclose(alone.embedding, prediction.embedding, atol=1e-5)


def test_half_precision_features_say_the_same(tmp_path: Path) -> None:
    predictor = Predictor(bundle(tmp_path))
    (track,) = tracks(2)
    half, full = predictor.predict([track.astype(np.float16), track])
    np.testing.assert_allclose(half.tag_probabilities, full.tag_probabilities, atol=1e-3)


def test_a_bundle_without_genres_or_without_tags(tmp_path: Path) -> None:
    (prediction,) = Predictor(bundle(tmp_path / "tags", Taxonomy((), ("hum",)))).predict(tracks(1))
    assert (prediction.genre, prediction.genre_probability) == (None, None)
    assert prediction.genre_probabilities.shape == (0,)
    (prediction,) = Predictor(bundle(tmp_path / "genres", Taxonomy(("a", "b"), ()))).predict(tracks(1))
    assert prediction.genre in ("a", "b")
    assert (prediction.tags, prediction.tag_probabilities.shape) == ([], (0,))


def test_the_answer_in_time_is_that_of_each_window_alone(tmp_path: Path) -> None:
    predictor = Predictor(bundle(tmp_path), batch_windows=4)
    heard = tracks(3, 1, 2)
    predictions = predictor.predict(heard, in_time=True)
    for track, prediction in zip(heard, predictions, strict=True):
        assert prediction.in_time is not None
        alone = predictor.predict([track[window : window + 1] for window in range(len(track))])
        genre = np.stack([one.genre_probabilities for one in alone])
        tag = np.stack([one.tag_probabilities for one in alone])
        np.testing.assert_array_equal(prediction.in_time.genre_probabilities, genre)
        np.testing.assert_array_equal(prediction.in_time.tag_probabilities, tag)
    for told, plain in zip(predictions, predictor.predict(heard), strict=True):
        assert plain.in_time is None
        np.testing.assert_array_equal(told.genre_probabilities, plain.genre_probabilities)
        np.testing.assert_array_equal(told.embedding, plain.embedding)


def test_no_tracks(tmp_path: Path) -> None:
    assert Predictor(bundle(tmp_path)).predict([]) == []


def test_bad_tracks_are_named(tmp_path: Path) -> None:
    predictor = Predictor(bundle(tmp_path))
    good, bad = tracks(1, 1)
    bad[0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="track 1: its log-mel is not finite"):
        predictor.predict([good, bad])
    with pytest.raises(ValueError, match=r"track 0: log-mel of shape \(1, 24, 15\)"):
        predictor.predict([good[:, :, :15]])
    with pytest.raises(ValueError, match=r"track 1: log-mel of shape \(0, 24, 16\)"):
        predictor.predict([good, good[:0]])


def test_features_made_otherwise_are_refused_with_both_fingerprints(tmp_path: Path) -> None:
    predictor = Predictor(bundle(tmp_path))
    predictor.check_features(FEATURES.fingerprint())
    other = FeatureConfig().fingerprint()
    with pytest.raises(FingerprintError, match=f"{other}.*{FEATURES.fingerprint()}"):
        predictor.check_features(other)


def test_the_bundles_own_thresholds_and_silence(tmp_path: Path) -> None:
    (before,) = Predictor(bundle(tmp_path / "plain")).predict(tracks(2))
    assert before.abstained is False
    sure, tag = before.genre_probability, before.tag_probabilities
    assert sure is not None
    decision = Decision(tag_thresholds=(float(tag[0]), 1.0, 0.0), abstain_below=sure + 1e-4, abstain_precision=0.9)
    write_bundle(str(tmp_path / "own"), bundle_contents(2, decision=decision))
    loaded = load_bundle(str(tmp_path / "own"))
    (after,) = Predictor(loaded).predict(tracks(2))
    assert (after.genre, after.genre_probability, after.abstained) == (before.genre, sure, True)
    assert set(after.tags) == {TAXONOMY.tags[0], TAXONOMY.tags[2]}
    (asked,) = Predictor(loaded, tag_threshold=1.0).predict(tracks(2))
    assert asked.tags == []


class FailingNetwork(torch.nn.Module):
    """Fails on batches with a window that `fails` says yes to, else answers as the network it stands for."""

    def __init__(self, real: torch.nn.Module, error: Exception, fails: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self.real, self.error, self.fails = real, error, fails

    def forward(self, windows: torch.Tensor) -> object:
        if self.fails(windows):
            raise self.error
        return self.real(windows)


def failing(folder: Path, error: Exception, fails: Callable[[torch.Tensor], bool]) -> Predictor:
    predictor = Predictor(bundle(folder))
    predictor._members = [FailingNetwork(member, error, fails) for member in predictor._members]
    return predictor


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("odd"), TypeError("no such thing")])
def test_a_track_on_which_a_network_fails_is_that_tracks_error_alone(tmp_path: Path, error: Exception) -> None:
    several = tracks(1, 2, 1)
    several[1][0, 0, 0] = -33.0
    predictor = failing(tmp_path, error, lambda windows: bool((windows == -33.0).any()))
    first, bad, last = predictor.predict_each(several)
    assert isinstance(bad, TrackError)
    assert (bad.track_code, bad.message) == (TrackCode.PREDICT_FAILED, str(error))
    for found, expected in zip((first, last), Predictor(bundle(tmp_path)).predict(several[::2]), strict=True):
        assert not isinstance(found, TrackError)
        np.testing.assert_array_equal(found.embedding, expected.embedding)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_a_device_that_fails_on_one_track_ends_the_run(tmp_path: Path, error: Exception) -> None:
    one = tracks(1)
    one[0][0, 0, 0] = -33.0
    predictor = failing(tmp_path, error, lambda windows: bool((windows == -33.0).any()))
    with pytest.raises(DeviceError, match=r"fails on 'cpu': .*MGC503") as caught:
        predictor.predict_each(one)
    assert (str(error) or "MemoryError") in str(caught.value)


def test_memory_that_is_short_for_many_tracks_and_not_for_one_costs_none(tmp_path: Path) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    predictor = failing(tmp_path, error, lambda windows: len(windows) > 8)
    found = predictor.predict_each(tracks(8, 8, 8))
    assert not any(isinstance(one, TrackError) for one in found)


@pytest.mark.parametrize("error", [NotImplementedError("Could not run 'aten::x'"), RuntimeError("broken"), OSError()])
def test_what_fails_on_silence_too_ends_the_run(tmp_path: Path, error: Exception) -> None:
    predictor = failing(tmp_path, error, lambda windows: True)
    with pytest.raises(DeviceError, match=r"fails on 'cpu' for silence, too: .*MGC503"):
        predictor.predict_each(tracks(1, 2))
