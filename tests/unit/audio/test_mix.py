"""What is mixed does not cancel; silence and clicks are not judged."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import music, untagged_mp3, with_pyav

from mgc.audio.decode.audio_reader import open_audio
from mgc.audio.decode.sndfile import encode
from mgc.audio.decode.source import Mixer, mix_to_mono
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackCode, TrackError

RATE = 44_100
FEATURES, LIMITS = FeatureConfig(window_seconds=1.0, max_windows=3), DecodeConfig()
CLIP = 0.7 * music(3.0, RATE)[:, np.newaxis] + 0.3 * music(3.0, RATE, channels=2, seed=9)
TURNED = CLIP * np.float32([1.0, -1.0])


def log_mel(samples: np.ndarray, **decode: float) -> np.ndarray:
    return extract(encode(samples, RATE, "wav", subtype="FLOAT"), FEATURES, LIMITS.model_copy(update=decode)).log_mel


def code_of(data: bytes, **decode: float) -> TrackCode | None:
    try:
        extract(data, FEATURES, LIMITS.model_copy(update=decode))
    except TrackError as error:
        return error.track_code
    return None


@pytest.mark.parametrize("container", ["wav", "mp3", "untagged mp3", "alac", "ogg"])
def test_a_clip_with_one_channel_turned_over_sounds_as_the_clip(container):
    made = {"alac": lambda x: with_pyav(x, RATE, "ipod", "alac", "s16p"), "untagged mp3": untagged_mp3}
    make = made.get(container, lambda x: encode(x, RATE, container))
    one, other = (extract(make(samples), FEATURES, LIMITS).log_mel for samples in (CLIP, TURNED))
    loud = one > -40.0  # what a codec leaves of the rest depends on what it takes for the sides
    np.testing.assert_allclose(other[loud], one[loud], atol=0.1 if container in ("wav", "alac") else 2.0)


@pytest.mark.parametrize("right", [-1.0, -0.9, -0.5, -0.05, 0.0, 0.5])
def test_the_same_sound_in_both_channels_keeps_its_spectrum_at_any_balance(right):
    mono = music(3.0, RATE)
    balanced = np.stack([mono, np.float32(right) * mono], axis=1)
    np.testing.assert_allclose(log_mel(balanced), log_mel(mono), atol=0.01)


def test_what_only_differs_between_channels_is_not_lost_with_what_is_alike():
    voice, band = music(3.0, RATE, seed=1), 0.1 * music(3.0, RATE, seed=2)
    wide = np.stack([voice + band, -voice + band], axis=1)
    np.testing.assert_allclose(log_mel(wide), log_mel(voice), atol=0.01)


def test_six_channels_of_which_some_are_turned_over_sound():
    six = music(2.0, RATE)[:, np.newaxis] * np.float32([1.0, -1.0, 0.5, -0.5, 0.7, -0.7])
    np.testing.assert_allclose(log_mel(six), log_mel(six[:, 0]), atol=0.01)


def test_ordinary_channels_are_their_mean_to_the_last_bit():
    wide = np.stack([music(3.0, RATE, seed=3), music(3.0, RATE, seed=4)], axis=1)
    for samples in (CLIP, wide, np.stack([CLIP[:, 0], np.zeros(len(CLIP), np.float32)], axis=1)):
        with open_audio(encode(samples, RATE, "wav", subtype="FLOAT"), LIMITS) as reader:
            np.testing.assert_array_equal(reader.read_mono(0, 1 << 30), mix_to_mono(samples.T))


def test_a_part_that_is_turned_over_is_heard_and_the_others_stay():
    half = CLIP.copy()
    half[RATE : 2 * RATE, 1] *= -1.0
    inside = slice(4, -4)  # a window's outermost frames reach into its neighbour
    np.testing.assert_allclose(log_mel(half)[:, inside], log_mel(CLIP)[:, inside], atol=1e-3)


def test_a_channel_that_is_not_finite_is_the_tracks_error_and_an_empty_one_none():
    bad = CLIP.copy()
    bad[:, 1] = np.nan
    assert code_of(encode(bad, RATE, "wav", subtype="FLOAT")) == TrackCode.NOT_FINITE
    assert code_of(encode(CLIP * np.float32([0.0, 1.0]), RATE, "wav")) is None
    mixer = Mixer()
    mixer.mix(bad.T)
    assert not mixer.turns()


@pytest.mark.parametrize(
    "samples",
    [np.zeros((RATE, 2)), np.full(RATE, 1e-5), 1e-4 * np.random.default_rng(0).standard_normal(3 * RATE)],
    ids=["digital", "an offset", "hiss at -80 dB"],
)
def test_silence_has_a_code(samples):
    data = encode(samples.astype(np.float32), RATE, "wav", subtype="FLOAT")
    assert code_of(data) == TrackCode.SILENT
    assert code_of(data, silence_dbfs=-300.0) == (TrackCode.SILENT if not samples.any() else None)


def test_faint_music_and_music_between_silence_are_heard():
    assert code_of(encode(np.float32(1e-2) * CLIP, RATE, "wav", subtype="FLOAT")) is None
    padded = np.concatenate([np.zeros((30 * RATE, 2), np.float32), CLIP])
    assert code_of(encode(padded, RATE, "flac")) is None


@pytest.mark.parametrize("seconds", [0.0099, 0.1, 0.24])
def test_a_click_is_not_judged(seconds):
    data = encode(music(seconds, RATE), RATE, "wav")
    assert code_of(data) == TrackCode.TOO_SHORT
    assert code_of(data, min_seconds=0.0) is None
    assert code_of(encode(music(0.3, RATE), RATE, "wav")) is None
