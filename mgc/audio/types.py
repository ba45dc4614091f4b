"""What passes between the stops of the audio room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrackFeatures:
    """What one track's audio became.

    Parameters
    ----------
    log_mel
        dB relative to the maximum over the track's windows, in [-top_db, 0], shape
        (n_windows, n_frames, n_mels).
    duration_seconds
        Length of the whole track.
    """

    log_mel: FloatArray
    duration_seconds: float
