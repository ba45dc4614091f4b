"""What a composition is before it sounds: notes, parts, a piece, and the tags that are true of it."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.demo.instruments import INSTRUMENTS

FAST_BPM = 126.0
SLOW_BPM = 92.0
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
TAGS = ("arpeggio", "bass", "bells", "drums", "fast", "major", "minor", "pad", "plucked", "slow")
"""Every tag of the demo catalogue; none of them is a style."""


@dataclass(frozen=True)
class Key:
    """A tonic (MIDI note) and the semitones of the scale above it."""

    tonic: int
    scale: tuple[int, ...]

    def note(self, degree: int) -> int:
        """Return the MIDI note of a scale degree; 0 is the tonic, 7 the octave, below 0 goes down."""
        octave, step = divmod(degree, len(self.scale))
        return self.tonic + 12 * octave + self.scale[step]


@dataclass(frozen=True)
class Note:
    """One note; times in beats, `velocity` a linear gain of 0 to 1."""

    start_beats: float
    beats: float
    midi: int
    velocity: float


@dataclass(frozen=True)
class Part:
    """What one instrument plays.

    Parameters
    ----------
    role
        What it does in the piece: `pad`, `arpeggio`, `chords`, `bells`, `bass`, `melody`, `drums`, `texture`.
    instrument
        A name in `INSTRUMENTS`.
    pan
        -1 left to 1 right.
    send
        Share that goes to the reverb, 0 to 1.
    """

    role: str
    instrument: str
    notes: tuple[Note, ...]
    pan: float = 0.0
    send: float = 0.2


@dataclass(frozen=True)
class Effects:
    """What happens to the mix.

    Parameters
    ----------
    reverb_seconds
        Time to fall by 60 dB; 0 for none.
    echo_beats, echo_gain
        One feedback echo; gain 0 for none.
    ducking
        How far the kick drum pushes the rest down, 0 to 1.
    bits
        Amplitude resolution; 0 for full.
    """

    reverb_seconds: float = 0.0
    echo_beats: float = 0.75
    echo_gain: float = 0.0
    ducking: float = 0.0
    bits: int = 0


@dataclass(frozen=True)
class Piece:
    """One clip's composition."""

    style: str
    tempo_bpm: float
    key: Key
    seconds: float
    parts: tuple[Part, ...]
    effects: Effects
    seed: int


def derive_tags(piece: Piece) -> tuple[str, ...]:
    """Return the tags that are true of a piece, sorted: read off its notes, never decided apart from them."""
    audible = [part for part in piece.parts if any(_seconds(piece, note) < piece.seconds for note in part.notes)]
    families = {INSTRUMENTS[part.instrument].family for part in audible}
    tags = families & {"pad", "plucked", "bells", "bass", "drums"}
    if any(part.role == "arpeggio" for part in audible):
        tags.add("arpeggio")
    tags.add("major" if piece.key.scale == MAJOR else "minor")
    if piece.tempo_bpm >= FAST_BPM:
        tags.add("fast")
    if piece.tempo_bpm <= SLOW_BPM:
        tags.add("slow")
    return tuple(sorted(tags))


def _seconds(piece: Piece, note: Note) -> float:
    return note.start_beats * 60.0 / piece.tempo_bpm
