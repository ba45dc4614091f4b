"""Log-mels: known signals give known values, silence stays finite, nothing warns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from audio_samples import music

from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.features.log_mel import to_decibels
from mgc.config import FeatureConfig

CONFIG = FeatureConfig()


def mel_power(config, samples, **frames):
    return Analysis(config).window(samples, **frames)[MEL_POWER]


def power_to_db(power, top_db):
    return to_decibels(power, top_db).relative_db


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_shape_is_what_the_settings_promise():
    for settings in ({}, {"n_fft": 512, "hop_length": 160, "n_mels": 40}, {"n_fft": 1_002, "hop_length": 500}):
        config = FeatureConfig(window_seconds=3.0, **settings)
        power = mel_power(config, music(3.0, config.sample_rate))
        assert power.shape == (config.n_frames, config.n_mels)
        assert power.dtype == np.float32


@pytest.mark.parametrize("hz", [100.0, 440.0, 3_000.0, 9_000.0])
def test_a_sine_peaks_in_the_filter_that_weighs_it_most(hz):
    t = np.arange(2 * CONFIG.sample_rate) / CONFIG.sample_rate
    power = mel_power(CONFIG, np.sin(2 * np.pi * hz * t).astype(np.float32))
    filters = filter_banks(CONFIG).mel
    nearest_bin = round(hz * 2_048 / 22_050)
    assert abs(int(power[40].argmax()) - int(filters[:, nearest_bin].argmax())) <= 1


def test_a_sine_at_a_bin_has_the_power_of_its_window():
    # A sine of amplitude 1 at a bin's centre under a Hann window: |X| is n_fft / 4 there, half on each side.
    config = FeatureConfig(sample_rate=16_000, n_fft=512, hop_length=256, n_mels=20, window_seconds=1.0)
    power = mel_power(config, np.sin(2 * np.pi * 32 * np.arange(16_000) / 512).astype(np.float32))
    filters = filter_banks(config).mel
    expected = (512 / 4) ** 2 * (filters[:, 32] + (filters[:, 31] + filters[:, 33]) / 4)
    np.testing.assert_allclose(power[30], expected, rtol=1e-4, atol=1e-6)


def test_silence_is_constant_and_finite():
    power = mel_power(CONFIG, np.zeros(22_050, dtype=np.float32))
    decibels = power_to_db(power, CONFIG.top_db)
    assert np.isfinite(decibels).all()
    assert np.unique(decibels).size == 1


def test_decibels_are_relative_to_the_maximum_and_floored():
    power = np.array([[1e-3, 1e-4], [1e-9, 1e-20]], dtype=np.float32)
    np.testing.assert_allclose(power_to_db(power, 80.0), [[0.0, -10.0], [-60.0, -70.0]], atol=1e-4)
    np.testing.assert_allclose(power_to_db(power, 50.0), [[0.0, -10.0], [-50.0, -50.0]], atol=1e-4)
    assert power_to_db(power, 50.0).max() == 0.0
    assert power[0, 0] == np.float32(1e-3), "the power is left as it was"


def test_level_does_not_matter_where_the_floor_is_not_reached():
    samples = music(1.0, 22_050)
    loud, soft = (power_to_db(mel_power(CONFIG, samples * np.float32(gain)), 60.0) for gain in (1.0, 0.125))
    np.testing.assert_allclose(loud, soft, atol=2e-5)


def test_what_is_not_finite_stays_visible():
    for value in (np.nan, np.inf, 1e30):
        samples = music(1.0, 22_050)
        samples[11_000] = value
        assert not np.isfinite(mel_power(CONFIG, samples).max())


def test_a_batch_boundary_leaves_no_trace():
    samples = music(30.0, 22_050)
    whole = mel_power(CONFIG, samples)
    # From frame 400 on, the same samples in another place of another batch (the first frames see other edges).
    part = mel_power(CONFIG, samples[400 * 512 :])
    np.testing.assert_allclose(part[2:], whole[402:], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("step", [512.0, 512 / 1.2, 700.3])
def test_frames_are_centred_at_the_rounded_multiples_of_their_step(step):
    samples = music(1.0, 22_050)
    power = mel_power(CONFIG, samples, frame_step=step)
    assert len(power) == samples.size // step + 1
    for number in (0, 1, 7, len(power) - 1):
        around = np.pad(samples, 1_024)[round(number * step) :][:2_048]
        alone = mel_power(CONFIG, around, frame_step=1_024.0)[1]
        np.testing.assert_allclose(power[number], alone, rtol=1e-4, atol=1e-6)


def test_as_many_frames_as_wanted_zero_beyond_the_end():
    samples = music(0.5, 22_050)
    power = mel_power(CONFIG, samples, frame_step=300.5, n_frames=60)
    assert power.shape == (60, 128)
    assert (power[41:] == 0.0).all(), "centred more than half a frame beyond the end"
    assert (power[:36].max(axis=1) > 0.0).all()
    # A product of matrices of another height may differ in its last bits, with the processor.
    np.testing.assert_allclose(mel_power(CONFIG, samples, n_frames=5), mel_power(CONFIG, samples)[:5], rtol=1e-5)
