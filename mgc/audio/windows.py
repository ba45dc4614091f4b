"""Which windows of a track are read, and their samples at the wanted sample rate.

A window is resampled by itself, from a stretch of the source with a margin on each side, so that a jump costs
nothing but the jump and memory holds one window. The stretch starts where source and target sample grids meet
(every 2 source samples for 44.1 → 22.05 kHz, every 320 for 48 → 22.05 kHz). That makes the result the one of
resampling the whole track, to within the resampler's own noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import soxr

from mgc.arrays import Float32Array, IntArray
from mgc.config import FeatureConfig

_TOLERANCE_WINDOWS = 0.05
"""A remainder below this part of a window is not worth one more: 30.04 s (an MP3's padding) is three of 10 s."""

QUALITY = "HQ"
"""soxr's 20-bit quality, librosa's default too. VHQ's 28 bits are beyond any source and take longer."""

_MARGIN_SAMPLES = 256
"""Context a window gets on each side, at the lower of the two rates: beyond the filter's reach (measured:
with 100 the difference to the whole track is still above rounding, with 200 it is not)."""

MOST_WINDOWS = 600
"""Windows a track at most where one starts every so many seconds: what a picture can show, and memory."""


def window_starts(duration_seconds: float, config: FeatureConfig) -> list[float]:
    """Return where evenly placed windows start, in seconds, that cover a track as far as `max_windows` allows.

    The first starts at 0 and, where there is more than one, the last ends with the track; they overlap where
    the duration is no multiple of the window. A track shorter than a window gets one, to be zero-padded.
    """
    window_seconds = config.window_seconds
    needed = math.ceil(duration_seconds / window_seconds - _TOLERANCE_WINDOWS)
    count = min(max(needed, 1), config.max_windows)
    last_start = max(0.0, duration_seconds - window_seconds)
    return list(map(float, np.linspace(0.0, last_start, count)))


def window_starts_every(duration_seconds: float, every_seconds: float, config: FeatureConfig) -> list[float]:
    """Return the starts of windows every so many seconds, the last one ending with the track.

    Parameters
    ----------
    every_seconds
        Between starts, above 0. Below `window_seconds` windows overlap. For a track that would get more than
        `MOST_WINDOWS` they start farther apart.
    """
    last_start = max(0.0, duration_seconds - config.window_seconds)
    every = max(every_seconds, last_start / (MOST_WINDOWS - 2))
    starts = [float(start) for start in np.arange(0.0, last_start, every)] or [0.0]
    # A start that is almost the last one gives way to it.
    if last_start - starts[-1] < _TOLERANCE_WINDOWS * every and len(starts) > 1:
        starts.pop()
    return [*starts, last_start] if last_start else starts


def kept_frames(n_analysed: int, config: FeatureConfig) -> IntArray:
    """Return the numbers of the frames kept: floor(frame_phase + k * frame_stride), shape (n_kept,).

    Published log-mels have been thinned so. Whole frames are picked rather than computed at fractional places, since
    that is how a spectrogram is made smaller after the fact (nearest-neighbour resizing).
    """
    count = max(0, int(np.ceil((n_analysed - config.frame_phase) / config.frame_stride)))
    return np.asarray(np.floor(config.frame_phase + config.frame_stride * np.arange(count)), dtype=np.int64)


def thinned(frames: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return the frames kept of an array of shape (n_windows, n_analysed, rows); others are returned as they are."""
    if frames.ndim != 3 or (config.frame_stride == 1.0 and config.frame_phase == 0.0):
        return frames
    return np.ascontiguousarray(frames[:, kept_frames(frames.shape[1], config)])


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


def resample(samples: Float32Array, source_rate: int, target_rate: int) -> Float32Array:
    """Return mono samples at another rate, shape (about n * target_rate / source_rate,)."""
    if source_rate == target_rate or samples.size == 0:
        return samples
    return np.asarray(soxr.resample(samples, source_rate, target_rate, quality=QUALITY), dtype=np.float32)
