"""Mel-frequency cepstral coefficients and how they change (Davis & Mermelstein 1980; Furui 1986)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array

DELTA_WIDTH = 9
"""Frames that a delta is fitted over."""


def mfcc(log_mel: npt.NDArray[np.floating[Any]], n_mfcc: int, reference_db: float = 0.0) -> Float32Array:
    """Return the orthonormal DCT-II of a log-mel spectrogram: `librosa.feature.mfcc`.

    Parameters
    ----------
    log_mel
        dB relative to `reference_db`, shape (…, n_mels).
    n_mfcc
        How many coefficients; a level only moves the first.
    reference_db
        librosa's coefficients are of levels relative to a power of 1.

    Returns
    -------
    Float32Array
        dB times the square root of mel bands, shape (…, min(n_mfcc, n_mels)).
    """
    n_mels = log_mel.shape[-1]
    coefficients: Float32Array = np.asarray(log_mel, dtype=np.float32) @ _dct_basis(n_mels, min(n_mfcc, n_mels))
    coefficients[..., 0] += np.float32(reference_db * np.sqrt(n_mels))
    return coefficients


@lru_cache(maxsize=16)
def _dct_basis(n_mels: int, n_mfcc: int) -> Float32Array:
    order, band = np.arange(n_mfcc), np.arange(n_mels)[:, np.newaxis]
    basis = np.sqrt(2.0 / n_mels) * np.cos(np.pi * order * (2 * band + 1) / (2 * n_mels))
    basis[:, 0] /= np.sqrt(2.0)
    return np.asarray(basis, dtype=np.float32)


def delta(values: Float32Array, order: int) -> Float32Array:
    """Return the first or second derivative over frames of a line or parabola fitted over 9 frames.

    `librosa.feature.delta(width=9)`: a Savitzky-Golay filter. At the ends the fit of the outermost 9 frames goes
    on; the highest derivative of a polynomial is constant, so that is its value in the middle of them.

    Parameters
    ----------
    values
        Shape (…, n_frames, rows); at least 9 frames.
    order
        1: per frame; 2: per frame².
    """
    offsets = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(offsets, order + 1))[0] * order  # the highest coefficient times order!
    n_inner = values.shape[-2] - DELTA_WIDTH + 1
    inner = np.zeros((*values.shape[:-2], n_inner, values.shape[-1]), dtype=np.float32)
    for start, weight in enumerate(fit.astype(np.float32)):
        if weight:
            inner += weight * values[..., start : start + n_inner, :]
    beside = [(0, 0)] * (values.ndim - 2) + [(DELTA_WIDTH // 2, DELTA_WIDTH // 2), (0, 0)]
    return np.pad(inner, beside, mode="edge")
