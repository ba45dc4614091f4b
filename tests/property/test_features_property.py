"""Over random signals and settings our log-mels are librosa's, and windows never miss a track's ends."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.audio.decode.audio_reader import open_audio
from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.features.log_mel import to_decibels
from mgc.audio.windows import window_starts
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackCode, TrackError

ROUNDING = 1e-6
"""Bound on single precision's error in amplitude, relative to the loudest bin (-120 dB; measured -132 dB)."""


@st.composite
def feature_settings(draw: st.DrawFn, full_band: bool) -> FeatureConfig:
    sample_rate = draw(st.sampled_from([8_000, 16_000, 22_050, 44_100]))
    n_fft = 2 * draw(st.integers(32, 2_048))
    f_max = sample_rate / 2 if full_band else draw(st.floats(sample_rate / 8, sample_rate / 2))
    return FeatureConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=draw(st.integers(max(16, n_fft // 8), n_fft)),
        n_mels=draw(st.integers(8, 160)),
        f_min=0.0 if full_band else draw(st.floats(0.0, f_max / 4)),
        f_max=f_max,
        mel_scale=draw(st.sampled_from(["slaney", "htk"])),
        window_seconds=max(0.3, 1.5 * n_fft / sample_rate),
    )


@dataclass(frozen=True)
class Recipe:
    """Sines over noise; frequencies as shares of half the sample rate."""

    frequencies: list[float]
    noise: float
    gain_db: float
    seed: int

    def samples(self, config: FeatureConfig) -> np.ndarray:
        t = np.arange(config.window_samples) / config.sample_rate
        rng = np.random.default_rng(self.seed)
        signal = self.noise * rng.standard_normal(t.size)
        for part in self.frequencies:
            signal += 0.2 * np.sin(np.pi * part * config.sample_rate * t)
        return (10 ** (self.gain_db / 20) * signal).astype(np.float32)


def recipes(noise: st.SearchStrategy[float]) -> st.SearchStrategy[Recipe]:
    return st.builds(
        Recipe,
        frequencies=st.lists(st.floats(0.001, 0.999), max_size=4),
        noise=noise,
        gain_db=st.floats(-60.0, 0.0),
        seed=st.integers(0, 2**32 - 1),
    )


def by_librosa(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty filters, frames longer than the signal
        return librosa.feature.melspectrogram(
            y=samples,
            sr=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            fmin=config.f_min,
            fmax=config.f_max,
            htk=config.mel_scale == "htk",
            pad_mode="constant",
        ).T


@settings(max_examples=120)
@given(feature_settings(full_band=True), recipes(noise=st.floats(0.01, 0.3)))
def test_decibels_of_sound_are_librosas(config, recipe):
    samples = recipe.samples(config)
    ours = to_decibels(Analysis(config).window(samples)[MEL_POWER], 80.0).relative_db
    theirs = librosa.power_to_db(by_librosa(samples, config), ref=np.max, top_db=80.0)
    assert ours.shape == theirs.shape == (config.n_frames, config.n_mels)
    # Single precision's error is a share of the loudest bin: it shows in what is softest (and would show in
    # everything if the loudest bins were outside of all filters).
    tolerance_db = np.where(theirs > -50.0, 1e-3, 3e-2)
    excess_db = np.abs(ours - theirs) - tolerance_db
    assert excess_db.max() <= 0.0


@settings(max_examples=120)
@given(feature_settings(full_band=False), recipes(noise=st.sampled_from([0.0, 1e-6, 1e-3])))
def test_power_of_anything_is_librosas_to_single_precision(config, recipe):
    samples = recipe.samples(config)
    ours, theirs = (
        np.sqrt(power) for power in (Analysis(config).window(samples)[MEL_POWER], by_librosa(samples, config))
    )
    filters = filter_banks(config).mel
    spectrum = np.abs(librosa.stft(samples, n_fft=config.n_fft, hop_length=config.hop_length))
    loudest = spectrum.max() * np.sqrt(filters.sum(axis=1).max())
    assert np.abs(ours - theirs).max() <= ROUNDING * loudest


@given(st.floats(1e-4, 1e6), st.floats(0.1, 600.0), st.integers(1, 500))
def test_windows_lie_in_the_track_and_reach_both_ends(duration_seconds, window_seconds, max_windows):
    config = FeatureConfig(window_seconds=window_seconds, max_windows=max_windows)
    starts = np.array(window_starts(duration_seconds, config))
    assert 1 <= starts.size <= max_windows
    assert starts[0] == 0.0
    assert (np.diff(starts) > 0).all()
    if starts.size > 1:
        np.testing.assert_allclose(starts[-1] + window_seconds, duration_seconds, rtol=1e-9)
        np.testing.assert_allclose(np.diff(starts), starts[1], rtol=1e-6)
    if starts.size < max_windows:
        covered = starts[-1] + window_seconds
        assert covered >= duration_seconds - 0.05 * window_seconds - 1e-9
        assert (np.diff(starts) <= window_seconds * (1 + 0.05)).all(), "no gap worth speaking of"


@given(st.text(min_size=1, max_size=3_000), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_no_text_is_audio(text, encoding):
    data = text.encode(encoding, errors="replace")
    with pytest.raises(TrackError) as caught:
        open_audio(data, DecodeConfig())
    assert caught.value.track_code in (TrackCode.NOT_AUDIO, TrackCode.DECODE_FAILED)
