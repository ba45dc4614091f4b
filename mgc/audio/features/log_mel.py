"""Log-mel spectrograms, equal to librosa's and some three times as fast on one thread.

Power spectrogram of centred, zero-padded frames under a periodic Hann window, mel filter bank, decibels
relative to the track's maximum: `librosa.feature.melspectrogram(power=2, pad_mode="constant")` and
`librosa.power_to_db(ref=np.max)` (McFee et al., "librosa: Audio and music signal analysis in Python", SciPy
2015). The transform is in single precision and a batch of frames at a time, so that it stays in the cache; the
difference to librosa's double precision is below 0.001 dB down to -50 dB and below 0.03 dB at -80 dB, and for
anything at all below -120 dB of the loudest bin (`tests/property/test_features_property.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from mgc.arrays import Float32Array
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.features.stft import Spectra
from mgc.config import FeatureConfig

FLOOR_POWER = 1e-10
"""Power below which decibels end, whatever the maximum (librosa's ``amin``): digital silence has none."""

_BAND_FILTERS = 16
"""Neighbouring filters that share one product: they overlap the same few bins, the others are zero."""


@dataclass(frozen=True)
class _FilterBand:
    """Filters `first_mel` and up, over bins `first_bin` and up; `weights` has shape (bins, filters)."""

    first_mel: int
    first_bin: int
    weights: Float32Array


class MelPower:
    """The power in each mel filter.

    Parameters
    ----------
    config
        Sample rate, frames and filters.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.rows = config.n_mels
        self._bands = _to_bands(filter_banks(config).mel)

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        for band in self._bands:
            bins, filters = band.weights.shape
            columns = slice(band.first_mel, band.first_mel + filters)
            out[:, columns] = spectra.power[:, band.first_bin : band.first_bin + bins] @ band.weights


@dataclass(frozen=True)
class Decibels:
    """Levels of a track.

    Parameters
    ----------
    relative_db
        dB relative to the track's maximum, in [-top_db, 0].
    reference_db
        The track's maximum in dB relative to a power of 1; the sum is librosa's `power_to_db(ref=1.0)`.
    """

    relative_db: Float32Array
    reference_db: float


def to_decibels(power: Float32Array, top_db: float) -> Decibels:
    """Return power in dB relative to its maximum, the same shape.

    Silence has no maximum to relate to and is 0 dB throughout, as in librosa.
    """
    decibels = np.maximum(power, np.float32(FLOOR_POWER))
    reference_db = 10.0 * np.log10(decibels.max())
    np.log10(decibels, out=decibels)
    decibels *= np.float32(10.0)
    decibels -= reference_db
    np.clip(decibels, np.float32(-top_db), np.float32(0.0), out=decibels)
    return Decibels(decibels, float(reference_db))


def _to_bands(filters: Float32Array) -> list[_FilterBand]:
    """Cut a filter bank of shape (n_mels, n_bins) into dense blocks along its diagonal."""
    bands = []
    for first_mel in range(0, len(filters), _BAND_FILTERS):
        block = filters[first_mel : first_mel + _BAND_FILTERS]
        bins = np.flatnonzero(block.any(axis=0))
        if bins.size:
            weights = np.ascontiguousarray(block[:, bins[0] : bins[-1] + 1].T)
            bands.append(_FilterBand(first_mel, int(bins[0]), weights))
    return bands


DELTA_WIDTH = 9
"""Frames that a delta is fitted over."""


def mfcc(log_mel: npt.NDArray[np.floating[Any]], n_mfcc: int, reference_db: float = 0.0) -> Float32Array:
    """Return the orthonormal DCT-II of a log-mel spectrogram: `librosa.feature.mfcc` (Davis & Mermelstein 1980).

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
    coefficients: Float32Array = scipy.fft.dct(log_mel.astype(np.float32, copy=False), norm="ortho")[..., :n_mfcc]
    coefficients[..., 0] += np.float32(reference_db * np.sqrt(log_mel.shape[-1]))
    return coefficients


def delta(values: Float32Array, order: int) -> Float32Array:
    """Return the first or second derivative over frames of a line or parabola fitted over 9 frames (Furui 1986).

    `librosa.feature.delta(width=9)`: a Savitzky-Golay filter, without the second that scipy.signal takes to import.
    At the ends the fit of the outermost 9 frames goes on; the highest derivative of a polynomial is constant, so that
    is its value in the middle of them.

    Parameters
    ----------
    values
        Shape (…, n_frames, rows); at least 9 frames.
    order
        1: per frame; 2: per frame².
    """
    offsets = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(offsets, order + 1))[0] * order  # the highest coefficient times order!
    inner = sliding_window_view(values, DELTA_WIDTH, axis=-2) @ fit.astype(np.float32)
    beside = [(0, 0)] * (values.ndim - 2) + [(DELTA_WIDTH // 2, DELTA_WIDTH // 2), (0, 0)]
    return np.pad(inner, beside, mode="edge")
