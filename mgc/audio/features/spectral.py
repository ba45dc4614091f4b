"""Energy by pitch class: `librosa.feature.chroma_stft`, with its filter bank (Ellis 2007, "Chroma feature
analysis and synthesis").

librosa estimates how far a recording is from A440 unless it is told; that costs as much as all else together, and
moves the filters by half a semitone at most. Here the tuning is a setting, 0 by default.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.features.feature_rows import PITCH_CLASSES
from mgc.audio.features.spectrum import Spectra
from mgc.config import FeatureConfig

_N_CHROMA = len(PITCH_CLASSES)
_CENTRE_OCTAVE = 5.0
_WIDTH_OCTAVES = 2.0


def chroma_filter_bank(sample_rate: int, n_fft: int, tuning: float) -> Float32Array:
    """Return the weight of each bin of a power spectrum in each pitch class, shape (12, n_fft // 2 + 1).

    A Gaussian bump around every octave of a pitch class, the columns of unit length, weighed by a Gaussian two
    octaves wide around octave 5 (`librosa.filters.chroma` with its defaults).

    Parameters
    ----------
    sample_rate
        Hz.
    n_fft
        Samples a frame.
    tuning
        Distance from A440, in semitones.
    """
    hz = np.linspace(0, sample_rate, n_fft, endpoint=False)[1:]
    octaves = np.log2(hz / (440.0 * 2.0 ** (tuning / _N_CHROMA) / 16))
    # The bin at 0 Hz has no pitch: it is put 1.5 octaves below the next, and so is broad.
    semitones = np.concatenate([[octaves[0] - 1.5], octaves]) * _N_CHROMA
    widths = np.concatenate([np.maximum(np.diff(semitones), 1.0), [1.0]])
    half = _N_CHROMA // 2
    distance = semitones - np.arange(_N_CHROMA)[:, np.newaxis]
    distance = np.remainder(distance + half + 10 * _N_CHROMA, _N_CHROMA) - half
    weights = np.exp(-0.5 * (2 * distance / widths) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * ((semitones / _N_CHROMA - _CENTRE_OCTAVE) / _WIDTH_OCTAVES) ** 2)
    from_c: npt.NDArray[np.float64] = np.roll(weights, -3, axis=0)
    return from_c[:, : n_fft // 2 + 1].astype(np.float32)


class Chroma:
    """Share of each pitch class, the strongest of a frame at 1; all 0 in silence."""

    rows = _N_CHROMA

    def __init__(self, config: FeatureConfig) -> None:
        self._weights = np.ascontiguousarray(
            chroma_filter_bank(config.sample_rate, config.n_fft, config.chroma_tuning).T
        )

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        raw = spectra.power @ self._weights
        strongest = raw.max(axis=1, keepdims=True)
        strongest[strongest < np.finfo(np.float32).tiny] = 1.0
        np.divide(raw, strongest, out=out)
