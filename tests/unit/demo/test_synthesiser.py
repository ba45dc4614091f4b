"""What is composed sounds as its labels say, and the styles sound unlike each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from mgc.demo.instruments import INSTRUMENTS
from mgc.demo.oscillators import oscillate, pluck
from mgc.demo.plan import DemoClip, plan_clips
from mgc.demo.players import PLAYERS
from mgc.demo.render import render
from mgc.demo.score import MAJOR, TAGS, Effects, Key, Note, Part, Piece, derive_tags
from mgc.demo.styles import STYLES

SAMPLE_RATE = 22_050
SECONDS = 6.0
Samples = npt.NDArray[np.float32]


@cache
def sounds() -> list[tuple[DemoClip, Samples]]:
    """Return every second clip of a catalogue (one a project), mono."""
    return [(clip, render(clip.piece, SAMPLE_RATE, 1)[:, 0]) for clip in plan_clips(8, SECONDS, 1)[::2]]


def of_style(style: str, figure: Callable[[Samples], float]) -> float:
    return float(np.median([figure(samples) for clip, samples in sounds() if clip.genre == style]))


def frames(samples: Samples) -> npt.NDArray[np.float64]:
    """Return power spectra, shape (n_frames, 513), hop 256."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, 1_024)[::256] * np.hanning(1_024)
    return np.asarray(np.abs(np.fft.rfft(windows)) ** 2)


def onset_strength(samples: Samples) -> float:
    """Return the mean rise of the level between frames, in dB; high for what is struck, low for what swells."""
    level_db = 10 * np.log10(frames(samples).sum(axis=1) + 1e-3)
    return float(np.maximum(0.0, np.diff(level_db)).mean())


def low_share(samples: Samples) -> float:
    """Return the share of the power below 120 Hz."""
    power = frames(samples).sum(axis=0)
    return float(power[: round(120 / SAMPLE_RATE * 1_024) + 1].sum() / power.sum())


def bright_share(samples: Samples) -> float:
    """Return the share of the power above 3 kHz."""
    power = frames(samples).sum(axis=0)
    return float(power[round(3_000 / SAMPLE_RATE * 1_024) :].sum() / power.sum())


def test_no_clip_is_silent_clipped_or_not_finite() -> None:
    for clip, samples in sounds():
        assert np.isfinite(samples).all(), clip.path
        assert 10 ** (-6.01 / 20) <= np.abs(samples).max() <= 10 ** (-0.99 / 20), clip.path
        rms_by_second = np.sqrt((samples.reshape(int(SECONDS), -1) ** 2).mean(axis=1))
        assert rms_by_second.min() > 0.01, clip.path


def test_the_same_piece_gives_the_same_bytes() -> None:
    clip, samples = sounds()[0]
    again = render(plan_clips(8, SECONDS, 1)[0].piece, SAMPLE_RATE, 1)[:, 0]
    assert again.tobytes() == samples.tobytes()
    assert clip.piece == plan_clips(8, SECONDS, 1)[0].piece


def test_stereo_has_two_sides_and_mono_is_their_mean() -> None:
    piece = plan_clips(2, 2.0, 0)[0].piece
    stereo, mono = render(piece, SAMPLE_RATE, 2), render(piece, SAMPLE_RATE, 1)
    assert (stereo.shape, mono.shape) == ((44_100, 2), (44_100, 1))
    assert np.abs(stereo[:, 0] - stereo[:, 1]).max() > 0.01
    assert np.corrcoef(stereo.mean(axis=1), mono[:, 0])[0, 1] > 0.99


def test_the_tags_are_what_was_composed() -> None:
    for clip in plan_clips(12, 12.0, 0):
        families = {INSTRUMENTS[part.instrument].family for part in clip.piece.parts if part.notes}
        for family in ("pad", "plucked", "bells", "bass", "drums"):
            assert (family in clip.tags) == (family in families), clip.path
        assert ("arpeggio" in clip.tags) == any(part.role == "arpeggio" for part in clip.piece.parts)
        assert ("major" in clip.tags) == (clip.piece.key.scale == MAJOR)
        assert ("fast" in clip.tags) == (clip.piece.tempo_bpm >= 126)
        assert ("slow" in clip.tags) == (clip.piece.tempo_bpm <= 92)


def test_a_part_that_starts_after_the_end_gives_no_tag() -> None:
    heard = Part("melody", "sine lead", (Note(0.0, 1.0, 72, 1.0),))
    late = Part("drums", "kick", (Note(30.0, 1.0, 60, 1.0),))
    piece = Piece("techno", 120.0, Key(48, MAJOR), 12.0, (heard, late), Effects(), 0)
    assert derive_tags(piece) == ("major",)


def test_notes_stay_in_the_key() -> None:
    for clip in plan_clips(4, 12.0, 2):
        key = clip.piece.key
        allowed = {(key.tonic + step) % 12 for step in key.scale}
        for part in clip.piece.parts:
            if part.role not in ("drums", "texture"):
                assert {note.midi % 12 for note in part.notes} <= allowed, (clip.path, part.role)


@pytest.mark.parametrize("seed", range(4))
def test_tags_cross_styles_and_none_is_rare_or_a_style(seed: int) -> None:
    clips = plan_clips(12, 12.0, seed)
    counts = Counter(tag for clip in clips for tag in clip.tags)
    assert set(counts) == set(TAGS)
    assert min(counts.values()) >= 6
    for tag in TAGS:
        holders = [clip for clip in clips if tag in clip.tags]
        assert len({clip.genre for clip in holders}) >= 2, tag
        for style in STYLES:
            assert {clip.path for clip in holders} != {c.path for c in clips if c.genre == style.name}


def test_clips_of_a_project_share_material_and_differ_in_sound() -> None:
    clips = plan_clips(4, 4.0, 0)
    for first, second in zip(clips[::2], clips[1::2], strict=True):
        assert first.group == second.group
        assert (first.piece.key, first.piece.tempo_bpm) == (second.piece.key, second.piece.tempo_bpm)
        assert first.piece.parts != second.piece.parts
    assert len({(clip.piece.key, clip.piece.tempo_bpm) for clip in clips}) == 8


def test_the_styles_differ_in_attack_depth_and_brightness() -> None:
    onsets = {style.name: of_style(style.name, onset_strength) for style in STYLES}
    assert min(onsets, key=onsets.__getitem__) == "ambient"
    assert onsets["techno"] > 2 * onsets["ambient"]
    low = {style.name: of_style(style.name, low_share) for style in STYLES}
    assert low["techno"] > 3 * low["folk"]
    bright = {style.name: of_style(style.name, bright_share) for style in STYLES}
    assert min(bright["chiptune"], bright["folk"]) > 2 * bright["ambient"]


@pytest.mark.parametrize("family", ["pad", "plucked", "bells", "bass", "drums"])
def test_what_is_tagged_is_heard(family: str) -> None:
    for clip, samples in sounds():
        rest = [part for part in clip.piece.parts if INSTRUMENTS[part.instrument].family != family]
        if family in clip.tags and rest:
            without = render(replace(clip.piece, parts=tuple(rest)), SAMPLE_RATE, 1)[:, 0]
            assert changed_share(samples, without) > 0.01, clip.path


def changed_share(samples: Samples, other: Samples) -> float:
    """Return the share of the power of `samples` that no scaled copy of `other` explains."""
    explained = float(samples @ other) ** 2 / float(other @ other)
    return 1 - explained / float(samples @ samples)


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
@pytest.mark.parametrize("sample_rate", [22_050, 44_100])
def test_every_instrument_sounds_and_stays_in_range(name: str, sample_rate: int) -> None:
    samples = INSTRUMENTS[name].sound(440.0, 0.5, sample_rate, np.random.default_rng(0))
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.05 < np.abs(samples).max() < 1.8
    assert len(samples) >= 0.05 * sample_rate


@pytest.mark.parametrize("frequency_hz", [82.4, 220.0, 440.0, 880.0])
def test_strings_and_oscillators_are_in_tune(frequency_hz: float) -> None:
    for samples in (
        pluck(frequency_hz, 1.0, SAMPLE_RATE, np.random.default_rng(1)),
        oscillate("saw", frequency_hz, 1.0, SAMPLE_RATE),
    ):
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
        near = round(frequency_hz * 8 * len(samples) / SAMPLE_RATE)
        width = round(0.06 * near)
        peak = near - width + int(np.argmax(spectrum[near - width : near + width]))
        found_hz = peak * SAMPLE_RATE / (8 * len(samples))
        assert abs(1_200 * np.log2(found_hz / frequency_hz)) < 12, "more than 12 cents off"


def test_oscillators_do_not_alias() -> None:
    samples = oscillate("saw", 3_000.0, 1.0, SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    harmonic = np.zeros(len(spectrum), dtype=bool)
    for number in range(1, 4):
        harmonic[3_000 * number - 5 : 3_000 * number + 6] = True
    assert spectrum[~harmonic].sum() < 1e-4 * spectrum.sum()


def test_every_role_has_a_player_and_every_instrument_exists() -> None:
    for style in STYLES:
        assert set(style.shares) - {"drums"} <= set(PLAYERS)
        assert style.core in style.shares
        named = [name for names in style.orchestra.values() for name in names]
        named += [name for kit in style.drums for name in kit]
        assert set(named) <= set(INSTRUMENTS)
        assert all(len(pattern) == 16 for kit in style.drums for pattern in kit.values())
        assert all(sum(map(abs, rhythm)) == pytest.approx(4.0) for rhythm in style.rhythms)
