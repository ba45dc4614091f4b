"""The short-time Fourier transform that all spectral features share, a batch of frames at a time.

Centred frames under a periodic Hann window, as `librosa.stft`. In single precision, whose error is below -120 dB of
the loudest bin. A batch's spectra stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from mgc.arrays import Float32Array

_BATCH_SAMPLES = 1 << 18
"""Samples in a batch of overlapping frames: 1 MiB, which the second-level cache holds."""


@dataclass(frozen=True)
class FrameBatch:
    """Some neighbouring frames of a window.

    Parameters
    ----------
    place
        Which of the window's frames.
    samples
        Shape (frames, n_fft); for an integer step a view of the samples, not to be written to.
    """

    place: slice
    samples: Float32Array


@dataclass(frozen=True)
class FrameGrid:
    """Where frames lie: frame k is centred at sample round(k * step).

    Parameters
    ----------
    n_fft
        Samples a frame.
    step
        Samples between frame centres, not necessarily whole: the same samples analysed at another step have
        another tempo.
    n_frames
        How many.
    beyond
        What is beyond the samples' ends, as `numpy.pad` names it: zeros (`constant`), or `reflect`.
    """

    n_fft: int
    step: float
    n_frames: int
    beyond: Literal["constant", "reflect"] = "constant"

    def batches(self, samples: Float32Array) -> Iterator[FrameBatch]:
        """Yield all frames of samples of shape (n,), in order."""
        centres = np.rint(np.arange(self.n_frames) * self.step).astype(np.intp)
        margin = self.n_fft // 2
        beyond = int(centres[-1]) + self.n_fft - margin - samples.size
        width = (margin, max(beyond, self.n_fft - margin))
        padded = np.pad(samples.astype(np.float32, copy=False), width, self.beyond)
        every = sliding_window_view(padded, self.n_fft)
        whole = every[:: int(self.step)] if float(self.step).is_integer() else None
        count = max(1, _BATCH_SAMPLES // self.n_fft)
        for start in range(0, self.n_frames, count):
            place = slice(start, min(start + count, self.n_frames))
            yield FrameBatch(place, whole[place] if whole is not None else every[centres[place]])


@dataclass(frozen=True)
class Spectra:
    """Neighbouring frames and their spectra.

    Parameters
    ----------
    samples
        The frames themselves, not windowed, shape (frames, n_fft).
    magnitude, power
        |X| and |X|², shape (frames, n_fft // 2 + 1).
    """

    samples: Float32Array
    magnitude: Float32Array
    power: Float32Array


def hann(n_fft: int) -> Float32Array:
    """Return the periodic Hann window: a symmetric one of one more point, the last left out."""
    return np.hanning(n_fft + 1)[:-1].astype(np.float32)


class Transform:
    """The transform of frames of `n_fft` samples."""

    def __init__(self, n_fft: int) -> None:
        self._window = hann(n_fft)

    def spectra(self, frames: Float32Array) -> Spectra:
        """Return the spectra of frames of shape (frames, n_fft)."""
        magnitude = np.abs(scipy.fft.rfft(frames * self._window, axis=-1, overwrite_x=True))
        return Spectra(frames, magnitude, magnitude * magnitude)


class Measure(Protocol):
    """Something measured in each frame.

    Attributes
    ----------
    rows
        How many values a frame.
    """

    rows: int

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """Write the values of a batch of frames to `out`, shape (frames, rows)."""
        ...
