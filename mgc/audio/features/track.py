"""A track's features, made of what was measured in all of its windows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features import rhythm
from mgc.audio.features.contrast import contrast_db
from mgc.audio.features.log_mel import Decibels, to_decibels
from mgc.audio.features.mfcc import delta, mfcc
from mgc.audio.features.shape import BANDWIDTH, CENTROID, MEAN, ROLLOFF, VARIANCE
from mgc.config import FeatureConfig

_COLUMNS = {
    "spectral_centroid": ("shape", CENTROID),
    "spectral_bandwidth": ("shape", BANDWIDTH),
    "spectral_rolloff": ("shape", ROLLOFF),
    "spectral_mean": ("shape", MEAN),
    "spectral_variance": ("shape", VARIANCE),
}
"""Feature → where it lies in what was measured."""


class Track:
    """Features by name; what several are made of is made once.

    Parameters
    ----------
    measured
        By name, shape (n_windows, n_frames, rows) each (`Analysis.window`).
    config
        The settings it was measured with.
    """

    def __init__(self, measured: Mapping[str, Float32Array], config: FeatureConfig) -> None:
        self._measured = measured
        self._config = config

    def feature(self, name: str) -> Float32Array:
        """Return a feature of `FRAME_FEATURES`, shape (n_windows, n_frames, rows)."""
        if name in _COLUMNS:
            measure, column = _COLUMNS[name]
            return self._measured[measure][..., column : column + 1]
        if name in self._measured:
            return self._measured[name]
        made: Float32Array = getattr(self, name)
        return made

    @cached_property
    def _decibels(self) -> Decibels:
        return to_decibels(self._measured["mel_power"], self._config.top_db)

    @property
    def log_mel(self) -> Float32Array:
        """In dB relative to the track's maximum."""
        return self._decibels.relative_db

    @cached_property
    def mfcc(self) -> Float32Array:
        """Of levels relative to a power of 1, as librosa's."""
        return mfcc(self.log_mel, self._config.n_mfcc, self._decibels.reference_db)

    @property
    def mfcc_delta(self) -> Float32Array:
        """Of the MFCC, per frame."""
        return delta(self.mfcc, 1)

    @property
    def mfcc_delta2(self) -> Float32Array:
        """Of the MFCC, per frame²."""
        return delta(self.mfcc, 2)

    @property
    def spectral_contrast(self) -> Float32Array:
        """In dB."""
        return contrast_db(self._measured["peaks"])

    @property
    def rms(self) -> Float32Array:
        """Root mean square of a frame's samples."""
        return np.asarray(np.sqrt(self._measured["short_time_energy"] / np.float32(self._config.n_fft)))

    @cached_property
    def onset_strength(self) -> Float32Array:
        """In dB."""
        return rhythm.onset_strength(self.log_mel, self._config)

    @cached_property
    def _tempogram(self) -> Float32Array:
        return rhythm.tempogram(self.onset_strength, self._config)

    @property
    def tempogram(self) -> Float32Array:
        """By band of tempi."""
        return rhythm.tempogram_bands(self._tempogram, self._config)

    @property
    def tempo(self) -> float:
        """In BPM, of the whole track."""
        return rhythm.tempo_bpm(self._tempogram, self._config)
