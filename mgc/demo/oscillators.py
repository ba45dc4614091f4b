"""Sources of sound: wavetables, FM, plucked strings, noise, and the envelopes that shape them.

All return mono float32, shape (n_samples,), at most about 1 in magnitude; times in seconds, pitches in Hz.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array

TABLE_SIZE = 4_096


@lru_cache(maxsize=512)
def wavetable(shape: str, harmonics: int) -> Float32Array:
    """Return one cycle of a band-limited wave, shape (TABLE_SIZE,), peak 1.

    Parameters
    ----------
    shape
        `saw`, `square`, `triangle`, `pulse25`, `pulse12`, `reed` (odd partials first), `organ` or `sine`.
    harmonics
        Partials kept; the caller keeps them below half the sample rate.
    """
    k = np.arange(1.0, max(1, harmonics) + 1)
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(k) + 1] = -1j * _amplitudes(shape, k)
    cycle = np.fft.irfft(spectrum, TABLE_SIZE)
    table: Float32Array = (cycle / np.abs(cycle).max()).astype(np.float32)
    return table


def _amplitudes(shape: str, k: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    odd = k % 2 == 1
    shapes = {
        "sine": 1.0 * (k == 1),
        "saw": 1 / k,
        "square": odd / k,
        "triangle": odd * np.where(k % 4 == 1, 1.0, -1.0) / k**2,
        "pulse25": np.sin(np.pi * k * 0.25) / k,
        "pulse12": np.sin(np.pi * k * 0.125) / k,
        "reed": np.where(odd, 1.0, 0.35) * np.exp(-0.28 * k),
        "organ": np.isin(k, (1, 2, 3, 4, 8)) / np.sqrt(k),
    }
    return np.asarray(shapes[shape], dtype=np.float64)


def oscillate(
    shape: str,
    frequency_hz: float,
    seconds: float,
    sample_rate: int,
    *,
    harmonics: int = 40,
    phase: float = 0.0,
    vibrato_hz: float = 0.0,
    vibrato_cents: float = 0.0,
) -> Float32Array:
    """Return a steady tone read from a band-limited wavetable; vibrato sets in over the first half second."""
    n_samples = round(seconds * sample_rate)
    allowed = max(1, int(0.45 * sample_rate / frequency_hz))
    table = wavetable(shape, min(harmonics, allowed))
    cycles = np.arange(n_samples) * (frequency_hz / sample_rate) + phase
    if vibrato_hz and vibrato_cents:
        t = np.arange(n_samples) / sample_rate
        # The integral of a sinusoidal frequency deviation is a sinusoidal phase deviation.
        deviation = frequency_hz * (2 ** (vibrato_cents / 1_200) - 1) / (2 * np.pi * vibrato_hz)
        cycles += deviation * np.minimum(1.0, 2.0 * t) * np.sin(2 * np.pi * vibrato_hz * t)
    tone: Float32Array = table[(cycles * TABLE_SIZE).astype(np.int64) & (TABLE_SIZE - 1)]
    return tone


def modulate(frequency_hz: float, ratio: float, index: float, seconds: float, sample_rate: int) -> Float32Array:
    """Return a two-operator FM tone whose modulation index decays (Chowning 1973)."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    depth = index * np.exp(-t / (0.25 * seconds))
    modulator = depth * np.sin(2 * np.pi * frequency_hz * ratio * t)
    return np.sin(2 * np.pi * frequency_hz * t + modulator).astype(np.float32)


def pluck(
    frequency_hz: float,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    *,
    brightness: float = 0.5,
    sustain: float = 0.996,
) -> Float32Array:
    """Return a plucked string (Karplus & Strong 1983), tuned by reading the string at a fractional rate.

    Parameters
    ----------
    brightness
        0 to 1: how much of the burst's upper partials is left at the start.
    sustain
        Gain a period, below 1.
    """
    period = max(4, int(sample_rate / frequency_hz))
    stretch = frequency_hz * (period + 0.5) / sample_rate
    n_samples = round(seconds * sample_rate)
    n_periods = int(n_samples * stretch / period) + 3
    string = np.empty((n_periods, period), dtype=np.float32)
    string[0] = _burst(period, brightness, rng)
    before = np.float32(0.0)
    for index in range(1, n_periods):
        last = string[index - 1]
        string[index, 1:] = last[1:] + last[:-1]
        string[index, 0] = last[0] + before
        string[index] *= 0.5 * sustain
        before = last[-1]
    line = string.ravel()
    return np.asarray(np.interp(np.arange(n_samples) * stretch, np.arange(line.size), line), np.float32)


def _burst(n_samples: int, brightness: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return one period of noise without its mean, low-passed by averaging when it shall be dark."""
    burst = rng.uniform(-1.0, 1.0, n_samples)
    for _ in range(round(6 * (1.0 - brightness))):
        burst = 0.5 * (burst + np.roll(burst, 1))
    burst -= burst.mean()
    return np.asarray(burst / max(1e-9, float(np.abs(burst).max())), dtype=np.float64)


def noise(
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    *,
    low_hz: float = 0.0,
    high_hz: float = 20_000.0,
) -> Float32Array:
    """Return noise of one band with soft edges, peak 1."""
    n_samples = max(16, round(seconds * sample_rate))
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    f = np.fft.rfftfreq(n_samples, 1 / sample_rate)
    spectrum /= np.sqrt(1 + (f / high_hz) ** 8)
    if low_hz:
        spectrum *= np.sqrt((f / low_hz) ** 8 / (1 + (f / low_hz) ** 8))
    band = np.fft.irfft(spectrum, n_samples)
    return (band / max(1e-9, float(np.abs(band).max()))).astype(np.float32)


def held_noise(seconds: float, rate_hz: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Return the noise channel of an early sound chip: random bits held for 1 / `rate_hz`."""
    n_samples = round(seconds * sample_rate)
    step = (np.arange(n_samples) * (rate_hz / sample_rate)).astype(np.int64)
    bits = rng.integers(0, 2, int(step[-1]) + 1 if n_samples else 1) * 2 - 1
    return bits[step].astype(np.float32)


def decay(n_samples: int, sample_rate: int, half_life: float, attack: float = 0.002) -> Float32Array:
    """Return an exponential decay with a short linear attack; halved every `half_life` seconds."""
    t = np.arange(n_samples, dtype=np.float32) / sample_rate
    return (np.exp2(-t / half_life) * np.minimum(1.0, t / attack)).astype(np.float32)


def swell(n_samples: int, sample_rate: int, attack: float, release: float) -> Float32Array:
    """Return an envelope that rises, holds at 1 and falls to 0 at its end; times in seconds."""
    t = np.arange(n_samples, dtype=np.float32) / sample_rate
    total = n_samples / sample_rate
    rise = np.minimum(1.0, t / max(attack, 1e-4))
    fall = np.minimum(1.0, (total - t) / max(release, 1e-4))
    return (np.sin(0.5 * np.pi * np.minimum(rise, fall)) ** 2).astype(np.float32)
