"""Where in a track to listen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mgc.config import FeatureConfig

_TOLERANCE_WINDOWS = 0.05
"""A remainder below this part of a window is not worth one more: 30.04 s (an MP3's padding) is three of 10 s."""


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
