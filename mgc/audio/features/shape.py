"""The shape of a magnitude spectrum: where its weight lies, how wide, how flat.

Definitions as in librosa (Klapuri & Davy 2006, ch. 5; Dubnov 2004 for flatness), frequencies in Hz. In a frame of
silence all are 0 but the flatness, which is 1.
"""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features.spectrum import Spectra
from mgc.config import FeatureConfig

CENTROID, BANDWIDTH, ROLLOFF, MEAN, VARIANCE = range(5)
"""Columns of `SpectralShape`."""

_BLOCK_BINS = 32
_TINY = np.finfo(np.float32).tiny
_FLOOR_POWER = np.float32(1e-10)


class SpectralShape:
    """Centroid, bandwidth, roll-off, mean and variance: all that sums of magnitudes give.

    With S the magnitudes of a frame at frequencies f: centroid c = Σ f S / Σ S; bandwidth
    (Σ (f - c)² S / Σ S)^½; roll-off the lowest f below which (inclusive) lies `rolloff_fraction` of Σ S; mean and
    variance of S over the bins, of full-scale samples under the window (Guo 2024, §3.5, names the two and defines
    neither).

    A cumulative sum along a spectrum is the slowest thing one can ask of it (a chain of additions). So one product
    gives the sums up to every 32nd bin, and only the block in which the roll-off lies is summed bin by bin.
    """

    rows = 5

    def __init__(self, config: FeatureConfig) -> None:
        self._n_bins = config.n_fft // 2 + 1
        self._bin_hz = config.sample_rate / config.n_fft
        self._hz = (np.arange(self._n_bins) * self._bin_hz).astype(np.float32)
        self._fraction = np.float32(config.rolloff_fraction)
        ends = np.arange(_BLOCK_BINS, self._n_bins + _BLOCK_BINS, _BLOCK_BINS)
        up_to = np.arange(self._n_bins)[:, np.newaxis] < ends
        # Columns: the sums up to each block's end, the last of them the whole; then the sum of f S.
        self._sums = np.hstack([up_to.astype(np.float32), self._hz[:, np.newaxis]])

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        magnitude = spectra.magnitude
        sums = magnitude @ self._sums
        cumulative, moment = sums[:, :-1], sums[:, -1]
        total = cumulative[:, -1]
        weight = np.where(total < _TINY, np.float32(1.0), total)
        out[:, CENTROID] = moment / weight
        deviation = self._hz - out[:, CENTROID, np.newaxis]
        deviation *= deviation
        out[:, BANDWIDTH] = np.sqrt(np.einsum("ij,ij->i", deviation, magnitude) / weight)
        out[:, ROLLOFF] = self._rolloff(magnitude, cumulative)
        mean = total.astype(np.float64) / self._n_bins
        out[:, MEAN] = mean
        square = np.einsum("ij->i", spectra.power).astype(np.float64) / self._n_bins
        out[:, VARIANCE] = np.maximum(square - mean * mean, 0.0)

    def _rolloff(self, magnitude: Float32Array, cumulative: Float32Array) -> Float32Array:
        wanted = self._fraction * cumulative[:, -1:]
        block = np.minimum((cumulative < wanted).sum(axis=1, keepdims=True), cumulative.shape[1] - 1)
        before = np.where(block > 0, np.take_along_axis(cumulative, np.maximum(block - 1, 0), axis=1), 0)
        bins = block * _BLOCK_BINS + np.arange(_BLOCK_BINS)
        inside = np.take_along_axis(magnitude, np.minimum(bins, self._n_bins - 1), axis=1)
        count = ((before + np.cumsum(inside, axis=1)) < wanted).sum(axis=1)
        found = np.minimum(block[:, 0] * _BLOCK_BINS + count, self._n_bins - 1)
        return np.asarray(found * self._bin_hz, dtype=np.float32)


class SpectralFlatness:
    """Geometric over arithmetic mean of the power spectrum (at least 1e-10 a bin), in [0, 1]: 1 is white."""

    rows = 1

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        power = np.maximum(spectra.power, _FLOOR_POWER)
        arithmetic = power.mean(axis=1)
        np.log(power, out=power)
        out[:, 0] = np.exp(power.mean(axis=1)) / arithmetic
