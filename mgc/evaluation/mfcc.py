"""What the baseline hears: mel-frequency cepstral coefficients, their mean and their deviation over a track."""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float64Array
from mgc.audio.features.log_mel import mfcc
from mgc.tables.feature_shards import FeatureSet

N_MFCC = 20


def mfcc_statistics(tracks: FeatureSet) -> Float64Array:
    """Return the mean and the standard deviation of 20 MFCCs over all frames, shape (n_tracks, 40)."""
    rows = []
    for log_mel in tracks.log_mels:
        frames = mfcc(log_mel.reshape(-1, log_mel.shape[-1]), N_MFCC).astype(np.float64)
        rows.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 * min(N_MFCC, tracks.features.n_mels))
