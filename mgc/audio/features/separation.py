"""Harmonic and percussive parts of a window, by medians of its spectrogram: `librosa.effects.hpss`.

Fitzgerald, "Harmonic/percussive separation using median filtering" (2010): what stays over time is harmonic, what
spreads over frequencies percussive. The public GTZAN table has mean and variance of the samples of both parts.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.ndimage import median_filter

from mgc.arrays import Float32Array
from mgc.audio.features.stft import FrameGrid, hann
from mgc.config import FeatureConfig

_MEDIAN_FRAMES = _MEDIAN_BINS = 31
_TINY = np.finfo(np.float32).tiny


def moments(samples: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return mean and mean square of the samples of each part, harmonic first, shape (1, 4)."""
    parts = np.stack(harmonic_percussive(samples, config)).astype(np.float64)
    both = np.stack([parts.mean(axis=1), np.square(parts).mean(axis=1)], axis=1)
    return both.reshape(1, 4).astype(np.float32)


def harmonic_percussive(samples: Float32Array, config: FeatureConfig) -> tuple[Float32Array, Float32Array]:
    """Return both parts of samples of shape (n,), each as long; their sum is the samples."""
    n_fft, hop = config.n_fft, config.hop_length
    grid = FrameGrid(n_fft, hop, samples.size // hop + 1, config.padding)
    window = hann(n_fft)
    batches = [scipy.fft.rfft(batch.samples * window, axis=1) for batch in grid.batches(samples)]
    spectra = np.concatenate(batches)
    magnitude = np.abs(spectra)
    # librosa's masks weigh powers; where both medians vanish the parts share alike.
    over_time = np.square(median_filter(magnitude, size=(_MEDIAN_FRAMES, 1), mode="reflect"))
    over_bins = np.square(median_filter(magnitude, size=(1, _MEDIAN_BINS), mode="reflect"))
    total = over_time + over_bins
    mask = np.where(total > _TINY, over_time / np.maximum(total, _TINY), np.float32(0.5))
    return _samples(spectra * mask, window, hop, samples.size), _samples(
        spectra * (1 - mask), window, hop, samples.size
    )


def _samples(spectra: np.ndarray, window: Float32Array, hop: int, count: int) -> Float32Array:
    """Return the samples of frames laid over each other, over the windows' squares (Griffin & Lim 1984)."""
    frames = scipy.fft.irfft(spectra, n=window.size, axis=1) * window
    length = window.size + hop * (len(frames) - 1)
    summed, weight = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for number, frame in enumerate(frames):
        place = slice(number * hop, number * hop + window.size)
        summed[place] += frame
        weight[place] += window * window
    margin = window.size // 2
    whole = summed[margin:] / np.where(weight[margin:] > _TINY, weight[margin:], 1.0)
    return np.asarray(np.resize(np.pad(whole, (0, max(0, count - whole.size))), count), dtype=np.float32)
