"""The mel filter bank, as librosa defines it, without librosa's second of imports (numba) in every worker.

The mel scale bends frequency as pitch is heard (Stevens, Volkmann & Newman 1937). Two formulas are in use:
Slaney's (Auditory Toolbox, 1998), linear below 1 kHz and logarithmic above, and HTK's (Young et al., The HTK
Book), 2595 log10(1 + f / 700). `tests/unit/audio/test_audio_mel.py` proves equality with `librosa.filters.mel`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array

MelScale = Literal["slaney", "htk"]
Frequencies = npt.NDArray[np.float64]

_SLANEY_LINEAR_HZ = 200.0 / 3
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_LINEAR_HZ
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: Frequencies, scale: MelScale) -> Frequencies:
    """Return frequencies in mel."""
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    above = _SLANEY_KNEE_MEL + np.log(np.maximum(hz, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(hz >= _SLANEY_KNEE_HZ, above, hz / _SLANEY_LINEAR_HZ)


def mel_to_hz(mel: Frequencies, scale: MelScale) -> Frequencies:
    """Return mels in Hz."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (np.maximum(mel, _SLANEY_KNEE_MEL) - _SLANEY_KNEE_MEL))
    return np.where(mel >= _SLANEY_KNEE_MEL, above, mel * _SLANEY_LINEAR_HZ)


def mel_corners_hz(n_mels: int, f_min: float, f_max: float, scale: MelScale) -> Frequencies:
    """Return where filters begin, peak and end, Hz, shape (n_mels + 2,): filter k at k, k + 1 and k + 2."""
    ends = hz_to_mel(np.array([f_min, f_max]), scale)
    return mel_to_hz(np.linspace(ends[0], ends[1], n_mels + 2), scale)


def mel_filter_bank(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: MelScale
) -> Float32Array:
    """Return triangular filters of equal area over the bins of a power spectrum.

    Parameters
    ----------
    sample_rate, f_min, f_max
        Hz; `f_min` and `f_max` are the feet of the lowest and the highest filter.
    n_fft
        Samples a frame; there are n_fft // 2 + 1 bins.
    n_mels
        Filters. Where they are narrower than a bin some are zero throughout.
    scale
        Which mel formula.

    Returns
    -------
    Float32Array
        Shape (n_mels, n_fft // 2 + 1), scaled by 2 / width in Hz (librosa's ``norm="slaney"``).
    """
    corners = mel_corners_hz(n_mels, f_min, f_max, scale)
    widths = np.diff(corners)
    distances = corners[:, np.newaxis] - np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    rising = -distances[:-2] / widths[:-1, np.newaxis]
    falling = distances[2:] / widths[1:, np.newaxis]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    areas = 2.0 / (corners[2:] - corners[:-2])
    return (triangles * areas[:, np.newaxis]).astype(np.float32)
