"""Views of a track: each transform by itself, and all of them through the one feature path."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.arrays import Float32Array
from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import extract, extract_views
from mgc.audio.track_features import TrackFeatures
from mgc.audio.transforms import (
    add_noise,
    amplify,
    change_samples,
    emphasise,
    overlay,
    partner_start,
    presence_response,
)
from mgc.audio.views import Recipe, ViewRequest, place, sped_rate
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import TrackCode, TrackError

RATE = 8_000
FEATURES = FeatureConfig(
    sample_rate=RATE, n_fft=512, hop_length=128, n_mels=40, window_seconds=2.0, max_windows=3, top_db=60.0
)
LIMITS = DecodeConfig()


def tone(frequency_hz: float, seconds: float = 4.0, rate: int = RATE) -> Float32Array:
    return (0.4 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def clicks(every_seconds: float, seconds: float) -> Float32Array:
    """Return short noises, the first at 0.25 s of the track's tempo."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    burst = np.random.default_rng(0).uniform(-0.8, 0.8, 40).astype(np.float32)
    for start in np.arange(0.5 * every_seconds, seconds - 0.1, every_seconds):
        place = round(start * RATE)
        samples[place : place + 40] = burst
    return samples


def file_of(samples: Float32Array, rate: int = RATE) -> bytes:
    return encode(samples, rate, "wav", subtype="FLOAT")


def view(data: bytes, recipe: Recipe, *partners: bytes) -> TrackFeatures:
    (extracted,) = extract_views(data, [ViewRequest(recipe, 0 if partners else None)], partners, FEATURES, LIMITS)
    assert isinstance(extracted, TrackFeatures)
    return extracted


def log_mel_of(data: bytes) -> Float32Array:
    return extract(data, FEATURES, LIMITS).log_mel


def inner(log_mel: Float32Array) -> Float32Array:
    """Leave out the frames that hang over a window's ends."""
    return log_mel[:, 3:-3]


def test_overlay_is_equation_6() -> None:
    one, two = tone(300.0, 1.0), tone(500.0, 0.5)
    mixed = overlay(one, two, 0.7)
    np.testing.assert_allclose(mixed[: two.size], 0.7 * one[: two.size] + 0.3 * two, atol=1e-6)
    np.testing.assert_allclose(mixed[two.size :], 0.7 * one[two.size :], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "length", "own", "partner", "expected"),
    [(5.0, 10.0, 30.0, 30.0, 5.0), (20.0, 10.0, 30.0, 110.0, 100.0), (20.0, 10.0, 30.0, 4.0, 0.0), (0, 10, 5, 50, 0)],
)
def test_a_partner_begins_at_the_same_share_of_its_way(
    start: float, length: float, own: float, partner: float, expected: float
) -> None:
    assert partner_start(start, length, own, partner) == pytest.approx(expected)


def test_gain_saturates_at_full_scale() -> None:
    samples = np.array([0.1, -0.6, 0.9], np.float32)
    np.testing.assert_allclose(amplify(samples, 20 * np.log10(2)), [0.2, -1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(amplify(samples, -20.0), samples / 10, atol=1e-7)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_its_level_and_its_seed(snr_db: float) -> None:
    samples = tone(300.0, 10.0)
    noise = add_noise(samples, snr_db, (1, 2)) - samples
    measured = 10 * np.log10(np.mean(samples**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=0.1)
    np.testing.assert_array_equal(add_noise(samples, snr_db, (1, 2)), add_noise(samples, snr_db, (1, 2)))
    assert not np.array_equal(add_noise(samples, snr_db, (1, 3)), add_noise(samples, snr_db, (1, 2)))
    assert not add_noise(np.zeros(100, np.float32), snr_db, (1, 2)).any()


@pytest.mark.parametrize("presence_db", [-9.0, 6.0])
def test_the_presence_is_in_its_band(presence_db: float) -> None:
    size, rate = 1 << 14, 44_100
    decibels = 20 * np.log10(presence_response(size, presence_db, rate))
    bins = {hz: round(hz * size / rate) for hz in (20, 200, 894, 4_000, 18_000)}
    assert decibels[bins[894]] == pytest.approx(presence_db, abs=0.05)
    assert decibels[bins[200]] == pytest.approx(presence_db / 2, abs=0.6)
    assert decibels[bins[4_000]] == pytest.approx(presence_db / 2, abs=0.6)
    assert abs(decibels[bins[20]]) < 0.2
    assert abs(decibels[bins[18_000]]) < 0.6


def test_an_emphasised_tone_is_louder_and_in_phase() -> None:
    samples = tone(894.0, 1.0)
    louder = emphasise(samples, 6.0, RATE)
    ratio = louder[500:-500] @ samples[500:-500] / (samples[500:-500] @ samples[500:-500])
    assert 20 * np.log10(ratio) == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize("semitones", [-12.0, -1.3, 0.0, 0.7, 12.0])
def test_a_shift_is_right_to_a_few_cents(semitones: float) -> None:
    rate = sped_rate(22_050, semitones)
    assert 12 * np.log2(22_050 / rate) == pytest.approx(semitones, abs=0.02)
    assert rate == 22_050 or rate % 25 == 0


def test_a_view_has_windows_of_the_clean_shape() -> None:
    placing = place(Recipe(tempo_ratio=1.25, pitch_semitones=12.0), FEATURES)
    assert (placing.rate, placing.n_samples, placing.frame_step) == (4_000, 10_000, 80.0)
    assert place(Recipe(gain_db=3.0), FEATURES).frame_step is None


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_tempo_leaves_a_steady_tone_as_it_is(ratio: float) -> None:
    data = file_of(tone(440.0))
    stretched = view(data, Recipe(tempo_ratio=ratio))
    assert stretched.duration_seconds == pytest.approx(4.0 / ratio)
    np.testing.assert_allclose(inner(stretched.log_mel)[:1], inner(log_mel_of(data))[:1], atol=0.6)


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_tempo_moves_clicks_to_where_they_are_at_that_tempo(ratio: float) -> None:
    seconds = 2.0 * ratio
    stretched = view(file_of(clicks(0.5 * ratio, seconds)), Recipe(tempo_ratio=ratio)).log_mel[0].mean(axis=1)
    truth = log_mel_of(file_of(clicks(0.5, 2.0)))[0].mean(axis=1)
    loud = truth > truth.max() - 10
    assert loud.sum() >= 8
    found = stretched > stretched.max() - 10
    # An attack lasts as long as the analysis frame either way: a frame more or less at its ends.
    assert (found & ~np.convolve(loud, [1, 1, 1], "same").astype(bool)).sum() == 0
    assert (loud & ~np.convolve(found, [1, 1, 1], "same").astype(bool)).sum() == 0


@pytest.mark.parametrize("source_rate", [8_000, 44_100])
@pytest.mark.parametrize("semitones", [-5.0, 4.0])
def test_pitch_moves_a_tone_and_keeps_its_time(semitones: float, source_rate: int) -> None:
    shifted = view(file_of(tone(500.0, rate=source_rate), source_rate), Recipe(pitch_semitones=semitones))
    truth = log_mel_of(file_of(tone(500.0 * 2 ** (semitones / 12), rate=source_rate), source_rate))
    assert shifted.duration_seconds == pytest.approx(4.0)
    assert shifted.log_mel.shape == truth.shape
    loud = inner(truth) > -35
    assert np.abs(inner(shifted.log_mel) - inner(truth))[loud].max() < 1.0


def test_a_shift_does_not_move_clicks() -> None:
    data = file_of(clicks(0.5, 2.0))
    shifted = view(data, Recipe(pitch_semitones=3.0)).log_mel[0].mean(axis=1)
    truth = log_mel_of(data)[0].mean(axis=1)
    assert np.corrcoef(shifted, truth)[0, 1] > 0.95


def test_an_overlay_is_the_mixture_of_the_two_files() -> None:
    one, two = tone(300.0) + clicks(0.5, 4.0), tone(900.0)
    mixed = view(file_of(one), Recipe(overlay_alpha=0.6, partner="b@1"), file_of(two))
    truth = log_mel_of(file_of(np.float32(0.6) * one + np.float32(0.4) * two))
    np.testing.assert_allclose(mixed.log_mel, truth, atol=0.01)


def test_a_chain_is_applied_in_its_order() -> None:
    samples, partner = tone(300.0, 1.0), tone(700.0, 1.0)
    recipe = Recipe(overlay_alpha=0.5, presence_db=6.0, gain_db=12.0, snr_db=10.0, noise_seed=5)
    expected = add_noise(amplify(emphasise(overlay(samples, partner, 0.5), 6.0, RATE), 12.0), 10.0, (5, 3))
    np.testing.assert_array_equal(change_samples(samples, recipe, RATE, 3, partner), expected)


VIEWS = [
    ViewRequest(),
    ViewRequest(Recipe(tempo_ratio=1.2)),
    ViewRequest(Recipe(tempo_ratio=0.85, presence_db=5.0, pitch_semitones=-1.5)),
    ViewRequest(Recipe(snr_db=12.0, noise_seed=9)),
    ViewRequest(Recipe(overlay_alpha=0.6, partner="b@1"), 0),
    ViewRequest(Recipe(overlay_alpha=0.7, partner="c@1", tempo_ratio=1.1), 1),
]
"""All that reads a track in ways of its own."""


def test_a_view_is_the_same_in_whatever_company() -> None:
    rng = np.random.default_rng(1)
    files = [file_of(rng.normal(0, 0.1, round(s * 11_025)).astype(np.float32), 11_025) for s in (9.3, 5.0, 14.2)]
    own, partners = files[0], files[1:]
    together = extract_views(own, VIEWS, partners, FEATURES, LIMITS)
    backwards = extract_views(own, VIEWS[::-1], partners, FEATURES, LIMITS)[::-1]
    for request, first, second in zip(VIEWS, together, backwards, strict=True):
        (alone,) = extract_views(own, [request], partners, FEATURES, LIMITS)
        for found in (first, second):
            assert isinstance(found, TrackFeatures)
            assert isinstance(alone, TrackFeatures)
            np.testing.assert_array_equal(found.log_mel, alone.log_mel)
            assert found.start_seconds == alone.start_seconds
    assert isinstance(together[0], TrackFeatures)
    np.testing.assert_array_equal(together[0].log_mel, log_mel_of(own))


def test_a_bad_partner_costs_its_view_alone() -> None:
    found = extract_views(file_of(tone(300.0)), VIEWS, [b"no audio", file_of(tone(500.0))], FEATURES, LIMITS)
    failed = [one for one in found if isinstance(one, TrackError)]
    assert [isinstance(one, TrackError) for one in found] == [False] * 4 + [True, False]
    assert failed[0].track_code is TrackCode.NOT_AUDIO
    assert failed[0].message.startswith("the overlay's partner: ")


def test_what_is_not_finite_is_not_saturated_away() -> None:
    samples = tone(300.0)
    samples[5_000] = np.inf
    (found,) = extract_views(file_of(samples), [ViewRequest(Recipe(gain_db=6.0))], [], FEATURES, LIMITS)
    assert isinstance(found, TrackError)
    assert found.track_code is TrackCode.NOT_FINITE


def test_a_truncated_file_is_planned_anew_for_every_view() -> None:
    whole = file_of(tone(300.0, 12.0))
    found = extract_views(whole[: len(whole) // 2], VIEWS[:2], [], FEATURES, LIMITS)
    durations = [one.duration_seconds for one in found if isinstance(one, TrackFeatures)]
    assert durations == pytest.approx([6.0, 5.0], abs=0.05)
