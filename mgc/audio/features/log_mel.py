"""Log-mel spectrograms, equal to librosa's and some three times as fast on one thread.

Power spectrogram of centred, zero-padded frames under a periodic Hann window, mel filter bank, decibels
relative to the track's maximum: `librosa.feature.melspectrogram(power=2, pad_mode="constant")` and
`librosa.power_to_db(ref=np.max)` (McFee et al., "librosa: Audio and music signal analysis in Python", SciPy
2015). The transform is in single precision and a batch of frames at a time, so that it stays in the cache; the
difference to librosa's double precision is below 0.001 dB down to -50 dB and below 0.03 dB at -80 dB, and for
anything at all below -120 dB of the loudest bin (`tests/property/test_features_property.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from mgc.audio.features.frames import FrameGrid
from mgc.audio.features.mel import mel_filter_bank
from mgc.audio.types import FloatArray
from mgc.config import FeatureConfig

FLOOR_POWER = 1e-10
"""Power below which decibels end, whatever the maximum (librosa's ``amin``): digital silence has none."""

_BAND_FILTERS = 16
"""Neighbouring filters that share one product: they overlap the same few bins, the others are zero."""


@dataclass(frozen=True)
class _Band:
    """Filters `first_mel` and up, over bins `first_bin` and up; `weights` has shape (bins, filters)."""

    first_mel: int
    first_bin: int
    weights: FloatArray


class LogMel:
    """Mel spectrograms of windows of samples.

    Parameters
    ----------
    config
        Sample rate, frames and filters.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._n_fft = config.n_fft
        self._hop_length = config.hop_length
        self._n_mels = config.n_mels
        # The periodic Hann window: one more point than a symmetric one, the last left out.
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)).astype(np.float32)
        filters = mel_filter_bank(
            config.sample_rate,
            config.n_fft,
            config.n_mels,
            config.f_min,
            config.f_max or config.sample_rate / 2,
            config.mel_scale,
        )
        self._bands = _to_bands(filters)

    def power(self, samples: FloatArray, frame_step: float | None = None, n_frames: int | None = None) -> FloatArray:
        """Return the mel power spectrogram of mono samples.

        Parameters
        ----------
        samples
            At the configured sample rate, shape (n,).
        frame_step
            Samples between frame centres, whole or not: frame k is centred at round(k * frame_step) and zero
            beyond the samples' ends. None: `hop_length`.
        n_frames
            How many frames; None: as many as are centred within the samples, n // frame_step + 1.

        Returns
        -------
        FloatArray
            Shape (n_frames, n_mels); not finite where a sample is not, or is beyond some 1e15.
        """
        step = self._hop_length if frame_step is None else frame_step
        count = int(samples.size // step) + 1 if n_frames is None else n_frames
        mel = np.zeros((count, self._n_mels), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in FrameGrid(self._n_fft, step, count).batches(samples):
                self._transform(batch.samples, mel[batch.place])
        return mel

    def _transform(self, frames: FloatArray, mel: FloatArray) -> None:
        spectrum = scipy.fft.rfft(frames * self._window, axis=-1, overwrite_x=True)
        power = np.abs(spectrum)
        power *= power
        for band in self._bands:
            bins, filters = band.weights.shape
            columns = slice(band.first_mel, band.first_mel + filters)
            mel[:, columns] = power[:, band.first_bin : band.first_bin + bins] @ band.weights


def power_to_db(power: FloatArray, top_db: float) -> FloatArray:
    """Return power in dB relative to its maximum, in [-top_db, 0], the same shape.

    Silence has no maximum to relate to and is 0 dB throughout, as in librosa.
    """
    decibels = np.maximum(power, np.float32(FLOOR_POWER))
    reference_db = 10.0 * np.log10(decibels.max())
    np.log10(decibels, out=decibels)
    decibels *= np.float32(10.0)
    decibels -= reference_db
    return np.clip(decibels, np.float32(-top_db), np.float32(0.0), out=decibels)


def _to_bands(filters: FloatArray) -> list[_Band]:
    """Cut a filter bank of shape (n_mels, n_bins) into dense blocks along its diagonal."""
    bands = []
    for first_mel in range(0, len(filters), _BAND_FILTERS):
        block = filters[first_mel : first_mel + _BAND_FILTERS]
        bins = np.flatnonzero(block.any(axis=0))
        if bins.size:
            weights = np.ascontiguousarray(block[:, bins[0] : bins[-1] + 1].T)
            bands.append(_Band(first_mel, int(bins[0]), weights))
    return bands
