"""Overlapping frames of a window of samples, a batch at a time, so that their spectra stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
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
    """Where frames lie: frame k is centred at sample round(k * step), and is zero beyond the samples' ends.

    Parameters
    ----------
    n_fft
        Samples a frame.
    step
        Samples between frame centres, not necessarily whole: the same samples analysed at another step are
        heard at another tempo.
    n_frames
        How many.
    """

    n_fft: int
    step: float
    n_frames: int

    def batches(self, samples: Float32Array) -> Iterator[FrameBatch]:
        """Yield all frames of samples of shape (n,), in order."""
        centres = np.rint(np.arange(self.n_frames) * self.step).astype(np.intp)
        margin = self.n_fft // 2
        beyond = int(centres[-1]) + self.n_fft - margin - samples.size
        padded = np.pad(samples.astype(np.float32, copy=False), (margin, max(beyond, self.n_fft - margin)))
        every = sliding_window_view(padded, self.n_fft)
        whole = every[:: int(self.step)] if float(self.step).is_integer() else None
        count = max(1, _BATCH_SAMPLES // self.n_fft)
        for start in range(0, self.n_frames, count):
            place = slice(start, min(start + count, self.n_frames))
            yield FrameBatch(place, whole[place] if whole is not None else every[centres[place]])
