"""What decoding makes of a track: `TrackFeatures` or a `TrackError`, from the child process to the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mgc.arrays import Float32Array, FloatingArray
from mgc.errors import TrackError

HALF_PRECISION = "log_mel"
"""The array that is stored as float16: dB in [-80, 0] need no more. All others are stored as float32."""


@dataclass(frozen=True)
class TrackFeatures:
    """The features of one track, or of one view of it.

    Parameters
    ----------
    arrays
        By name; `log_mel` is always there. What is per frame has the shape (n_windows, n_frames, rows). float32;
        `as_stored` tells what passes on.
    duration_seconds
        Length of the whole track.
    start_seconds
        Where each window starts.
    note
        What of the file was put right, None where nothing was.
    """

    arrays: Mapping[str, FloatingArray]
    duration_seconds: float
    start_seconds: tuple[float, ...]
    note: str | None = None

    @property
    def log_mel(self) -> FloatingArray:
        """In dB relative to the maximum over the track's windows, in [-top_db, 0].

        Shape (n_windows, n_frames, n_mels).
        """
        return self.arrays["log_mel"]

    def as_stored(self) -> TrackFeatures:
        """Return the same in the types that leave the decoding child and are stored: little-endian, contiguous."""
        stored = {
            name: np.ascontiguousarray(array, "<f2" if name == HALF_PRECISION else "<f4")
            for name, array in self.arrays.items()
        }
        return replace(self, arrays=stored)


TrackResult = TrackFeatures | TrackError
"""What became of a track or a view: the one type from the decoding child to the row."""


@dataclass(frozen=True)
class Outline:
    """A waveform as a picture shows it; full scale is 1.

    Parameters
    ----------
    low, high
        The least and the greatest sample of each stretch, shape (n_stretches,), float32.
    rms
        Root mean square of each stretch, shape (n_stretches,), float32.
    duration_seconds
        Length of the track as it was decoded; all stretches but the last are equally long.
    stretch_seconds
        Length of a stretch.
    """

    low: Float32Array
    high: Float32Array
    rms: Float32Array
    duration_seconds: float
    stretch_seconds: float
