"""What passes between the stops of the audio room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrackFeatures:
    """What one track's audio became.

    Parameters
    ----------
    arrays
        By name; `log_mel` is always there. What is per frame has the shape (n_windows, n_frames, rows).
    duration_seconds
        Length of the whole track.
    """

    arrays: Mapping[str, FloatArray]
    duration_seconds: float

    @property
    def log_mel(self) -> FloatArray:
        """In dB relative to the maximum over the track's windows, in [-top_db, 0].

        Shape (n_windows, n_frames, n_mels).
        """
        return self.arrays["log_mel"]
