"""The orchestra of the demo: named instruments, each of a family that its listener would name.

A family is what a tag can be true of: `pad`, `plucked`, `bells`, `bass`, `drums`, `lead`, `texture`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mgc.arrays import Float32Array
from mgc.demo.oscillators import decay, held_noise, modulate, noise, oscillate, pluck, swell

SynthFunction = Callable[[float, float, int, np.random.Generator], Float32Array]
"""(frequency in Hz, seconds, sample_rate, rng) → mono samples; may ring on after `seconds`."""


@dataclass(frozen=True)
class Instrument:
    """A sound, the family it belongs to, and its level in the mix (linear)."""

    family: str
    sound: SynthFunction
    level: float = 0.5


def _pad(shape: str, harmonics: int, detune_cents: float) -> SynthFunction:
    def sound(frequency_hz: float, seconds: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        length = seconds + 0.6
        voices = [
            oscillate(
                shape,
                frequency_hz * 2 ** (cents / 1_200),
                length,
                sample_rate,
                harmonics=harmonics,
                phase=rng.random(),
            )
            for cents in (-detune_cents, 0.0, detune_cents)
        ]
        envelope = swell(len(voices[0]), sample_rate, min(1.2, 0.35 * length), 0.6)
        return (sum(voices[1:], voices[0]) * envelope / 3).astype(np.float32)

    return sound


def _string(brightness: float, sustain: float, ring: float) -> SynthFunction:
    def sound(frequency_hz: float, seconds: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        length = min(seconds, 2.0) + ring
        samples = pluck(frequency_hz, length, sample_rate, rng, brightness=brightness, sustain=sustain)
        return samples * swell(len(samples), sample_rate, 0.001, 0.3 * length)

    return sound


def _bell(ratio: float, index: float, half_life: float) -> SynthFunction:
    def sound(frequency_hz: float, _: float, sample_rate: int, __: np.random.Generator) -> Float32Array:
        samples = modulate(frequency_hz, ratio, index, 6 * half_life, sample_rate)
        return samples * decay(len(samples), sample_rate, half_life)

    return sound


def _lead(
    shape: str, harmonics: int, attack: float, half_life: float | None, vibrato_cents: float, breath: float = 0.0
) -> SynthFunction:
    def sound(frequency_hz: float, seconds: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        length = seconds + 0.03
        samples = oscillate(
            shape,
            frequency_hz,
            length,
            sample_rate,
            harmonics=harmonics,
            vibrato_hz=5.3,
            vibrato_cents=vibrato_cents,
        )
        if breath:
            air = noise(length, sample_rate, rng, low_hz=frequency_hz, high_hz=6 * frequency_hz)
            samples = samples + breath * air[: len(samples)]
        if half_life is not None:
            samples = samples * decay(len(samples), sample_rate, half_life)
        return samples * swell(len(samples), sample_rate, attack, 0.03)

    return sound


def _acid(shape: str, half_life: float) -> SynthFunction:
    """Bright and dark readings of one wave, cross-faded: a filter that closes, without a filter."""

    def sound(frequency_hz: float, seconds: float, sample_rate: int, _: np.random.Generator) -> Float32Array:
        bright = oscillate(shape, frequency_hz, seconds, sample_rate, harmonics=36)
        dark = oscillate(shape, frequency_hz, seconds, sample_rate, harmonics=4)
        opening = decay(len(dark), sample_rate, half_life)
        samples = opening * bright + (1 - opening) * dark
        return samples * swell(len(samples), sample_rate, 0.003, min(0.04, 0.3 * seconds))

    return sound


def _drum(start_hz: float, end_hz: float, half_life: float, click: float) -> SynthFunction:
    def sound(_: float, __: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        n_samples = round(7 * half_life * sample_rate)
        sweep = end_hz + (start_hz - end_hz) * np.exp2(-np.arange(n_samples) / (0.018 * sample_rate))
        samples = np.sin(2 * np.pi * np.cumsum(sweep) / sample_rate) * decay(n_samples, sample_rate, half_life)
        tick = noise(0.012, sample_rate, rng, low_hz=1_500)
        tick = tick * decay(len(tick), sample_rate, 0.003)
        samples[: len(tick)] += click * tick
        return samples.astype(np.float32)

    return sound


def _rattle(low_hz: float, half_life: float, tone_hz: float = 0.0, attack: float = 0.001) -> SynthFunction:
    def sound(_: float, __: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        samples = noise(7 * half_life, sample_rate, rng, low_hz=low_hz, high_hz=16_000)
        if tone_hz:
            t = np.arange(len(samples)) / sample_rate
            samples = 0.7 * samples + 0.5 * np.sin(2 * np.pi * tone_hz * t).astype(np.float32)
        return samples * decay(len(samples), sample_rate, half_life, attack)

    return sound


def _chip_noise(rate_hz: float, half_life: float) -> SynthFunction:
    def sound(_: float, __: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        samples = held_noise(6 * half_life, rate_hz, sample_rate, rng)
        return samples * decay(len(samples), sample_rate, half_life)

    return sound


def _wind(_: float, seconds: float, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    samples = noise(seconds, sample_rate, rng, low_hz=250, high_hz=1_400)
    t = np.arange(len(samples)) / sample_rate
    gust = 0.6 + 0.4 * np.sin(2 * np.pi * (0.11 * t + rng.random()))
    return (samples * gust * swell(len(samples), sample_rate, 1.0, 1.0)).astype(np.float32)


INSTRUMENTS: dict[str, Instrument] = {
    "warm pad": Instrument("pad", _pad("saw", 8, 9.0), 0.34),
    "glass pad": Instrument("pad", _pad("organ", 12, 6.0), 0.26),
    "choir pad": Instrument("pad", _pad("reed", 10, 12.0), 0.34),
    "harmonium": Instrument("pad", _pad("reed", 18, 4.0), 0.26),
    "guitar": Instrument("plucked", _string(0.6, 0.996, 0.7), 0.55),
    "banjo": Instrument("plucked", _string(1.0, 0.988, 0.25), 0.5),
    "harp": Instrument("plucked", _string(0.3, 0.998, 1.4), 0.6),
    "muted string": Instrument("plucked", _string(0.5, 0.975, 0.1), 0.6),
    "tubular bell": Instrument("bells", _bell(3.5, 2.2, 0.55), 0.3),
    "glockenspiel": Instrument("bells", _bell(4.0, 1.1, 0.25), 0.3),
    "chip bell": Instrument("bells", _bell(2.0, 3.0, 0.12), 0.3),
    "deep bass": Instrument("bass", _lead("triangle", 6, 0.08, None, 0.0), 0.45),
    "acid bass": Instrument("bass", _acid("saw", 0.06), 0.42),
    "round bass": Instrument("bass", _acid("square", 0.1), 0.4),
    "chip bass": Instrument("bass", _lead("triangle", 9, 0.002, None, 0.0), 0.5),
    "upright bass": Instrument("bass", _string(0.15, 0.994, 0.3), 0.7),
    "sine lead": Instrument("lead", _lead("organ", 3, 0.15, None, 8.0), 0.28),
    "saw lead": Instrument("lead", _acid("saw", 0.12), 0.26),
    "saw stab": Instrument("lead", _acid("saw", 0.03), 0.26),
    "pulse lead": Instrument("lead", _lead("pulse25", 40, 0.002, None, 14.0), 0.3),
    "square lead": Instrument("lead", _lead("square", 40, 0.002, None, 10.0), 0.3),
    "thin pulse": Instrument("lead", _lead("pulse12", 40, 0.002, 0.18, 0.0), 0.28),
    "whistle": Instrument("lead", _lead("triangle", 5, 0.05, None, 18.0, breath=0.12), 0.34),
    "fiddle": Instrument("lead", _lead("saw", 14, 0.08, None, 22.0), 0.24),
    "kick": Instrument("drums", _drum(190, 46, 0.09, 0.35), 0.95),
    "clap": Instrument("drums", _rattle(1_100, 0.045), 0.9),
    "hat": Instrument("drums", _rattle(6_500, 0.014), 0.75),
    "open hat": Instrument("drums", _rattle(5_500, 0.07), 0.5),
    "chip kick": Instrument("drums", _drum(300, 70, 0.035, 0.0), 0.8),
    "chip snare": Instrument("drums", _chip_noise(9_000, 0.045), 0.34),
    "chip hat": Instrument("drums", _chip_noise(20_000, 0.012), 0.24),
    "frame drum": Instrument("drums", _drum(170, 95, 0.07, 0.2), 0.7),
    "shaker": Instrument("drums", _rattle(4_500, 0.025, attack=0.02), 0.7),
    "brush": Instrument("drums", _rattle(1_800, 0.05, tone_hz=190, attack=0.006), 0.6),
    "wind": Instrument("texture", _wind, 0.2),
}
