"""White noise under the music, at a signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float32Array


def add_noise(samples: Float32Array, snr_db: float, seed: tuple[int, ...]) -> Float32Array:
    """Return mono samples plus white Gaussian noise, shape (n,).

    Parameters
    ----------
    samples
        One window.
    snr_db
        Power of the window over the power of its noise; silence gets none.
    seed
        What the noise is drawn from.
    """
    rms = float(np.sqrt(np.dot(samples, samples) / max(1, samples.size)))
    noise = np.random.default_rng(seed).standard_normal(samples.size, dtype=np.float32)
    noise *= np.float32(rms * 10.0 ** (-snr_db / 20.0))
    noise += samples
    return noise
