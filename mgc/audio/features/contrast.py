"""Peaks against valleys in octave bands: `librosa.feature.spectral_contrast` (Jiang et al. 2002).

The means of the loudest and of the softest 2 % of the bins of each band (one bin at least), as a difference of
decibels of magnitude. Levels below 1e-10, or 80 dB under the track's loudest peak or valley, count as that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.features.log_mel import to_decibels
from mgc.audio.features.spectrum import Spectra
from mgc.config import FeatureConfig

_QUANTILE = 0.02
_TOP_DB = 80.0


@dataclass(frozen=True)
class _ContrastBand:
    bins: slice
    count: int
    """How many of the sorted bins are peaks, and how many valleys."""


class SpectralPeaks:
    """Peaks of each band, then valleys of each band: magnitudes, of which `contrast_db` makes the contrast."""

    def __init__(self, config: FeatureConfig) -> None:
        self._bands = _bands(config)
        self.rows = 2 * len(self._bands)

    def measure(self, spectra: Spectra, out: Float32Array) -> None:
        """See `Measure.measure`."""
        n_bands = len(self._bands)
        for number, band in enumerate(self._bands):
            part = spectra.magnitude[:, band.bins]
            if band.count == 1:
                part.max(axis=1, out=out[:, number])
                part.min(axis=1, out=out[:, n_bands + number])
                continue
            # All of it, along rows that lie whole in memory: with vector instructions a full sort takes less
            # than two partitions.
            ordered = np.sort(part, axis=1)
            out[:, number] = ordered[:, -band.count :].mean(axis=1)
            out[:, n_bands + number] = ordered[:, : band.count].mean(axis=1)


def contrast_db(peaks_and_valleys: Float32Array) -> Float32Array:
    """Return the contrast of a track in dB, shape (…, n_bands), from what `SpectralPeaks` measured."""
    peaks, valleys = (to_decibels(half, _TOP_DB) for half in np.split(peaks_and_valleys, 2, axis=-1))
    difference = peaks.relative_db - valleys.relative_db
    difference += np.float32(peaks.reference_db - valleys.reference_db)
    return difference


def _bands(config: FeatureConfig) -> list[_ContrastBand]:
    """Return the bands below `contrast_f_min_hz`, of an octave each from there, and up to the end.

    A band starts at the bin before its lower edge and, but for the last, ends before the last bin within it, while
    that bin still counts for the share of 2 %: so librosa has it.
    """
    hz = np.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)
    edges = [0.0, *(config.contrast_f_min_hz * 2.0**octave for octave in range(config.contrast_bands + 1))]
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hz >= low) & (hz <= high))
        last = number == config.contrast_bands
        start = int(inside[0]) - (number > 0)
        stop = hz.size if last else int(inside[-1]) + 1
        count = max(1, int(np.rint(_QUANTILE * (stop - start))))
        bands.append(_ContrastBand(slice(start, stop if last else stop - 1), count))
    return bands
