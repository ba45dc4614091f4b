"""What the rival hears: mel-frequency cepstral coefficients, their mean and their deviation over a track."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.data.shards import FeatureSet
from mgc.evaluation.answers import FloatArray

N_MFCC = 20


def mfcc_statistics(tracks: FeatureSet) -> FloatArray:
    """Return the mean and the standard deviation of 20 MFCCs over all frames, shape (n_tracks, 40)."""
    rows = []
    for log_mel in tracks.log_mels:
        frames = mfcc(log_mel.reshape(-1, log_mel.shape[-1]))
        rows.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 * min(N_MFCC, tracks.features.n_mels))


def mfcc(log_mel: npt.NDArray[np.floating[Any]], n_mfcc: int = N_MFCC) -> FloatArray:
    """Return mel-frequency cepstral coefficients of a log-mel spectrogram.

    The orthonormal DCT-II over mel bands, as `librosa.feature.mfcc(S=...)` defines it (Davis & Mermelstein
    1980). The level of a track only moves coefficient 0.

    Parameters
    ----------
    log_mel
        dB, shape (n_frames, n_mels).

    Returns
    -------
    Shape (n_frames, min(n_mfcc, n_mels)).
    """
    n_mels = log_mel.shape[-1]
    band = np.arange(n_mels)
    order = np.arange(min(n_mfcc, n_mels))[:, None]
    basis = np.sqrt(2.0 / n_mels) * np.cos(np.pi * order * (2 * band + 1) / (2 * n_mels))
    basis[0] /= np.sqrt(2.0)
    return np.asarray(log_mel.astype(np.float64) @ basis.T)
