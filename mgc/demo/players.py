"""Who plays what: each role turns a project's material into notes, and a piece is the roles together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mgc.demo.project import Project
from mgc.demo.score import Note, Part, Piece

BEATS_A_BAR = 4
STEP_BEATS = 0.25
LOUDNESS = {"X": 1.0, "x": 0.6}
OPTIONAL_SHARE = 0.3
"""How often a clip leaves out one of its project's roles."""

CENTRES = {"pad": 58, "chords": 60, "arpeggio": 69, "bells": 84, "bass": 38, "melody": 72}
"""MIDI note around which a role plays."""


def compose_clip(project: Project, seconds: float, seeds: list[int]) -> Piece:
    """Return one clip of a project: its material in another order, with its own melody and arrangement."""
    rng = np.random.default_rng(seeds)
    turn = int(rng.integers(len(project.progression)))
    project = replace(project, progression=project.progression[turn:] + project.progression[:turn])
    roles = _arrange(list(project.orchestra) + (["drums"] if project.kit else []), project.style.core, rng)
    n_bars = int(np.ceil(seconds * project.tempo_bpm / 60.0 / BEATS_A_BAR))
    parts: list[Part] = []
    for role in roles:
        if role == "drums":
            parts.extend(_drums(project, n_bars, rng))
        else:
            notes = PLAYERS[role](project, n_bars, rng)
            parts.append(_seat(project, role, _loosen(notes, project.style.looseness_beats, rng), rng))
    return Piece(
        project.style.name,
        project.tempo_bpm,
        project.key,
        seconds,
        tuple(parts),
        project.style.effects,
        int(rng.integers(2**31)),
    )


def _arrange(roles: list[str], core: str, rng: np.random.Generator) -> list[str]:
    """Leave out one role now and then, never the core, never below two."""
    spare = [role for role in roles if role != core]
    if len(roles) > 2 and rng.random() < OPTIONAL_SHARE:
        roles.remove(spare[int(rng.integers(len(spare)))])
    return roles


def _seat(project: Project, role: str, notes: list[Note], rng: np.random.Generator) -> Part:
    pan = 0.0 if role in ("bass", "pad", "texture") else float(rng.uniform(-0.6, 0.6))
    send = 0.3 * project.style.send if role == "bass" else project.style.send
    return Part(role, project.orchestra[role], tuple(notes), pan, send)


def _loosen(notes: list[Note], spread_beats: float, rng: np.random.Generator) -> list[Note]:
    if not spread_beats:
        return notes
    shifts = np.abs(rng.normal(0.0, spread_beats, len(notes)))
    gains = rng.uniform(0.85, 1.0, len(notes))
    return [
        replace(note, start_beats=note.start_beats + float(shift), velocity=note.velocity * float(gain))
        for note, shift, gain in zip(notes, shifts, gains, strict=True)
    ]


def _root(project: Project, bar: int) -> int:
    return project.progression[int(bar / project.style.bars_a_chord) % len(project.progression)]


def _chord(project: Project, bar: int, role: str, degrees: tuple[int, ...] = (0, 2, 4)) -> list[int]:
    """Return the MIDI notes of the bar's chord, each moved by octaves to near the role's centre, rising."""
    root = _root(project, bar)
    return sorted({_near(project.key.note(root + degree), CENTRES[role]) for degree in degrees})


def _near(midi: int, centre: int) -> int:
    return centre + (midi - centre + 6) % 12 - 6


def _steps(pattern: str, bar: int) -> list[tuple[float, float]]:
    """Return (start in beats, velocity) of a step string in a bar."""
    first = bar * BEATS_A_BAR
    return [(first + index * STEP_BEATS, LOUDNESS[step]) for index, step in enumerate(pattern) if step in LOUDNESS]


def _pad(project: Project, n_bars: int, _: np.random.Generator) -> list[Note]:
    length = max(1, int(project.style.bars_a_chord))
    return [
        Note(bar * BEATS_A_BAR, length * BEATS_A_BAR, midi, 0.8)
        for bar in range(0, n_bars, length)
        for midi in _chord(project, bar, "pad", (0, 2, 4, 6))
    ]


def _texture(_: Project, n_bars: int, __: np.random.Generator) -> list[Note]:
    return [Note(0.0, n_bars * BEATS_A_BAR, 60, 1.0)]


def _bass(project: Project, n_bars: int, rng: np.random.Generator) -> list[Note]:
    notes = []
    for bar in range(n_bars):
        steps = _steps(project.bass, bar)
        root, _, fifth = (_near(project.key.note(_root(project, bar) + d), CENTRES["bass"]) for d in (0, 2, 4))
        ends = [start for start, _ in steps[1:]] + [(bar + 1) * BEATS_A_BAR]
        for (start, velocity), end in zip(steps, ends, strict=True):
            midi = fifth if velocity < 1 and rng.random() < 0.25 else root
            notes.append(Note(start, 0.9 * (end - start), midi, velocity))
    return notes


def _chords(project: Project, n_bars: int, _: np.random.Generator) -> list[Note]:
    """Strum: the strings of a chord one after the other, up-strokes (soft steps) from the top."""
    notes = []
    for bar in range(n_bars):
        chord = _chord(project, bar, "chords")
        strings = [*chord, chord[0] + 12]
        for start, velocity in _steps(project.chords, bar):
            order = strings if velocity == 1 else strings[::-1]
            notes += [Note(start + 0.02 * index, 0.9, midi, 0.7 * velocity) for index, midi in enumerate(order)]
    return notes


def _arpeggio(project: Project, n_bars: int, _: np.random.Generator) -> list[Note]:
    notes, beats = [], project.arpeggio_beats
    for bar in range(n_bars):
        chord = _chord(project, bar, "arpeggio")
        chord.append(chord[0] + 12)
        for index in range(round(BEATS_A_BAR / beats)):
            midi = chord[project.arpeggio_order[index % len(project.arpeggio_order)] % len(chord)]
            notes.append(Note(bar * BEATS_A_BAR + index * beats, 0.95 * beats, midi, 0.8 if index % 4 else 1.0))
    return notes


def _bells(project: Project, n_bars: int, rng: np.random.Generator) -> list[Note]:
    """Two to four strokes a bar on the chord's notes, one of them on the first beat."""
    notes = []
    for bar in range(n_bars):
        chord = _chord(project, bar, "bells")
        beats = {0.0, *rng.choice(np.arange(1, 8) / 2, int(rng.integers(1, 4)), replace=False).tolist()}
        notes += [
            Note(bar * BEATS_A_BAR + beat, 0.5, chord[int(rng.integers(len(chord)))], 0.8) for beat in sorted(beats)
        ]
    return notes


def _melody(project: Project, n_bars: int, rng: np.random.Generator) -> list[Note]:
    """The project's motif over the chords: on its contour, varied now and then, at home on the first beat."""
    notes: list[Note] = []
    for bar in range(n_bars):
        beat, degree = float(bar * BEATS_A_BAR), _root(project, bar) + int(rng.choice((0, 2, 4)))
        for index, (beats, step) in enumerate(zip(project.rhythm, project.contour, strict=True)):
            if index:
                degree += step if rng.random() < 0.8 else int(rng.integers(-2, 3))
            if beats > 0:
                midi = _near(project.key.note(degree), CENTRES["melody"])
                notes.append(Note(beat, 0.92 * beats, midi, 0.9))
            beat += abs(beats)
    return notes


def _drums(project: Project, n_bars: int, rng: np.random.Generator) -> list[Part]:
    parts = []
    for instrument, pattern in project.kit.items():
        hits = [Note(start, 0.25, 60, gain) for bar in range(n_bars) for start, gain in _steps(pattern, bar)]
        loose = _loosen(hits, 0.4 * project.style.looseness_beats, rng)
        pan = 0.0 if "kick" in instrument else float(rng.uniform(-0.3, 0.3))
        parts.append(Part("drums", instrument, tuple(loose), pan, 0.3 * project.style.send))
    return parts


PLAYERS: dict[str, Callable[[Project, int, np.random.Generator], list[Note]]] = {
    "pad": _pad,
    "texture": _texture,
    "bass": _bass,
    "chords": _chords,
    "arpeggio": _arpeggio,
    "bells": _bells,
    "melody": _melody,
}
