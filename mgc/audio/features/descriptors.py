"""Descriptors of each frame beside the log-mel: chroma, contrast, shape, flatness, energy, zero crossings.

Definitions as in librosa (Klapuri & Davy 2006, ch. 5), frequencies in Hz. In a frame of silence all are 0 but the
flatness, which is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.fft

from mgc.arrays import Float32Array
from mgc.audio.features.feature_rows import PITCH_CLASSES, autocorrelation_lags
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.features.log_mel import to_decibels
from mgc.audio.features.stft import FrameGrid, Spectra
from mgc.config import FeatureConfig

CENTROID, BANDWIDTH, ROLLOFF, MEAN, VARIANCE = range(5)
"""Columns of `SpectralShape`."""

_BLOCK_BINS = 32
_TINY = np.finfo(np.float32).tiny
_FLOOR_POWER = np.float32(1e-10)

_QUANTILE = 0.02
"""Share of a band's bins, one at least, that are its peaks, and that are its valleys."""

_TOP_DB = 80.0
"""Levels so far under the track's loudest peak or valley count as that, and those below 1e-10 as 1e-10."""

_ZERO = 1e-10
"""What is nearer to zero counts as zero, which librosa takes as positive."""


class Chroma:
    """Share of each pitch class, the strongest of a frame at 1: `librosa.feature.chroma_stft` (Ellis 2007).

    librosa by default estimates how far a recording is from A440; that costs as much as all else together, and
    moves the filters by half a semitone at most. Here the tuning is a setting, 0 by default.
    """

    rows = len(PITCH_CLASSES)

    def __init__(self, config: FeatureConfig) -> None:
        self._weights = np.ascontiguousarray(filter_banks(config).chroma.T)

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        raw = spectra.power @ self._weights
        strongest = raw.max(axis=1, keepdims=True)
        strongest[strongest < _TINY] = 1.0
        np.divide(raw, strongest, out=out)


@dataclass(frozen=True)
class _ContrastBand:
    bins: slice
    count: int
    """How many of the sorted bins are peaks, and how many valleys."""


class SpectralPeaks:
    """Mean magnitude of the loudest bins of each octave band, then of the softest bins of each.

    `contrast_db` makes of them `librosa.feature.spectral_contrast` (Jiang et al. 2002).
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._bands = _bands(config)
        self.rows = 2 * len(self._bands)

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        n_bands = len(self._bands)
        for number, band in enumerate(self._bands):
            part = spectra.magnitude[:, band.bins]
            if band.count == 1:
                part.max(axis=1, out=out[:, number])
                part.min(axis=1, out=out[:, n_bands + number])
                continue
            # All of it, along rows that lie whole in memory: with vector instructions a full sort takes less
            # than two partitions.
            ordered = np.sort(part, axis=1)
            out[:, number] = ordered[:, -band.count :].mean(axis=1)
            out[:, n_bands + number] = ordered[:, : band.count].mean(axis=1)


def contrast_db(peaks_and_valleys: Float32Array) -> Float32Array:
    """Return the contrast of a track in dB, shape (…, n_bands), from what `SpectralPeaks` measured."""
    peaks, valleys = (to_decibels(half, _TOP_DB) for half in np.split(peaks_and_valleys, 2, axis=-1))
    difference = peaks.relative_db - valleys.relative_db
    difference += np.float32(peaks.reference_db - valleys.reference_db)
    return difference


def _bands(config: FeatureConfig) -> list[_ContrastBand]:
    """Return the bands below `contrast_f_min_hz`, of an octave each from there, and up to the end.

    A band starts at the bin before its lower edge and, but for the last, ends before the last bin within it, while
    that bin still counts for the share of 2 %: so librosa has it.
    """
    hz = np.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)
    edges = [0.0, *(config.contrast_f_min_hz * 2.0**octave for octave in range(config.contrast_bands + 1))]
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hz >= low) & (hz <= high))
        last = number == config.contrast_bands
        start = int(inside[0]) - (number > 0)
        stop = hz.size if last else int(inside[-1]) + 1
        count = max(1, int(np.rint(_QUANTILE * (stop - start))))
        bands.append(_ContrastBand(slice(start, stop if last else stop - 1), count))
    return bands


class SpectralShape:
    """Centroid, bandwidth, roll-off, mean and variance: all that sums of magnitudes give.

    With S the magnitudes of a frame at frequencies f: centroid c = Σ f S / Σ S; bandwidth
    (Σ (f - c)² S / Σ S)^½; roll-off the lowest f below which (inclusive) lies `rolloff_fraction` of Σ S; mean and
    variance of S over the bins, of full-scale samples under the window (Guo 2024, §3.5, names the two and defines
    neither).

    A cumulative sum along a spectrum is slow: a chain of additions. So one product gives the sums up to every 32nd
    bin, and only the block in which the roll-off lies is summed bin by bin.
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
    """Geometric over arithmetic mean of the power spectrum (at least 1e-10 a bin), in [0, 1]: 1 is white.

    Dubnov 2004.
    """

    rows = 1

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        power = np.maximum(spectra.power, _FLOOR_POWER)
        arithmetic = power.mean(axis=1)
        np.log(power, out=power)
        out[:, 0] = np.exp(power.mean(axis=1)) / arithmetic


class Cepstrum:
    """Real cepstrum F⁻¹[log |F[x]|] of a frame at quefrencies 0, 1, … samples (Bogert, Healy & Tukey 1963).

    Jain et al. 2021, eq. 3.2. As many values as `n_mfcc` asks for of the cepstrum on the mel scale.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.rows = min(config.n_mfcc, config.n_fft // 2 + 1)
        self._n_fft = config.n_fft

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        level = np.log(np.maximum(spectra.magnitude, np.sqrt(_FLOOR_POWER)))
        out[:] = scipy.fft.irfft(level, n=self._n_fft, axis=1)[:, : self.rows]


class Energy:
    """Short-time energy Σ x² of a frame (not windowed), of full-scale samples; RMS is (energy / n_fft)^½."""

    rows = 1

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        np.einsum("ij,ij->i", spectra.samples, spectra.samples, out=out[:, 0])


class Autocorrelation:
    """r(l) / r(0) at octaves of lags, in [-1, 1], r(l) = Σ x(t) x(t + l) over a frame (not windowed); 0 in silence.

    `librosa.autocorrelate` of the frame at those lags: short ones show how bright a sound is, long ones whether it
    has a pitch. Guo 2024, §3.5, names the feature and no lags.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._lags = autocorrelation_lags(config.n_fft)
        self.rows = len(self._lags)

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        frames = spectra.samples
        for row, lag in enumerate(self._lags):
            np.einsum("ij,ij->i", frames[:, :-lag], frames[:, lag:], out=out[:, row])
        energy = np.einsum("ij,ij->i", frames, frames)
        out /= np.where(energy < _TINY, np.float32(1.0), energy)[:, np.newaxis]


def crossing_rate(samples: Float32Array, grid: FrameGrid) -> Float32Array:
    """Return the share of a frame's samples at which the sign changes, shape (n_frames, 1).

    `librosa.feature.zero_crossing_rate`: zero is positive, and beyond its ends the signal keeps its value.
    """
    below = samples < -_ZERO
    return _rates(below[1:] != below[:-1], grid)


def crossing_rate_he_li(samples: Float32Array, grid: FrameGrid) -> Float32Array:
    """Return He & Li 2024, eq. 4: (1 / T) Σ I(x(t-1) x(t)), I = 1 for a product below 0, shape (n_frames, 1).

    T is n_fft. Unlike librosa's it misses a change of sign that passes over a sample of exactly zero.
    """
    negative, positive = samples < 0, samples > 0
    return _rates((negative[1:] & positive[:-1]) | (positive[1:] & negative[:-1]), grid)


def _rates(crossings: npt.NDArray[np.bool_], grid: FrameGrid) -> Float32Array:
    """Return the crossings in each frame over n_fft, counted once for all frames that overlap."""
    starts = np.rint(np.arange(grid.n_frames) * grid.step).astype(np.intp) - grid.n_fft // 2
    # Crossing t joins the samples t and t + 1; a frame from s on holds the crossings s … s + n_fft - 2.
    first = np.clip(starts, 0, crossings.size)
    last = np.clip(starts + grid.n_fft - 1, 0, crossings.size)
    count = np.zeros(crossings.size + 1, dtype=np.int32)
    np.cumsum(crossings, out=count[1:])
    rates = (count[last] - count[first])[:, np.newaxis] / np.float32(grid.n_fft)
    return np.asarray(rates, dtype=np.float32)
