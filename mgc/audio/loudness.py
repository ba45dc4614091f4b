"""Vocal emphasis: a presence boost of the band in which voices carry, 200 Hz to 4 kHz.

He & Li (2024) name it "vocal emphasis" and do not say how. Lifting the middle channel would be the other way, but
a track is heard as the mean of its channels, and that is the middle channel already. So it is an equaliser: the
magnitude response of a peaking filter (Bristow-Johnson, Audio EQ Cookbook) centred at 894 Hz, the geometric mean of
the band's ends, where the gain in dB is half. Applied with zero phase, by the Fourier transform of the window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from mgc.arrays import Float32Array

LOW_HZ, HIGH_HZ = 200.0, 4_000.0

_MARGIN_SECONDS = 0.1
"""Silence between a window's end and its beginning, which the transform holds for neighbours."""


def emphasise(samples: Float32Array, presence_db: float, sample_rate: int) -> Float32Array:
    """Return mono samples with the band of the voice boosted by `presence_db` (negative: cut), shape (n,)."""
    size = scipy.fft.next_fast_len(samples.size + round(_MARGIN_SECONDS * sample_rate), real=True)
    spectrum = scipy.fft.rfft(samples, size)
    spectrum *= presence_response(size, presence_db, sample_rate)
    return np.asarray(scipy.fft.irfft(spectrum, size, overwrite_x=True)[: samples.size], dtype=np.float32)


@lru_cache(maxsize=4)
def presence_response(size: int, presence_db: float, sample_rate: int) -> Float32Array:
    """Return the equaliser's magnitude at the bins of a real transform of `size` samples.

    Parameters
    ----------
    size
        Samples.
    presence_db
        Gain at the band's middle; half of it at its ends, 0 far from it.
    sample_rate
        Hz.
    """
    centre_hz, octaves = np.sqrt(LOW_HZ * HIGH_HZ), np.log2(HIGH_HZ / LOW_HZ)
    omega = 2.0 * np.pi * min(centre_hz, 0.45 * sample_rate) / sample_rate
    slope = np.sin(omega) * np.sinh(0.5 * np.log(2.0) * octaves * omega / np.sin(omega))
    amplitude = 10.0 ** (presence_db / 40.0)
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)

    boost, cut = slope * amplitude, slope / amplitude
    middle = -2.0 * np.cos(omega) * z
    zeros = (1.0 + boost) + middle + (1.0 - boost) * z * z
    poles = (1.0 + cut) + middle + (1.0 - cut) * z * z
    response: Float32Array = np.abs(zeros / poles).astype(np.float32)
    return response
