"""The demo's music: four styles as tables, and how a piece of one is composed.

A project is what one artist would use throughout: tempo, key, chords, instruments, patterns. Its clips are pieces
made of that material. A piece is notes, and its tags are read off them, so they are always true.
Times are in beats, pitches are MIDI notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mgc.demo.instruments import INSTRUMENTS

T = TypeVar("T")

TAGS = ("arpeggio", "bass", "bells", "drums", "fast", "major", "minor", "pad", "plucked", "slow")
"""Every tag of the demo catalogue; none of them is a style."""
FAST_BPM = 126.0
SLOW_BPM = 92.0

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PROGRESSIONS: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {
    MAJOR: ((0, 4, 5, 3), (0, 3, 4, 3), (0, 5, 3, 4), (0, 3, 0, 4)),
    MINOR: ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 6)),
}
"""Scale → scale degrees of four chords' roots."""

BEATS_A_BAR = 4
LOUDNESS = {"X": 1.0, "x": 0.6}
"""Of a step string, which is one bar in sixteen steps; `.` is silent."""
ARPEGGIOS = ((0, 1, 2, 3), (0, 2, 1, 2), (3, 2, 1, 0), (0, 1, 2, 3, 2, 1))
CENTRES = {"pad": 58, "chords": 60, "arpeggio": 69, "bells": 84, "bass": 38, "melody": 72}
"""Role → the note that it plays around."""


@dataclass(frozen=True)
class Style:
    """What a project of one style may choose from.

    Parameters
    ----------
    roles
        Role → share of the projects that have it, and the instruments to choose one from.
    kits
        Drum kits: instrument → step string.
    bass, chords
        Step strings of those roles.
    rhythms
        One bar of melody each, as note lengths; negative is a rest.
    reverb_seconds, reverb_level
        Time to fall by 60 dB, and gain.
    """

    name: str
    tempo_bpm: tuple[float, float]
    roles: Mapping[str, tuple[float, tuple[str, ...]]]
    bass: tuple[str, ...]
    rhythms: tuple[tuple[float, ...], ...] = ((),)
    chords: tuple[str, ...] = ("X.......X.......",)
    kits: tuple[Mapping[str, str], ...] = ({},)
    arpeggio_beats: float = 0.5
    reverb_seconds: float = 0.0
    reverb_level: float = 0.0


STYLES = (
    Style(
        name="ambient",
        tempo_bpm=(54, 84),
        roles={
            "pad": (1.0, ("warm pad", "reed pad")),
            "bells": (0.5, ("tubular bell", "glockenspiel")),
            "arpeggio": (0.35, ("harp", "soft lead")),
            "chords": (0.35, ("harp",)),
            "bass": (0.5, ("soft bass",)),
            "melody": (0.5, ("soft lead", "whistle")),
        },
        bass=("X...............",),
        rhythms=((-1.0, 3.0), (2.0, 2.0), (-2.0, 1.0, 1.0)),
        reverb_seconds=3.5,
        reverb_level=0.6,
    ),
    Style(
        name="techno",
        tempo_bpm=(116, 144),
        roles={
            "drums": (1.0, ()),
            "bass": (0.85, ("acid bass",)),
            "arpeggio": (0.4, ("saw stab", "muted string")),
            "chords": (0.6, ("saw stab", "muted string")),
            "pad": (0.45, ("warm pad", "reed pad")),
            "bells": (0.2, ("tubular bell",)),
        },
        kits=(
            {"kick": "X...X...X...X...", "hat": "..x...x...x...x.", "clap": "....X.......X..."},
            {"kick": "X...X...X...X.x.", "hat": "xxXxxxXxxxXxxxXx"},
        ),
        bass=("..X...X...X...X.", "x.xXx.xXx.xXx.xX", "..xX..xX..xX..xX"),
        chords=("...X..x....X..x.", "..X...X...X...X."),
        arpeggio_beats=0.25,
        reverb_seconds=0.9,
        reverb_level=0.2,
    ),
    Style(
        name="chiptune",
        tempo_bpm=(84, 176),
        roles={
            "melody": (1.0, ("pulse lead",)),
            "drums": (0.75, ()),
            "bass": (0.85, ("chip bass",)),
            "arpeggio": (0.65, ("pulse lead",)),
            "bells": (0.25, ("chip bell",)),
        },
        kits=(
            {"chip kick": "X.....x.X.......", "clap": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"chip kick": "X...X...X...X...", "clap": "..x...x...x...x."},
        ),
        bass=("X.X.X.X.X.X.X.X.", "X..X..X.X..X..X."),
        rhythms=((0.5, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5, 1.0), (0.75, 0.75, 0.5, 0.5, 0.5, 1.0)),
        arpeggio_beats=0.125,
    ),
    Style(
        name="folk",
        tempo_bpm=(70, 136),
        roles={
            "chords": (1.0, ("guitar",)),
            "melody": (0.75, ("whistle", "fiddle")),
            "arpeggio": (0.5, ("guitar", "harp")),
            "bass": (0.5, ("upright bass",)),
            "drums": (0.35, ()),
            "pad": (0.35, ("reed pad",)),
            "bells": (0.25, ("glockenspiel",)),
        },
        kits=(
            {"frame drum": "X.....x.X...x...", "shaker": "x.x.x.x.x.x.x.x."},
            {"frame drum": "X.......X.......", "shaker": "X.xxX.xxX.xxX.xx"},
        ),
        bass=("X.......X.......", "X.......x...x..."),
        chords=("X...x.x.X...x.x.", "X..xX..xX..xX..x"),
        rhythms=((1.0, 0.5, 0.5, 1.0, 1.0), (0.5, 0.5, 1.0, 0.5, 0.5, 1.0), (1.5, 0.5, 1.0, -1.0)),
        reverb_seconds=1.1,
        reverb_level=0.2,
    ),
)


@dataclass(frozen=True)
class Project:
    """The material that the clips of one artist share.

    Parameters
    ----------
    tonic, scale
        The key: a note, and the semitones above it.
    progression
        Scale degrees of four chords' roots, a chord a bar.
    instruments
        By role; the drums are in `kit`.
    rhythm, contour
        One bar of melody: note lengths, and steps in the scale from note to note.
    arpeggio
        The order of a chord's notes.
    """

    style: Style
    name: str
    tempo_bpm: float
    tonic: int
    scale: tuple[int, ...]
    progression: tuple[int, ...]
    instruments: Mapping[str, str]
    kit: Mapping[str, str]
    bass: str
    chords: str
    rhythm: tuple[float, ...]
    contour: tuple[int, ...]
    arpeggio: tuple[int, ...]

    def notes(self, role: str, *degrees: int) -> list[int]:
        """Return the notes of scale degrees (0 is the tonic), each moved by octaves to where the role plays."""
        notes = (self.tonic + self.scale[degree % 7] for degree in degrees)
        return [CENTRES[role] + (note - CENTRES[role] + 6) % 12 - 6 for note in notes]

    def chord(self, role: str, root: int) -> list[int]:
        """Return the triad on a root, rising, and its lowest note an octave up."""
        triad = sorted(self.notes(role, root, root + 2, root + 4))
        return [*triad, triad[0] + 12]


@dataclass(frozen=True)
class Note:
    """One note; `velocity` is a linear gain of 0 to 1."""

    start_beats: float
    beats: float
    midi: int
    velocity: float = 0.8


@dataclass(frozen=True)
class Part:
    """What one instrument (a name in `INSTRUMENTS`) plays, and where: `pan` is -1 for left to 1 for right."""

    role: str
    instrument: str
    notes: tuple[Note, ...]
    pan: float = 0.0


@dataclass(frozen=True)
class Piece:
    """One clip's composition; the seed decides the noise in its instruments, and its peak."""

    project: Project
    seconds: float
    parts: tuple[Part, ...]
    seed: int


def plan_projects(style: Style, count: int, seeds: Sequence[int]) -> list[Project]:
    """Return `count` projects of a style.

    Each role plays in its share of them, to the nearest whole project, half of them are in major, and the tempi
    are spread out: in so few projects independent draws would leave some tags without an example.
    """
    rng = np.random.default_rng(seeds)
    low, high = style.tempo_bpm
    tempi = low + (rng.permutation(count) + rng.random(count)) / count * (high - low)
    major = rng.permutation(count) < round(count / 2)
    plays = {role: rng.permutation(count) < round(share * count) for role, (share, _) in style.roles.items()}
    projects = []
    for index in range(count):
        roles = [role for role in plays if plays[role][index]]
        scale, rhythm = MAJOR if major[index] else MINOR, _one_of(rng, style.rhythms)
        projects.append(
            Project(
                style=style,
                name=f"{style.name}-{index + 1:02}",
                tempo_bpm=round(float(tempi[index]), 1),
                tonic=48 + int(rng.integers(12)),
                scale=scale,
                progression=_one_of(rng, PROGRESSIONS[scale]),
                instruments={role: _one_of(rng, style.roles[role][1]) for role in roles if role != "drums"},
                kit=_one_of(rng, style.kits) if "drums" in roles else {},
                bass=_one_of(rng, style.bass),
                chords=_one_of(rng, style.chords),
                rhythm=rhythm,
                contour=tuple(rng.choice((-2, -1, -1, 0, 1, 1, 2), len(rhythm)).tolist()),
                arpeggio=_one_of(rng, ARPEGGIOS),
            )
        )
    return projects


def _one_of(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def compose_piece(project: Project, seconds: float, seeds: Sequence[int]) -> Piece:
    """Return one clip of a project: its chords from another start, under a melody and bells of its own."""
    rng = np.random.default_rng(seeds)
    first = int(rng.integers(4))
    n_bars = int(np.ceil(seconds * project.tempo_bpm / 60.0 / BEATS_A_BAR))
    roots = [project.progression[(first + bar) % 4] for bar in range(n_bars)]
    parts = []
    for role, instrument in project.instruments.items():
        pan = 0.0 if role in ("bass", "pad") else float(rng.uniform(-0.6, 0.6))
        parts.append(Part(role, instrument, _in_bars([PLAYERS[role](project, root, rng) for root in roots]), pan))
    for instrument, pattern in project.kit.items():
        strokes = [Note(start, 0.25, 60, velocity) for start, velocity in _steps(pattern)]
        parts.append(Part("drums", instrument, _in_bars([strokes] * n_bars)))
    return Piece(project, seconds, tuple(parts), seed=int(rng.integers(2**31)))


def derive_tags(piece: Piece) -> tuple[str, ...]:
    """Return the tags that are true of a piece, sorted: families and roles that sound, its tempo, and its mode.

    A piece without the third of its scale (drums and bass alone) is neither `major` nor `minor`.
    """
    project, n_beats = piece.project, piece.seconds * piece.project.tempo_bpm / 60.0
    sounding = [(part, note) for part in piece.parts for note in part.notes if note.start_beats < n_beats]
    true = {INSTRUMENTS[part.instrument].family for part, _ in sounding} | {part.role for part, _ in sounding}
    if project.scale[2] in {(note.midi - project.tonic) % 12 for part, note in sounding if part.role != "drums"}:
        true.add("major" if project.scale == MAJOR else "minor")
    if project.tempo_bpm >= FAST_BPM:
        true.add("fast")
    if project.tempo_bpm <= SLOW_BPM:
        true.add("slow")
    return tuple(sorted(true.intersection(TAGS)))


def _steps(pattern: str) -> list[tuple[float, float]]:
    """Return (start in beats, velocity) of the strokes of a step string."""
    return [(index * 0.25, LOUDNESS[step]) for index, step in enumerate(pattern) if step in LOUDNESS]


def _in_bars(bars: list[list[Note]]) -> tuple[Note, ...]:
    """Return the notes of successive bars, whose starts are counted from their bar's, counted from the first's."""
    starts = [(bar * BEATS_A_BAR, note) for bar, notes in enumerate(bars) for note in notes]
    return tuple(replace(note, start_beats=start + note.start_beats) for start, note in starts)


def _pad(project: Project, root: int, _: np.random.Generator) -> list[Note]:
    return [Note(0.0, BEATS_A_BAR, midi) for midi in project.chord("pad", root)]


def _bass(project: Project, root: int, rng: np.random.Generator) -> list[Note]:
    """The root, and the fifth on some of the soft steps."""
    low, fifth = project.notes("bass", root, root + 4)
    steps = _steps(project.bass)
    ends = [start for start, _ in steps[1:]] + [float(BEATS_A_BAR)]
    return [
        Note(start, 0.9 * (end - start), fifth if velocity < 1 and rng.random() < 0.25 else low, velocity)
        for (start, velocity), end in zip(steps, ends, strict=True)
    ]


def _chords(project: Project, root: int, _: np.random.Generator) -> list[Note]:
    """Strummed: the strings of a chord one after the other."""
    strings = list(enumerate(project.chord("chords", root)))
    return [
        Note(start + 0.02 * index, 0.9, midi, 0.7 * velocity)
        for start, velocity in _steps(project.chords)
        for index, midi in strings
    ]


def _arpeggio(project: Project, root: int, _: np.random.Generator) -> list[Note]:
    chord, order, beats = project.chord("arpeggio", root), project.arpeggio, project.style.arpeggio_beats
    n_notes = int(BEATS_A_BAR / beats)
    return [Note(index * beats, 0.95 * beats, chord[order[index % len(order)]]) for index in range(n_notes)]


def _bells(project: Project, root: int, rng: np.random.Generator) -> list[Note]:
    """The first beat and two others, on notes of the chord."""
    starts = (0.0, *rng.choice(np.arange(1, 8) / 2, 2, replace=False).tolist())
    return [Note(start, 0.5, _one_of(rng, project.chord("bells", root))) for start in starts]


def _melody(project: Project, root: int, rng: np.random.Generator) -> list[Note]:
    """The project's rhythm and contour over the chord, varied now and then."""
    notes, start, degree = [], 0.0, root + _one_of(rng, (0, 2, 4))
    for beats, step in zip(project.rhythm, project.contour, strict=True):
        if beats > 0:
            notes.append(Note(start, 0.92 * beats, *project.notes("melody", degree)))
        start += abs(beats)
        degree += step if rng.random() < 0.8 else int(rng.integers(-2, 3))
    return notes


PLAYERS: dict[str, Callable[[Project, int, np.random.Generator], list[Note]]] = {
    "pad": _pad,
    "bass": _bass,
    "chords": _chords,
    "arpeggio": _arpeggio,
    "bells": _bells,
    "melody": _melody,
}
"""Role → what it plays in one bar over a chord's root (a scale degree)."""
