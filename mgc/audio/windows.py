"""Where in a track to listen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mgc.config import FeatureConfig

_TOLERANCE_WINDOWS = 0.05
"""A remainder below this part of a window is not worth one more: 30.04 s (an MP3's padding) is three of 10 s."""


MOST_WINDOWS = 600
"""Windows a track at most where they are asked for every so many seconds: what a picture can show, and memory."""


@dataclass(frozen=True)
class Window:
    """A stretch of `FeatureConfig.window_seconds`.

    Parameters
    ----------
    start_seconds
        From the start of the track.
    """

    start_seconds: float


def plan_windows(duration_seconds: float, config: FeatureConfig) -> list[Window]:
    """Return evenly placed windows that cover a track as far as `config.max_windows` allows.

    The first starts at 0 and, where there is more than one, the last ends with the track; they overlap where
    the duration is no multiple of the window. A track shorter than a window gets one, to be zero-padded.
    """
    window_seconds = config.window_seconds
    needed = math.ceil(duration_seconds / window_seconds - _TOLERANCE_WINDOWS)
    count = min(max(needed, 1), config.max_windows)
    last_start = max(0.0, duration_seconds - window_seconds)
    return [Window(float(start)) for start in np.linspace(0.0, last_start, count)]


def plan_windows_every(duration_seconds: float, every_seconds: float, config: FeatureConfig) -> list[Window]:
    """Return windows that start every so many seconds, the last one ending with the track.

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
    return [Window(start) for start in [*starts, *([last_start] if last_start else [])]]
