"""What is measured in the samples themselves: energy, autocorrelation, zero crossings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.features.feature_rows import autocorrelation_lags
from mgc.audio.features.spectrum import Spectra
from mgc.audio.features.stft import FrameGrid
from mgc.config import FeatureConfig

_ZERO = 1e-10
"""What is nearer to zero counts as zero, which librosa takes as positive."""


class Energy:
    """Short-time energy Σ x² of a frame (not windowed), of full-scale samples; RMS is (energy / n_fft)^½."""

    rows = 1

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        np.einsum("ij,ij->i", spectra.samples, spectra.samples, out=out[:, 0])


class Autocorrelation:
    """r(l) / r(0) at octaves of lags, in [-1, 1], r(l) = Σ x(t) x(t + l) over a frame (not windowed); 0 in silence.

    `librosa.autocorrelate` of the frame at those lags: short ones say how bright a sound is, long ones whether it
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
        out /= np.where(energy < np.finfo(np.float32).tiny, np.float32(1.0), energy)[:, np.newaxis]


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
