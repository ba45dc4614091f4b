"""A recording told from others by how its loudness moves: small, and the same in every format and bit rate.

The log-mel of two windows, the middle one and the last, is averaged to 16 bands below 7 kHz (lossy codecs cut what is
above) and three values a second, and each band's own mean is taken off: what is left is when each band sounds, not
what the instruments are. Two encodings of one recording correlate above 0.8, two recordings near 0 (measured in
`docs/acting.md`). The idea is that of Haitsma & Kalker (2002), as real numbers for a vector index instead of bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.config import FeatureConfig
from mgc.curation.nearest_neighbours import Vectors

BANDS = 16
VALUES_PER_SECOND = 3.2
TOP_HZ = 7_000.0


@dataclass(frozen=True)
class Fingerprints:
    """Two vectors a track, shape (n, dimensions), of length one; zero where nothing moves (silence, one long tone).

    Parameters
    ----------
    middle, last
        Of the window in the middle, by which tracks are looked up, and of the last one, which must agree.
    """

    middle: Vectors
    last: Vectors


def fingerprint_of(log_mel: npt.NDArray[np.floating[Any]], features: FeatureConfig) -> tuple[Vectors, Vectors]:
    """Return the two vectors of one track.

    Parameters
    ----------
    log_mel
        dB, shape (n_windows, n_frames, n_mels).
    features
        The settings that made it.
    """
    n_windows = len(log_mel)
    return _of_window(log_mel[n_windows // 2], features), _of_window(log_mel[-1], features)


def _of_window(window: npt.NDArray[np.floating[Any]], features: FeatureConfig) -> Vectors:
    bands = _means(window[:, : _bands_below(features)].astype(np.float32).T, BANDS)
    steps = max(4, round(features.window_seconds * VALUES_PER_SECOND))
    grid = _means(np.ascontiguousarray(bands.T), steps)
    moving = grid - grid.mean(axis=0)
    length = float(np.linalg.norm(moving))
    # Below half a decibel of movement it is noise that would correlate, or not, by chance.
    if length < 0.5 * np.sqrt(moving.size):
        return np.zeros(moving.size, dtype=np.float32)
    return np.asarray(moving.reshape(-1) / length, dtype=np.float32)


def _bands_below(features: FeatureConfig) -> int:
    """Return how many mel bands lie below `TOP_HZ`, at least as many as are averaged."""
    mel_of = _slaney if features.mel_scale == "slaney" else _htk
    top = features.f_max or features.sample_rate / 2
    low, high = mel_of(features.f_min), mel_of(top)
    share = (mel_of(min(TOP_HZ, top)) - low) / (high - low)
    return int(np.clip(round(share * features.n_mels), min(BANDS, features.n_mels), features.n_mels))


def _slaney(hz: float) -> float:
    return hz * 3 / 200 if hz < 1_000 else 15 + 27 * float(np.log(hz / 1_000) / np.log(6.4))


def _htk(hz: float) -> float:
    return 2_595 * float(np.log10(1 + hz / 700))


def _means(values: npt.NDArray[np.float32], parts: int) -> npt.NDArray[np.float32]:
    """Return the means of `parts` even stretches of the first axis."""
    edges = np.linspace(0, len(values), min(parts, len(values)) + 1).astype(np.int64)
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    return np.asarray(sums / np.diff(edges)[:, None], dtype=np.float32)
