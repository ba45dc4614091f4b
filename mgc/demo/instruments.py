"""The demo's instruments: how a note becomes samples.

`hz` is a frequency, `t` the time of each sample in seconds, shape (n_samples,); sounds are about 1 at their loudest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

Floats = npt.NDArray[np.float64]

TABLE_SIZE = 4_096
VIBRATO_HZ = 5.0
PARTIALS: dict[str, Callable[[Floats], Floats]] = {
    "saw": lambda k: 1 / k,
    "triangle": lambda k: np.sin(0.5 * np.pi * k) / k**2,
    "pulse": lambda k: np.sin(0.25 * np.pi * k) / k,
    "reed": lambda k: np.where(k % 2 == 1, 1.0, 0.35) * np.exp(-0.28 * k),
}
"""Amplitudes of the partials 1, 2, … of each wave."""


def tone(hz: float, t: Floats, wave: str, n_partials: int = 40, vibrato_cents: float = 0.0) -> Floats:
    """Return a steady tone read from one cycle of a wave, with `n_partials` at most and none that would alias.

    Vibrato sets in over half a second.
    """
    table = _cycle(wave, max(1, min(n_partials, int(0.45 / (hz * t[1])))))
    # The integral of a sinusoidal frequency deviation is a sinusoidal phase deviation.
    depth = hz * (2 ** (vibrato_cents / 1_200) - 1) / (2 * np.pi * VIBRATO_HZ)
    phase = hz * t + depth * np.minimum(1.0, 2.0 * t) * np.sin(2 * np.pi * VIBRATO_HZ * t)
    return np.asarray(table[(phase * TABLE_SIZE).astype(np.int64) % TABLE_SIZE])


@lru_cache(maxsize=512)
def _cycle(wave: str, n_partials: int) -> Floats:
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex128)
    spectrum[1 : n_partials + 1] = -1j * PARTIALS[wave](np.arange(1.0, n_partials + 1))
    cycle = np.fft.irfft(spectrum, TABLE_SIZE)
    return np.asarray(cycle / np.abs(cycle).max())


def chorus(hz: float, t: Floats, wave: str, n_partials: int) -> Floats:
    """Return three voices of a tone, 8 cents apart."""
    return np.asarray(np.mean([tone(hz * 2 ** (cents / 1_200), t, wave, n_partials) for cents in (-8, 0, 8)], axis=0))


def darkening(hz: float, t: Floats, half_life: float) -> Floats:
    """Return a saw that loses its upper partials: bright and dark readings cross-faded, a filter without a filter."""
    opening = decay(t, half_life)
    return opening * tone(hz, t, "saw", 36) + (1 - opening) * tone(hz, t, "saw", 4)


def pluck(hz: float, t: Floats, rng: np.random.Generator, smoothing: int, sustain: float) -> Floats:
    """Return a plucked string (Karplus & Strong 1983), tuned by reading it at a fractional rate.

    Parameters
    ----------
    smoothing
        How often the burst of noise that plucks the string is averaged with its neighbours: more is darker.
    sustain
        Gain a period, below 1.
    """
    period = int(1 / (hz * t[1]))
    burst = rng.uniform(-1.0, 1.0, period)
    for _ in range(smoothing):
        burst = 0.5 * (burst + _turned(burst))
    burst -= burst.mean()
    # Averaging neighbours delays by half a sample a period.
    positions = hz * t * (period + 0.5)
    periods = [burst / np.abs(burst).max()]
    while len(periods) * period <= positions[-1]:
        periods.append(0.5 * sustain * (periods[-1] + _turned(periods[-1])))
    string = np.concatenate(periods)
    return np.asarray(np.interp(positions, np.arange(len(string)), string)) * swell(t, 0.001, 0.3 * float(t[-1]))


def _turned(period: Floats) -> Floats:
    """Return a period begun at its last sample; `np.roll` takes several times as long for so few."""
    return np.concatenate((period[-1:], period[:-1]))


def bell(hz: float, t: Floats, ratio: float, half_life: float) -> Floats:
    """Return a two-operator FM tone that gets purer as it decays (Chowning 1973)."""
    modulator = 2.0 * np.exp2(-t / half_life) * np.sin(2 * np.pi * hz * ratio * t)
    return np.asarray(np.sin(2 * np.pi * hz * t + modulator) * decay(t, half_life))


def drum(t: Floats, start_hz: float, end_hz: float, half_life: float) -> Floats:
    """Return a sine that falls in pitch."""
    sweep_hz = end_hz + (start_hz - end_hz) * np.exp2(-t / 0.018)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(sweep_hz) * t[1]) * decay(t, half_life))


def rattle(t: Floats, rng: np.random.Generator, low_hz: float, half_life: float) -> Floats:
    """Return a burst of noise above a frequency."""
    high = butter(4, low_hz, "highpass", fs=1 / t[1], output="sos")
    return np.asarray(0.4 * sosfilt(high, rng.standard_normal(len(t))) * decay(t, half_life))


def decay(t: Floats, half_life: float) -> Floats:
    """Return an exponential decay with a short linear attack; halved every `half_life` seconds."""
    return np.asarray(np.exp2(-t / half_life) * np.minimum(1.0, t / 0.002))


def swell(t: Floats, attack: float, release: float) -> Floats:
    """Return an envelope that rises, holds at 1 and falls to 0 at its end; times in seconds."""
    slopes = np.minimum(t / min(attack, 0.3 * t[-1]), (t[-1] - t) / min(release, 0.3 * t[-1]))
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(1.0, slopes)) ** 2)


@dataclass(frozen=True)
class Instrument:
    """A family (what a tag can be true of), a level in the mix (linear), and a sound.

    A note lasts as long as it is written, and `ring_seconds` longer.
    """

    family: str
    level: float
    ring_seconds: float
    sound: Callable[[float, Floats, np.random.Generator], Floats]


INSTRUMENTS = {
    "warm pad": Instrument("pad", 0.34, 0.6, lambda hz, t, _: chorus(hz, t, "saw", 8) * swell(t, 1.0, 0.6)),
    "reed pad": Instrument("pad", 0.3, 0.6, lambda hz, t, _: chorus(hz, t, "reed", 14) * swell(t, 0.7, 0.6)),
    "guitar": Instrument("plucked", 0.55, 0.7, lambda hz, t, rng: pluck(hz, t, rng, 2, 0.996)),
    "harp": Instrument("plucked", 0.6, 1.4, lambda hz, t, rng: pluck(hz, t, rng, 4, 0.998)),
    "muted string": Instrument("plucked", 0.6, 0.1, lambda hz, t, rng: pluck(hz, t, rng, 3, 0.975)),
    "tubular bell": Instrument("bells", 0.3, 3.0, lambda hz, t, _: bell(hz, t, 3.5, 0.55)),
    "glockenspiel": Instrument("bells", 0.3, 1.5, lambda hz, t, _: bell(hz, t, 4.0, 0.25)),
    "chip bell": Instrument("bells", 0.3, 0.7, lambda hz, t, _: bell(hz, t, 2.0, 0.12)),
    "soft bass": Instrument("bass", 0.45, 0.1, lambda hz, t, _: tone(hz, t, "triangle", 6) * swell(t, 0.08, 0.1)),
    "chip bass": Instrument("bass", 0.5, 0.03, lambda hz, t, _: tone(hz, t, "triangle", 9) * swell(t, 0.003, 0.03)),
    "acid bass": Instrument("bass", 0.42, 0.03, lambda hz, t, _: darkening(hz, t, 0.06) * swell(t, 0.003, 0.03)),
    "upright bass": Instrument("bass", 0.7, 0.3, lambda hz, t, rng: pluck(hz, t, rng, 5, 0.994)),
    "soft lead": Instrument("lead", 0.28, 0.1, lambda hz, t, _: tone(hz, t, "triangle", 3) * swell(t, 0.15, 0.1)),
    "saw stab": Instrument("lead", 0.26, 0.03, lambda hz, t, _: darkening(hz, t, 0.03) * swell(t, 0.003, 0.03)),
    "pulse lead": Instrument("lead", 0.3, 0.03, lambda hz, t, _: tone(hz, t, "pulse") * swell(t, 0.003, 0.03)),
    "whistle": Instrument("lead", 0.34, 0.05, lambda hz, t, _: tone(hz, t, "triangle", 5, 18) * swell(t, 0.05, 0.05)),
    "fiddle": Instrument("lead", 0.24, 0.05, lambda hz, t, _: tone(hz, t, "saw", 14, 22) * swell(t, 0.08, 0.05)),
    "kick": Instrument("drums", 0.95, 0.5, lambda _, t, __: drum(t, 190, 46, 0.09)),
    "chip kick": Instrument("drums", 0.8, 0.2, lambda _, t, __: drum(t, 300, 70, 0.035)),
    "frame drum": Instrument("drums", 0.7, 0.4, lambda _, t, __: drum(t, 170, 95, 0.07)),
    "clap": Instrument("drums", 0.8, 0.2, lambda _, t, rng: rattle(t, rng, 1_100, 0.045)),
    "hat": Instrument("drums", 0.6, 0.0, lambda _, t, rng: rattle(t, rng, 6_500, 0.014)),
    "shaker": Instrument("drums", 0.6, 0.1, lambda _, t, rng: rattle(t, rng, 4_500, 0.025)),
}
"""Name → instrument."""
