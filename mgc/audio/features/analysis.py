"""From windows of samples to a track's named features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mgc.audio.features.log_mel import LogMel, power_to_db
from mgc.audio.types import FloatArray
from mgc.config import FeatureConfig

MEL_POWER = "mel_power"


class Analysis:
    """All features that the settings ask for.

    Two steps, because some features are relative to the whole track: `window` measures each window's samples,
    `track` makes features of all windows' measures.

    Parameters
    ----------
    config
        Sample rate, frames, filters, and which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self._log_mel = LogMel(config)

    def window(
        self, samples: FloatArray, frame_step: float | None = None, n_frames: int | None = None
    ) -> dict[str, FloatArray]:
        """Return what is measured in one window, by name, each of shape (n_frames, rows).

        Parameters
        ----------
        samples
            At the configured sample rate, shape (n,).
        frame_step, n_frames
            See `LogMel.power`.

        Returns
        -------
        dict
            `mel_power` is not finite where a sample is not, or is beyond some 1e15.
        """
        return {MEL_POWER: self._log_mel.power(samples, frame_step, n_frames)}

    def track(self, windows: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
        """Return a track's features by name, each of shape (n_windows, n_frames, rows)."""
        power = np.stack([window[MEL_POWER] for window in windows])
        return {"log_mel": power_to_db(power, self._config.top_db)}
