"""librosa's filter banks, made once and handed over: importing librosa takes longer than a track does.

`filter_banks` is called where seconds at the start do not matter: in the process that drives a run. It keeps what
librosa made in the user's cache directory. Workers and decoding children get the arrays (`hold`) and import neither
librosa nor numba.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgc.arrays import Float32Array, Float64Array
from mgc.config import FeatureConfig
from mgc.config.settings import cache_folder


@dataclass(frozen=True)
class FilterBanks:
    """The weights of a power spectrum's bins in mel bands and pitch classes.

    Parameters
    ----------
    mel
        Triangles of equal area, scaled by 2 / width in Hz (`librosa.filters.mel`), shape (n_mels, n_fft // 2 + 1).
        Where they are narrower than a bin some are zero throughout.
    mel_hz
        Where the triangles begin, peak and end, shape (n_mels + 2,): triangle k at k, k + 1 and k + 2
        (`librosa.mel_frequencies`). Evenly spaced in mel.
    chroma
        `librosa.filters.chroma`, shape (12, n_fft // 2 + 1).
    """

    mel: Float32Array
    mel_hz: Float64Array
    chroma: Float32Array

    def mel_position(self, hz: float | Sequence[float]) -> Float64Array:
        """Return where frequencies lie among the bands: 0 at the lowest foot, 1 at the highest."""
        return np.asarray(np.interp(hz, self.mel_hz, np.linspace(0.0, 1.0, self.mel_hz.size)))


class _Settings(NamedTuple):
    """What of `FeatureConfig` the banks depend on."""

    sample_rate: int
    n_fft: int
    n_mels: int
    f_min: float
    f_max: float | None
    mel_scale: str
    chroma_tuning: float

    @classmethod
    def of(cls, features: FeatureConfig) -> _Settings:
        return cls(*(getattr(features, name) for name in cls._fields))


_held: dict[_Settings, FilterBanks] = {}


def filter_banks(features: FeatureConfig) -> FilterBanks:
    """Return the filter banks of some settings: those held, the cache directory's, or freshly librosa's."""
    settings = _Settings.of(features)
    return _held.get(settings) or _cached(settings)


def hold(banks: Mapping[FeatureConfig, FilterBanks]) -> None:
    """Let `filter_banks` return in this process what another one made."""
    _held.update({_Settings.of(features): made for features, made in banks.items()})


@lru_cache(maxsize=8)
def _cached(settings: _Settings) -> FilterBanks:
    """Return the banks of the cache directory; where it has none, or they cannot be read, put them there."""
    try:
        path = _cache_file(settings)
    except RuntimeError:
        return _by_librosa(settings)
    # The archive's checksums show a damaged file.
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile), np.load(path) as arrays:
        return FilterBanks(**arrays)
    banks = _by_librosa(settings)
    with contextlib.suppress(OSError):  # read-only or full: the next process pays again
        _write(path, banks)
    return banks


def _cache_file(settings: _Settings) -> Path:
    """Return where the banks are kept, of the librosa that is installed; a RuntimeError where there is no home."""
    digest = hashlib.blake2b(repr((version("librosa"), *settings)).encode(), digest_size=12).hexdigest()
    return cache_folder() / f"filter-banks-{digest}.npz"


def _write(path: Path, banks: FilterBanks) -> None:
    """Write the whole file or none of it; of processes that write at once the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, delete=False) as file:
        try:
            np.savez(file, **vars(banks))
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _by_librosa(settings: _Settings) -> FilterBanks:
    import librosa.filters  # here: it takes seconds, with numba and scipy.signal

    rate, n_fft, n_mels, f_min, f_max, mel_scale, tuning = settings
    band: dict[str, Any] = {"fmin": f_min, "fmax": f_max or rate / 2, "htk": mel_scale == "htk"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        mel = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, **band)
    mel_hz = librosa.mel_frequencies(n_mels + 2, **band)
    return FilterBanks(mel, mel_hz, librosa.filters.chroma(sr=rate, n_fft=n_fft, tuning=tuning))
