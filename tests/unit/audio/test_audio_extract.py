"""From bytes to features: windows where planned, the same floats each time, the right code for each bad file."""

from __future__ import annotations

import tracemalloc
import warnings

import librosa
import numpy as np
import pytest
from audio_samples import (
    BAD_FILES,
    damaged,
    eight_khz_mono,
    flac_claiming,
    m4a,
    music,
    six_channels_192_khz,
    truncated_flac,
    untagged_mp3,
)

from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackError

FEATURES = FeatureConfig(window_seconds=2.0, max_windows=3)
LIMITS = DecodeConfig()


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def by_librosa(samples: np.ndarray, sample_rate: int, starts: list[float]) -> np.ndarray:
    """Return what `extract` should: the whole track resampled, cut, and each window through librosa."""
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    target = FEATURES.sample_rate
    if sample_rate != target:
        mono = librosa.resample(mono, orig_sr=sample_rate, target_sr=target, res_type="soxr_hq")
    n = FEATURES.window_samples
    windows = [librosa.util.fix_length(mono[round(start * target) :][:n], size=n) for start in starts]
    power = [
        librosa.feature.melspectrogram(y=window, sr=target, n_fft=2_048, hop_length=512, n_mels=128).T
        for window in windows
    ]
    return librosa.power_to_db(np.stack(power), ref=np.max, top_db=80.0)


@pytest.mark.parametrize(
    ("seconds", "sample_rate", "channels", "starts"),
    [
        (1.2, 22_050, 1, [0.0]),
        (6.0, 44_100, 2, [0.0, 2.0, 4.0]),
        (14.0, 44_100, 2, [0.0, 6.0, 12.0]),
        (14.0, 48_000, 1, [0.0, 6.0, 12.0]),
        (3.0, 8_000, 1, [0.0, 1.0]),
        (3.0, 192_000, 6, [0.0, 1.0]),
    ],
)
def test_features_are_librosas(seconds, sample_rate, channels, starts):
    samples = music(seconds, sample_rate, channels=channels)
    track = extract(encode(samples, sample_rate, "wav", subtype="FLOAT"), FEATURES, LIMITS)
    assert track.log_mel.shape == (len(starts), FEATURES.n_frames, FEATURES.n_mels)
    assert track.log_mel.dtype == np.float32
    assert track.duration_seconds == pytest.approx(seconds)
    np.testing.assert_allclose(track.log_mel, by_librosa(samples, sample_rate, starts), atol=2e-3)


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "au", "aiff", "caf", "m4a"])
def test_every_container_gives_the_features_of_its_samples(container):
    samples = music(14.0, 44_100, channels=2)
    data = m4a(samples, 44_100) if container == "m4a" else encode(samples, 44_100, container)
    track = extract(data, FEATURES, LIMITS)
    expected = by_librosa(samples, 44_100, [0.0, 6.0, 12.0])
    assert track.duration_seconds == pytest.approx(14.0, abs=0.05)
    loud = expected > -30.0  # codecs leave out what is soft
    assert np.abs(track.log_mel - expected)[loud].mean() < 0.7
    again = extract(data, FEATURES, LIMITS)
    np.testing.assert_array_equal(again.log_mel, track.log_mel)


def test_the_same_sound_in_another_container_has_the_same_features():
    samples = music(9.0, 44_100, channels=2)
    tracks = [extract(encode(samples, 44_100, kind), FEATURES, LIMITS) for kind in ("wav", "au", "aiff", "caf")]
    for track in tracks[1:]:
        np.testing.assert_array_equal(track.log_mel, tracks[0].log_mel)


def test_an_untagged_mp3_has_the_features_of_the_tagged_one():
    samples = music(14.0, 44_100, channels=2)
    tagged = extract(encode(samples, 44_100, "mp3"), FEATURES, LIMITS)
    untagged = extract(untagged_mp3(samples), FEATURES, LIMITS)
    assert untagged.duration_seconds == pytest.approx(14.0, abs=0.1)
    assert untagged.log_mel.shape == tagged.log_mel.shape


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_its_code_and_one_line(name):
    bad = BAD_FILES[name]
    with pytest.raises(TrackError) as caught:
        extract(bad.make(), FEATURES, LIMITS)
    assert caught.value.track_code == bad.code
    assert 0 < len(caught.value.message) < 500
    assert "\n" not in caught.value.message
    assert " at 0x" not in caught.value.message


def test_one_sample_is_a_track():
    short = LIMITS.model_copy(update={"min_seconds": 0.0})
    track = extract(encode(np.full(1, 0.5, dtype=np.float32), 44_100, "wav"), FEATURES, short)
    assert track.log_mel.shape[0] == 1
    assert np.isfinite(track.log_mel).all()


def test_unusual_layouts_become_features():
    for data, seconds in ((eight_khz_mono(), 2.0), (six_channels_192_khz(), 1.0)):
        track = extract(data, FEATURES, LIMITS)
        assert track.duration_seconds == pytest.approx(seconds)
        assert track.log_mel.max() == 0.0


def test_a_truncated_flac_is_read_for_what_there_is():
    track = extract(truncated_flac(seconds=20.0, kept=0.5), FEATURES, LIMITS)
    assert 9.0 < track.duration_seconds < 11.0
    start = (track.duration_seconds - 2.0) / 2
    whole = music(20.0, 22_050)[: round(track.duration_seconds * 22_050)]
    expected = by_librosa(whole, 22_050, [0.0, start, 2 * start])
    np.testing.assert_allclose(track.log_mel[:, 2:-2], expected[:, 2:-2], atol=0.5)


@pytest.mark.parametrize("max_windows", [1, 3])
@pytest.mark.parametrize("claimed", [0, 30 * 22_050, 2**36 - 1])
def test_a_length_that_is_a_lie_is_replaced_by_the_true_one(claimed, max_windows):
    features = FEATURES.model_copy(update={"max_windows": max_windows})
    honest = encode(music(10.0, 22_050), 22_050, "flac")
    expected = extract(honest, features, LIMITS)
    track = extract(flac_claiming(claimed, honest), features, LIMITS)
    assert track.duration_seconds == pytest.approx(10.0)
    np.testing.assert_array_equal(track.log_mel, expected.log_mel)


def test_damage_costs_what_is_damaged():
    samples = music(12.0, 22_050)
    honest = extract(encode(samples, 22_050, "flac"), FEATURES, LIMITS)
    track = extract(damaged(encode(samples, 22_050, "flac"), 0.3, 300), FEATURES, LIMITS)
    assert track.duration_seconds == pytest.approx(12.0, abs=0.5)
    np.testing.assert_allclose(track.log_mel[0], honest.log_mel[0], atol=1e-3)


def test_only_the_windows_sit_in_memory():
    seconds = 20 * 60
    data = encode(np.tile(music(60.0, 22_050), 20), 22_050, "flac", subtype="PCM_S8")
    extract(data, FEATURES, LIMITS)
    tracemalloc.start()
    try:
        track = extract(data, FEATURES, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert track.duration_seconds == pytest.approx(seconds)
    assert peak < seconds * 22_050 * 4 / 10
