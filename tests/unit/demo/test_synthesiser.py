"""What is composed sounds as its labels say, and the styles sound unlike each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from mgc.demo.compose import DemoClip, plan_clips, render
from mgc.demo.instruments import INSTRUMENTS, Floats, pluck, tone
from mgc.demo.styles import MAJOR, PLAYERS, STYLES, TAGS, Note, Part, Piece, derive_tags

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
        project, parts = clip.piece.project, clip.piece.parts
        families = {INSTRUMENTS[part.instrument].family for part in parts if part.notes}
        for family in ("pad", "plucked", "bells", "bass", "drums"):
            assert (family in clip.tags) == (family in families), clip.path
        assert ("arpeggio" in clip.tags) == any(part.role == "arpeggio" for part in parts)
        assert ("fast" in clip.tags) == (project.tempo_bpm >= 126)
        assert ("slow" in clip.tags) == (project.tempo_bpm <= 92)


@pytest.mark.parametrize("seed", range(4))
def test_a_piece_is_in_the_mode_that_its_third_says_and_in_no_other(seed: int) -> None:
    for clip in plan_clips(12, 12.0, seed):
        notes = {
            (note.midi - clip.piece.project.tonic) % 12
            for part in clip.piece.parts
            if part.role != "drums"
            for note in part.notes
        }
        assert ("major" in clip.tags) == (4 in notes), clip.path
        assert ("minor" in clip.tags) == (3 in notes), clip.path
        assert not {"major", "minor"} <= set(clip.tags)
        assert not {"fast", "slow"} <= set(clip.tags)


def piece_of(*parts: Part) -> Piece:
    """Return a piece of 12 s at 120 beats a minute in C major."""
    project = replace(plan_clips(1, 12.0, 0)[0].piece.project, tempo_bpm=120.0, tonic=48, scale=MAJOR)
    return Piece(project, 12.0, parts, seed=0)


def test_a_part_that_starts_after_the_end_gives_no_tag() -> None:
    sounding = Part("melody", "soft lead", (Note(0.0, 1.0, 76),))
    late = Part("drums", "kick", (Note(30.0, 1.0, 60),))
    assert derive_tags(piece_of(sounding, late)) == ("major",)


def test_bass_and_drums_alone_have_no_mode() -> None:
    bass = Part("bass", "soft bass", (Note(0.0, 1.0, 36), Note(1.0, 1.0, 43)))
    drums = Part("drums", "kick", (Note(0.0, 0.25, 52),))
    assert derive_tags(piece_of(bass, drums)) == ("bass", "drums")


def test_notes_start_on_their_beats() -> None:
    hits = Part("drums", "hat", tuple(Note(float(beat), 0.25, 60) for beat in range(24)))
    samples = render(piece_of(hits), SAMPLE_RATE, 1)[:, 0]
    onsets = np.abs(samples).reshape(24, SAMPLE_RATE // 2)
    assert (onsets[:23, : SAMPLE_RATE // 10].max(axis=1) > 0.1).all(), "a beat is half a second"
    assert onsets[:, SAMPLE_RATE // 4 :].max() < 1e-2


def test_notes_stay_in_the_key() -> None:
    for clip in plan_clips(4, 12.0, 2):
        project = clip.piece.project
        allowed = {(project.tonic + step) % 12 for step in project.scale}
        for part in clip.piece.parts:
            if part.role != "drums":
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
        assert first.piece.project == second.piece.project
        assert first.piece.parts != second.piece.parts
    assert len({(clip.piece.project.tonic, clip.piece.project.tempo_bpm) for clip in clips}) == 8


def test_the_styles_differ_in_attack_depth_and_brightness() -> None:
    onsets = {style.name: of_style(style.name, onset_strength) for style in STYLES}
    assert min(onsets, key=onsets.__getitem__) == "ambient"
    assert onsets["techno"] > 2 * onsets["ambient"]
    low = {style.name: of_style(style.name, low_share) for style in STYLES}
    assert low["techno"] > 3 * low["folk"]
    bright = {style.name: of_style(style.name, bright_share) for style in STYLES}
    assert min(bright["chiptune"], bright["folk"]) > 2 * bright["ambient"]


@pytest.mark.parametrize("family", ["pad", "plucked", "bells", "bass", "drums"])
def test_what_is_tagged_is_audible(family: str) -> None:
    for clip, samples in sounds():
        rest = [part for part in clip.piece.parts if INSTRUMENTS[part.instrument].family != family]
        if family in clip.tags and rest:
            without = render(replace(clip.piece, parts=tuple(rest)), SAMPLE_RATE, 1)[:, 0]
            assert changed_share(samples, without) > 0.01, clip.path


def changed_share(samples: Samples, other: Samples) -> float:
    """Return the share of the power of `samples` that no scaled copy of `other` explains."""
    explained = float(samples @ other) ** 2 / float(other @ other)
    return 1 - explained / float(samples @ samples)


def times(seconds: float, sample_rate: int = SAMPLE_RATE) -> Floats:
    return np.arange(round(seconds * sample_rate)) / sample_rate


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
@pytest.mark.parametrize("sample_rate", [22_050, 44_100])
def test_every_instrument_sounds_and_stays_in_range(name: str, sample_rate: int) -> None:
    t = times(0.5, sample_rate)
    samples = INSTRUMENTS[name].sound(440.0, t, np.random.default_rng(0))
    assert samples.shape == t.shape
    assert np.isfinite(samples).all()
    assert 0.05 < np.abs(samples).max() < 1.8


def cents_off(samples: Floats, hz: float) -> float:
    """Return the distance of the strongest partial near `hz` from it."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    near = round(hz * 8 * len(samples) / SAMPLE_RATE)
    width = round(0.06 * near)
    peak = near - width + int(np.argmax(spectrum[near - width : near + width]))
    return abs(1_200 * np.log2(peak * SAMPLE_RATE / (8 * len(samples)) / hz))


@pytest.mark.parametrize("hz", [82.4, 220.0, 440.0, 880.0])
def test_strings_and_tones_are_in_tune(hz: float) -> None:
    assert cents_off(pluck(hz, times(1.0), np.random.default_rng(1), 3, 0.996), hz) < 12
    assert cents_off(tone(hz, times(1.0), "saw"), hz) < 12


@pytest.mark.parametrize("name", [name for name in sorted(INSTRUMENTS) if INSTRUMENTS[name].family != "drums"])
def test_every_pitched_instrument_plays_the_note_written(name: str) -> None:
    midi = 45 if INSTRUMENTS[name].family == "bass" else 72
    piece = piece_of(Part("melody", name, (Note(0.0, 4.0, midi),)))
    dry = replace(piece, project=replace(piece.project, style=replace(piece.project.style, reverb_level=0.0)))
    samples = render(dry, SAMPLE_RATE, 1)[: 2 * SAMPLE_RATE, 0].astype(np.float64)
    assert cents_off(samples, 440.0 * 2 ** ((midi - 69) / 12)) < 15


def test_tones_do_not_alias() -> None:
    samples = tone(3_000.0, times(1.0), "saw")
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    harmonic = np.zeros(len(spectrum), dtype=bool)
    for number in range(1, 4):
        harmonic[3_000 * number - 5 : 3_000 * number + 6] = True
    assert spectrum[~harmonic].sum() < 1e-4 * spectrum.sum()


def test_the_tables_of_the_styles_fit_together() -> None:
    named: set[str] = set()
    for style in STYLES:
        assert set(style.roles) - {"drums"} <= set(PLAYERS)
        named |= {name for _, names in style.roles.values() for name in names}
        named |= {name for kit in style.kits for name in kit}
        patterns = [*style.bass, *style.chords, *(pattern for kit in style.kits for pattern in kit.values())]
        assert all(len(pattern) == 16 for pattern in patterns)
        if "melody" in style.roles:
            assert all(sum(map(abs, rhythm)) == pytest.approx(4.0) for rhythm in style.rhythms)
    assert named == set(INSTRUMENTS), "every instrument exists and is used"
