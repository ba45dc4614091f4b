"""The short-time Fourier transform that all spectral features share, a batch of frames at a time.

Centred, zero-padded frames under a periodic Hann window, as `librosa.stft`; in single precision, whose error is
below -120 dB of the loudest bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.fft

from mgc.arrays import Float32Array


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


class Transform:
    """The transform of frames of `n_fft` samples."""

    def __init__(self, n_fft: int) -> None:
        # The periodic Hann window: one more point than a symmetric one, the last left out.
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)

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
