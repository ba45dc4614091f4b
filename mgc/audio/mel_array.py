"""Mel spectrograms that somebody else computed: the bytes of a `.npy` file → features of its windows.

Only plain arrays of floats are read (the NPY format, versions 1 and 2: NumPy enhancement proposal 1). An array of
objects would be a pickle, which can execute what it likes; it is refused unread.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.track_features import TrackFeatures
from mgc.audio.windows import window_starts
from mgc.config import FeatureConfig, MelsConfig
from mgc.errors import ConfigError, Stage, TrackCode, TrackError, did_you_mean

MAGIC = b"\x93NUMPY"
ABOVE_REFERENCE_DB = 0.1
"""How far values that are relative to the maximum may lie above it: what rounding explains."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_mels(data: bytes, features: FeatureConfig, mels: MelsConfig) -> TrackFeatures:
    """Return the features of one track's precomputed mel spectrogram.

    Parameters
    ----------
    data
        The `.npy` file: floats, shape (n_mels, n) or (n, n_mels) as `mels.layout` says, any n above 0.
    features
        Bands, frames a second and windows; a track shorter than a window is filled up with -top_db.
    mels
        What the values mean.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_MELS (no array of floats), DECODE_FAILED (truncated), MELS_MISFIT (other bands or values
        than the settings say), NO_SAMPLES (no frame) or NOT_FINITE.
    """
    decibels = _decibels(_frames_first(read_array(data), features, mels), features, mels)
    duration_seconds = len(decibels) / features.frames_per_second
    starts = tuple(window_starts(duration_seconds, features))
    log_mel = np.stack([_window(decibels, start, features) for start in starts])
    return TrackFeatures({"log_mel": log_mel}, duration_seconds, starts)


def read_array(data: bytes) -> npt.NDArray[np.floating]:
    """Return the array of floats in the bytes of a `.npy` file.

    Nothing is allocated by what the header claims before the bytes are known to be there.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_MELS or DECODE_FAILED.
    """
    if not data:
        raise TrackError(TrackCode.EMPTY_FILE, Stage.DECODE, "the file has 0 bytes")
    if not data.startswith(MAGIC):
        raise _no_mels("no NumPy array (.npy)")
    source = io.BytesIO(data)
    try:
        shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(source)](source)
    except (KeyError, ValueError, SyntaxError) as error:
        raise _no_mels(f"its header cannot be read: {str(error).splitlines()[0][:120]}") from error
    if dtype.hasobject:
        raise _no_mels("an array of Python objects (a pickle), which is not read")
    if dtype.kind != "f":
        raise _no_mels(f"an array of {dtype}, not of floats")
    wanted, found = math.prod(shape) * dtype.itemsize, len(data) - source.tell()
    if min(shape, default=0) < 0 or found < wanted:
        reason = f"truncated: {found} bytes of an array of shape {shape}, which has {wanted}"
        raise TrackError(TrackCode.DECODE_FAILED, Stage.DECODE, reason)
    flat = np.frombuffer(data, dtype, math.prod(shape), source.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _frames_first(array: npt.NDArray[np.floating], features: FeatureConfig, mels: MelsConfig) -> Float32Array:
    """Return the array as float32 of shape (n, n_mels)."""
    bands, frames = (0, 1) if mels.layout == "mels_first" else (1, 0)
    if array.ndim != 2 or array.shape[bands] != features.n_mels:
        expected = f"({features.n_mels}, frames)" if bands == 0 else f"(frames, {features.n_mels})"
        raise _misfit(f"its shape is {array.shape}, not {expected}")
    if array.shape[frames] == 0:
        raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the array holds 0 frames")
    with np.errstate(over="ignore"):
        values = (array.T if bands == 0 else array).astype(np.float32)
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise TrackError(TrackCode.NOT_FINITE, Stage.DECODE, f"{bad} of {values.size} values are NaN or infinite")
    return values


def _decibels(values: Float32Array, features: FeatureConfig, mels: MelsConfig) -> Float32Array:
    """Return values as dB relative to the track's maximum, in [-top_db, 0]."""
    decibels = values * np.float32(mels.unit_db)
    highest = decibels.max()
    if mels.reference == "track_maximum":
        decibels -= highest
    elif highest > ABOVE_REFERENCE_DB:
        raise _misfit(f"values of up to {highest:.3g} dB, where mels.reference = 'as_is' allows none above 0")
    return np.clip(decibels, np.float32(-features.top_db), np.float32(0.0), out=decibels)


def _window(decibels: Float32Array, start_seconds: float, features: FeatureConfig) -> Float32Array:
    length = features.n_frames
    start = min(round(start_seconds * features.frames_per_second), max(0, len(decibels) - length))
    excerpt = decibels[start : start + length]
    return np.pad(excerpt, ((0, length - len(excerpt)), (0, 0)), constant_values=-features.top_db)


def _no_mels(reason: str) -> TrackError:
    return TrackError(TrackCode.NOT_MELS, Stage.DECODE, reason)


def _misfit(reason: str) -> TrackError:
    return TrackError(TrackCode.MELS_MISFIT, Stage.DECODE, reason)


# What the arrays of published mel-spectrogram distributions hold, as settings for `mgc import-mels`.


@dataclass(frozen=True)
class MelFormat:
    """A distribution's arrays.

    Parameters
    ----------
    about
        Where it is described, and how that was checked.
    settings
        `section.key=value`, as after `--set`.
    """

    about: str
    settings: tuple[str, ...]


MEL_FORMATS = {
    "gtzan-melspecs": MelFormat(
        "librosa mel (2048 / 512 at 22,050 Hz, 128 bands, dB relative to the clip's maximum) thinned to 387 columns "
        "by nearest-neighbour resizing: column k is frame floor(1.666 + 3.33678 k). That map was fitted to 47 clips "
        "whose audio is known; there mgc's own audio path gives the same values within 0.32 dB, which is the "
        "8-bit quantisation of the arrays.",
        (
            "features.sample_rate=22050",
            "features.n_fft=2048",
            "features.hop_length=512",
            "features.n_mels=128",
            "features.f_min=0.0",
            "features.f_max=none",
            "features.mel_scale=slaney",
            "features.top_db=80.0",
            "features.frame_stride=3.33678",
            "features.frame_phase=1.666",
            "features.window_seconds=30.0",
            "features.max_windows=1",
            "mels.layout=mels_first",
            "mels.unit_db=1.0",
            "mels.reference=as_is",
            "mels.like_audio=true",
        ),
    ),
    "mtg-jamendo": MelFormat(
        "Essentia MelBands (512 / 256 at 12,000 Hz, 96 Slaney bands, unit triangles), float32, shape (96, frames), "
        "written as twice the power's decibels (`scripts/melspectrograms.py` of the data set: lin2db, scale 2). "
        "mgc's audio path resamples and windows otherwise and does not give the same values.",
        (
            "features.sample_rate=12000",
            "features.n_fft=512",
            "features.hop_length=256",
            "features.n_mels=96",
            "features.f_min=0.0",
            "features.f_max=none",
            "features.mel_scale=slaney",
            "features.frame_stride=1.0",
            "features.frame_phase=0.0",
            "mels.layout=mels_first",
            "mels.unit_db=0.5",
            "mels.reference=track_maximum",
            "mels.like_audio=false",
        ),
    ),
}


def mel_format(name: str) -> MelFormat:
    """Return the distribution of a name.

    Raises
    ------
    ConfigError
        It is not known.
    """
    if name not in MEL_FORMATS:
        raise ConfigError(
            f"unknown format of mel spectrograms '{name}': {did_you_mean(name, list(MEL_FORMATS))}",
            "or leave --format out and describe the arrays in [mels] and [features]",
        )
    return MEL_FORMATS[name]
