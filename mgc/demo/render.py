"""From a piece to samples: every note played, panned, put into a space, and brought to a safe level."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
from scipy.signal import fftconvolve

from mgc.arrays import Float32Array
from mgc.demo.instruments import INSTRUMENTS, Floats
from mgc.demo.styles import Part, Piece

FADE_OUT_SECONDS = 0.25


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
    mix, wet, style = np.zeros((n_samples, 2)), np.zeros(n_samples), piece.project.style
    for part in piece.parts:
        line = _play(part, piece, n_samples, sample_rate)
        angle = (part.pan + 1) * np.pi / 4
        mix += line[:, None] * np.array([np.cos(angle), np.sin(angle)])
        if part.role not in ("bass", "drums"):
            wet += style.reverb_level * line
    if style.reverb_level:
        mix += _reverb(wet, style.reverb_seconds, sample_rate, np.random.default_rng(piece.seed))
    return _finish(mix.mean(axis=1, keepdims=True) if channels == 1 else mix, piece, sample_rate)


def _play(part: Part, piece: Piece, n_samples: int, sample_rate: int) -> Floats:
    """Return one part alone, mono, shape (n_samples,)."""
    line, instrument = np.zeros(n_samples), INSTRUMENTS[part.instrument]
    beat_seconds = 60.0 / piece.project.tempo_bpm

    @cache
    def sound(midi: int, beats: float) -> Floats:
        t = np.arange(round((beats * beat_seconds + instrument.ring_seconds) * sample_rate)) / sample_rate
        rng = np.random.default_rng([piece.seed, zlib.crc32(part.instrument.encode()), midi])
        return instrument.level * instrument.sound(440.0 * 2.0 ** ((midi - 69) / 12), t, rng)

    for note in part.notes:
        rest = line[round(note.start_beats * beat_seconds * sample_rate) :]
        samples = sound(note.midi, note.beats)[: len(rest)]
        rest[: len(samples)] += note.velocity * samples
    return line


def _reverb(wet: Floats, seconds: float, sample_rate: int, rng: np.random.Generator) -> Floats:
    """Return what a space of decaying noise adds, shape (n_samples, 2): one draw a side."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    fall = 10.0 ** (-3.0 * t / seconds) * np.minimum(1.0, t / 0.01)
    response = fall[:, None] * rng.standard_normal((len(t), 2))
    response /= np.linalg.norm(response, axis=0)
    return np.asarray(fftconvolve(wet[:, None], response, axes=0)[: len(wet)])


def _finish(mix: Floats, piece: Piece, sample_rate: int) -> Float32Array:
    """Saturate gently, fade the end, and set a random peak between -6 and -1 dBFS."""
    mix = np.tanh(1.3 * mix / max(1e-9, float(np.abs(mix).max())))
    n_fade = min(len(mix), round(FADE_OUT_SECONDS * sample_rate))
    mix[len(mix) - n_fade :] *= np.linspace(1.0, 0.0, n_fade)[:, None]
    peak_db = np.random.default_rng([piece.seed, 1]).uniform(-6.0, -1.0)
    return np.asarray(mix * 10.0 ** (peak_db / 20.0) / max(1e-9, float(np.abs(mix).max())), dtype=np.float32)
