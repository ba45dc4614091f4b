"""Fewer frames than were analysed: one in `frame_stride`, as published log-mels have been thinned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.config import FeatureConfig


def kept_frames(n_analysed: int, config: FeatureConfig) -> npt.NDArray[np.int64]:
    """Return the numbers of the frames kept: floor(frame_phase + k * frame_stride), shape (n_kept,).

    Whole frames are picked rather than computed at fractional places, since that is how a spectrogram is made
    smaller after the fact (nearest-neighbour resizing).
    """
    count = max(0, int(np.ceil((n_analysed - config.frame_phase) / config.frame_stride)))
    kept: npt.NDArray[np.int64] = np.floor(config.frame_phase + config.frame_stride * np.arange(count)).astype(
        np.int64
    )
    return kept


def thinned(frames: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return the frames kept of an array of shape (n_windows, n_analysed, rows); others are returned as they are."""
    if frames.ndim != 3 or (config.frame_stride == 1.0 and config.frame_phase == 0.0):
        return frames
    return np.ascontiguousarray(frames[:, kept_frames(frames.shape[1], config)])
