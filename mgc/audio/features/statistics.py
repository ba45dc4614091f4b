"""One vector a track: the mean and the variance of each row of each feature over all frames heard."""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features.track import Track
from mgc.config import FeatureConfig
from mgc.config.feature_settings import TRACK_FEATURES


def statistics_of(track: Track, config: FeatureConfig) -> Float32Array:
    """Return mean and variance (of the population: over n) over the frames of all windows, shape (n,).

    `statistics_names` names them.
    """
    values: list[float] = []
    for feature in config.statistics:
        if feature in TRACK_FEATURES:
            values.append(getattr(track, feature))
            continue
        frames = track.feature(feature)
        rows = frames.reshape(-1, frames.shape[-1])
        both = np.stack([rows.mean(axis=0, dtype=np.float64), rows.var(axis=0, dtype=np.float64)], axis=1)
        values += both.ravel().tolist()
    return np.array(values, dtype=np.float32)
