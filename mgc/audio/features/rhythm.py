"""Onsets, local periodicity, tempo: as in librosa, from the log-mel that is there already.

Onset strength after Böck & Widmer 2013 (spectral flux of a log-mel spectrogram), tempogram after Grosche, Müller
& Kurth 2010, tempo by Ellis's (2007) prior over tempi.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from mgc.arrays import Float32Array
from mgc.audio.features.feature_rows import TEMPO_BAND_EDGES_BPM
from mgc.config import FeatureConfig

_LOCAL_SECONDS = 8.0
_PRIOR_BPM = 120.0
_MAX_BPM = 320.0


def onset_strength(
    log_mel: Float32Array, config: FeatureConfig, over_bands: Callable[..., Any] = np.mean
) -> Float32Array:
    """Return the mean rise of the mel bands from frame to frame, dB, shape (n_windows, n_frames, 1).

    `librosa.onset.onset_strength`: delayed by half a frame, so that an onset lies where it sounds.

    Parameters
    ----------
    log_mel
        dB, shape (n_windows, n_frames, n_mels); relative to whatever.
    over_bands
        The mean; or the median, which librosa's beat tracker takes.
    """
    rise = over_bands(np.maximum(np.diff(log_mel, axis=1), np.float32(0.0)), axis=2)
    delay = 1 + config.n_fft // (2 * config.hop_length)
    strength = np.zeros(log_mel.shape[:2], dtype=np.float32)
    n_frames = log_mel.shape[1]
    strength[:, delay:] = rise[:, : max(0, n_frames - delay)]
    return strength[..., np.newaxis]


def tempogram(onsets: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return the local autocorrelation of onset strength, the strongest lag of a frame at 1.

    `librosa.feature.tempogram` with a Hann window of 8 s.

    Parameters
    ----------
    onsets
        Shape (n_windows, n_frames, 1).

    Returns
    -------
    Float32Array
        Shape (n_windows, n_frames, n_lags); lag k is k frames, from 0 to `n_lags` - 1.
    """
    n_lags = _n_lags(config)
    half, n_frames = n_lags // 2, onsets.shape[1]
    window = np.hanning(n_lags + 1)[:-1].astype(np.float32)
    rows = []
    for track_window in onsets[..., 0]:
        padded = np.pad(track_window, half, mode="linear_ramp", end_values=0)
        local = sliding_window_view(padded, n_lags)[:n_frames] * window
        size = scipy.fft.next_fast_len(2 * n_lags - 1, real=True)
        spectrum = np.abs(scipy.fft.rfft(local, n=size, axis=1))
        correlation = scipy.fft.irfft(spectrum * spectrum, n=size, axis=1)[:, :n_lags]
        strongest = np.abs(correlation).max(axis=1, keepdims=True)
        strongest[strongest < np.finfo(np.float32).tiny] = 1.0
        rows.append(correlation / strongest)
    return np.stack(rows).astype(np.float32, copy=False)


def tempogram_bands(local: Float32Array, config: FeatureConfig) -> Float32Array:
    """Return the mean of a tempogram over the lags of each band of tempi, shape (…, n_bands).

    A band without a lag (at long hops the fastest ones lie between two lags) is 0.
    """
    bpm = tempi(config)
    bands = np.zeros((*local.shape[:-1], len(TEMPO_BAND_EDGES_BPM) - 1), dtype=np.float32)
    for row, (low, high) in enumerate(pairwise(TEMPO_BAND_EDGES_BPM)):
        inside = (bpm >= low) & (bpm < high)
        if inside.any():
            bands[..., row] = local[..., inside].mean(axis=-1)
    return bands


def tempo_bpm(local: Float32Array, config: FeatureConfig) -> float:
    """Return a track's tempo from its tempogram: `librosa.feature.tempo`.

    The lag at which the mean over all frames, weighed by a log-normal prior an octave wide around 120 BPM, is
    strongest; below 320 BPM.
    """
    bpm = tempi(config)
    mean = local.reshape(-1, local.shape[-1]).mean(axis=0, dtype=np.float64)
    prior = -0.5 * np.log2(bpm / _PRIOR_BPM) ** 2
    prior[bpm >= _MAX_BPM] = -np.inf
    return float(bpm[np.argmax(np.log1p(1e6 * np.maximum(mean, 0.0)) + prior)])


def tempi(config: FeatureConfig) -> npt.NDArray[np.float64]:
    """Return the tempo in BPM of each lag of a tempogram; lag 0 is infinitely fast."""
    frames = np.arange(_n_lags(config), dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(60.0 * config.sample_rate / (config.hop_length * frames))


def _n_lags(config: FeatureConfig) -> int:
    return int(_LOCAL_SECONDS * config.sample_rate) // config.hop_length
