"""Windows of a track at the wanted sample rate, read in order, each source sample decoded once.

A window is resampled by itself, from a stretch of the source with a margin on each side, so that a jump costs
nothing but the jump and memory holds one window. The stretch starts where source and target sample grids meet
(every 2 source samples for 44.1 → 22.05 kHz, every 320 for 48 → 22.05 kHz), which makes the result that of
resampling the whole track, to within the resampler's own noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import soxr

from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import AudioReader

QUALITY = "HQ"
"""soxr's 20-bit quality, librosa's default too. VHQ's 28 bits are beyond any source and take longer."""

_MARGIN_SAMPLES = 256
"""Context a window gets on each side, at the lower of the two rates: beyond the filter's reach (measured:
with 100 the difference to the whole track is still above rounding, with 200 it is not)."""


@dataclass(frozen=True)
class Stretch:
    """Source samples `start` to `stop`, and what of them, resampled, is the window.

    Parameters
    ----------
    start, stop
        Source samples.
    skip
        Target samples before the window.
    """

    start: int
    stop: int
    skip: int


def plan_stretch(start_seconds: float, n_samples: int, source_rate: int, target_rate: int) -> Stretch:
    """Return what to read for a window of `n_samples` at `target_rate`."""
    first = round(start_seconds * target_rate)
    if source_rate == target_rate:
        return Stretch(first, first + n_samples, 0)
    common = math.gcd(source_rate, target_rate)
    source_step, target_step = source_rate // common, target_rate // common
    margin = math.ceil(_MARGIN_SAMPLES * source_rate / min(source_rate, target_rate))
    steps = max(0, (first * source_rate // target_rate - margin) // source_step)
    stop = math.ceil((first + n_samples) * source_rate / target_rate) + margin
    return Stretch(steps * source_step, stop, first - steps * target_step)


class Tape:
    """Reads stretches in ascending order; what two of them share is decoded once.

    Attributes
    ----------
    end_frame
        Where the audio was found to end, or None while it was not.
    """

    def __init__(self, reader: AudioReader) -> None:
        self._reader = reader
        self._start = 0
        self._samples: Float32Array = np.zeros(0, dtype=np.float32)
        self.end_frame: int | None = None

    def read(self, start: int, stop: int) -> Float32Array:
        """Return source samples `start` to `stop`, fewer where the audio ends before."""
        held = self._samples[start - self._start :] if start >= self._start else self._samples[:0]
        position = start + held.size
        if position < stop:
            fresh = self._reader.read_mono(position, stop - position)
            if fresh.size < stop - position:
                self.end_frame = position + fresh.size
            self._samples = np.concatenate([held, fresh]) if held.size else fresh
            self._start = start
            held = self._samples
        return held[: stop - start]


def resample(samples: Float32Array, source_rate: int, target_rate: int) -> Float32Array:
    """Return mono samples at another rate, shape (about n * target_rate / source_rate,)."""
    if source_rate == target_rate or samples.size == 0:
        return samples
    return np.asarray(soxr.resample(samples, source_rate, target_rate, quality=QUALITY), dtype=np.float32)
