"""From a piece to samples: every note played, panned, echoed, put into a room, and brought to a safe level."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.demo.instruments import INSTRUMENTS
from mgc.demo.score import Note, Part, Piece

FADE_OUT_SECONDS = 0.25
ECHOES = 4
ECHOED_ROLES = ("melody", "arpeggio", "chords", "bells")
KICKS = ("kick",)


def render(piece: Piece, sample_rate: int, channels: int) -> Float32Array:
    """Return the sound of a piece, shape (n_samples, channels), peak between -6 and -1 dBFS.

    Parameters
    ----------
    sample_rate
        Hz.
    channels
        1 or 2.
    """
    n_samples = round(piece.seconds * sample_rate)
    drums, music = np.zeros((n_samples, 2)), np.zeros((n_samples, 2))
    send = np.zeros(n_samples)
    sounds: dict[tuple[str, int, float], Float32Array] = {}
    for part in piece.parts:
        line = _play(piece, part, n_samples, sample_rate, sounds)
        if part.role in ECHOED_ROLES and piece.effects.echo_gain:
            line = _echo(line, piece, sample_rate)
        angle = (part.pan + 1) * np.pi / 4
        bus = drums if part.role == "drums" else music
        bus += line[:, None] * np.array([np.cos(angle), np.sin(angle)])
        send += part.send * line
    mix = drums + music * _ducking(piece, n_samples, sample_rate)[:, None]
    if piece.effects.reverb_seconds:
        mix += _reverb(send, piece.effects.reverb_seconds, sample_rate, np.random.default_rng(piece.seed))
    if channels == 1:
        mix = mix.mean(axis=1, keepdims=True)
    return _finish(mix, piece, sample_rate)


def _play(
    piece: Piece,
    part: Part,
    n_samples: int,
    sample_rate: int,
    sounds: dict[tuple[str, int, float], Float32Array],
) -> npt.NDArray[np.float64]:
    """Return one part alone, mono, shape (n_samples,); equal notes are computed once."""
    line = np.zeros(n_samples)
    instrument = INSTRUMENTS[part.instrument]
    beat_samples = 60.0 / piece.tempo_bpm * sample_rate
    for note in part.notes:
        start = round(note.start_beats * beat_samples)
        if start >= n_samples:
            continue
        sound = _sound(piece, part.instrument, note, sample_rate, sounds)[: n_samples - start]
        line[start : start + len(sound)] += note.velocity * instrument.level * sound
    return line


def _sound(
    piece: Piece,
    name: str,
    note: Note,
    sample_rate: int,
    sounds: dict[tuple[str, int, float], Float32Array],
) -> Float32Array:
    seconds = round(note.beats * 60.0 / piece.tempo_bpm, 4)
    key = (name, note.midi, seconds)
    if key not in sounds:
        frequency_hz = 440.0 * 2.0 ** ((note.midi - 69) / 12)
        rng = np.random.default_rng([piece.seed, zlib.crc32(name.encode()), note.midi])
        sounds[key] = INSTRUMENTS[name].sound(frequency_hz, seconds, sample_rate, rng)
    return sounds[key]


def _echo(line: npt.NDArray[np.float64], piece: Piece, sample_rate: int) -> npt.NDArray[np.float64]:
    delay = round(piece.effects.echo_beats * 60.0 / piece.tempo_bpm * sample_rate)
    echoed = line.copy()
    for repeat in range(1, ECHOES + 1):
        if repeat * delay < len(line):
            echoed[repeat * delay :] += piece.effects.echo_gain**repeat * line[: -repeat * delay]
    return echoed


def _ducking(piece: Piece, n_samples: int, sample_rate: int) -> npt.NDArray[np.float64]:
    """Return the gain that the kick drum leaves to the rest: down at each stroke, back within a third of a beat."""
    gain = np.ones(n_samples)
    beat_samples = 60.0 / piece.tempo_bpm * sample_rate
    dip = 1 - piece.effects.ducking * np.linspace(1.0, 0.0, round(0.6 * beat_samples)) ** 2
    for part in piece.parts:
        if piece.effects.ducking and part.instrument in KICKS:
            for note in part.notes:
                start = min(n_samples, round(note.start_beats * beat_samples))
                stop = min(n_samples, start + len(dip))
                gain[start:stop] = np.minimum(gain[start:stop], dip[: stop - start])
    return gain


def _reverb(
    send: npt.NDArray[np.float64], seconds: float, sample_rate: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the room's answer, shape (n_samples, 2): decaying noise convolved, one draw a side."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    fall = 10.0 ** (-3.0 * t / seconds) * np.minimum(1.0, t / 0.01)
    size = _fast_length(len(send) + len(t))
    spectrum = np.fft.rfft(send, size)
    sides = []
    for _ in range(2):
        response = rng.standard_normal(len(t)) * fall
        response[1:] = 0.6 * response[1:] + 0.4 * response[:-1]
        response /= np.sqrt(np.sum(response**2))
        sides.append(np.fft.irfft(spectrum * np.fft.rfft(response, size), size)[: len(send)])
    return np.stack(sides, axis=1)


def _fast_length(n_samples: int) -> int:
    """Return the least 2^a · 3^b · 5^c that is at least `n_samples`: FFTs of other lengths can be slow."""
    best = 1 << (n_samples - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            size = three << max(0, -(-n_samples // three) - 1).bit_length()
            best = min(best, size)
            three *= 3
        five *= 5
    return best


def _finish(mix: npt.NDArray[np.float64], piece: Piece, sample_rate: int) -> Float32Array:
    """Saturate gently, fade the end, quantise for old chips, and set a random peak between -6 and -1 dBFS."""
    mix = np.tanh(1.3 * mix / max(1e-9, float(np.abs(mix).max())))
    n_fade = min(len(mix), round(FADE_OUT_SECONDS * sample_rate))
    mix[len(mix) - n_fade :] *= np.linspace(1.0, 0.0, n_fade)[:, None]
    mix /= max(1e-9, float(np.abs(mix).max()))
    if piece.effects.bits:
        levels = 2 ** (piece.effects.bits - 1)
        mix = np.round(mix * levels) / levels
    peak_db = np.random.default_rng([piece.seed, 1]).uniform(-6.0, -1.0)
    return np.asarray(mix * 10.0 ** (peak_db / 20.0), dtype=np.float32)
