"""What passes between the stops of the audio room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mgc.arrays import Float32Array


@dataclass(frozen=True)
class TrackFeatures:
    """What one track's audio became.

    Parameters
    ----------
    arrays
        By name; `log_mel` is always there. What is per frame has the shape (n_windows, n_frames, rows).
    duration_seconds
        Length of the whole track.
    start_seconds
        Where each window starts.
    """

    arrays: Mapping[str, Float32Array]
    duration_seconds: float
    start_seconds: tuple[float, ...]

    @property
    def log_mel(self) -> Float32Array:
        """In dB relative to the maximum over the track's windows, in [-top_db, 0].

        Shape (n_windows, n_frames, n_mels).
        """
        return self.arrays["log_mel"]


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
