"""The one feature path of training and inference: a file's bytes → the features of its windows.

open → plan windows → for each: read, mix, resample, one pass over its STFT → features of the track. Same bytes and
settings, same floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mgc.audio.content import Content
from mgc.audio.decode import AudioReader, open_audio
from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.audio.resample import Tape, plan_stretch, resample
from mgc.audio.segment import Window, plan_windows, plan_windows_every
from mgc.audio.types import FloatArray, TrackFeatures
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

_SHORTFALL_SECONDS = 0.1
"""How much earlier than its header says a track may end without the header being called wrong: codecs pad."""


def extract(
    data: bytes | Content, features: FeatureConfig, decode: DecodeConfig, every_seconds: float | None = None
) -> TrackFeatures:
    """Return the features of one track.

    Only the windows are read, and the reader jumps between them. Where the audio ends well before the length
    that the header claims (a truncated file, a lying header), the true length is counted and the windows are
    planned anew.

    Parameters
    ----------
    data
        The file's bytes, held or fetched as they are read; any container that libsndfile or FFmpeg reads.
    features
        Windows, frames and filters.
    decode
        Bounds on channels and sample rate.
    every_seconds
        Between the starts of windows (`plan_windows_every`), for a look at the track in time; None: the few,
        evenly placed windows that answers are made from.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, DECODE_FAILED, NO_SAMPLES, NOT_FINITE or UNSUPPORTED_LAYOUT.
    """
    with open_audio(data, decode) as reader:
        n_frames = reader.info.n_frames
        heard = _hear(reader, n_frames, features, every_seconds) if n_frames else None
        if heard is None:
            n_frames = reader.count_frames()
            heard = _hear(reader, n_frames, features, every_seconds) if n_frames else None
    if heard is None:
        raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
    return TrackFeatures(_analysis(features).track(heard.windows), heard.duration_seconds, heard.start_seconds)


@dataclass(frozen=True)
class _Heard:
    """What was measured in each of a track's windows (`Analysis.window`), where, and the track's true length."""

    windows: list[Mapping[str, FloatArray]]
    duration_seconds: float
    start_seconds: tuple[float, ...]


def _hear(reader: AudioReader, n_frames: int, features: FeatureConfig, every_seconds: float | None) -> _Heard | None:
    """Return the windows of a track of `n_frames` samples; None if the audio ends well before that."""
    source_rate = reader.info.sample_rate
    tape = Tape(reader)
    windows = _plan(n_frames / source_rate, features, every_seconds)
    heard = [_hear_window(tape, window, source_rate, features) for window in windows]
    slack = math.ceil(_SHORTFALL_SECONDS * source_rate)
    tape.read(max(0, n_frames - slack), n_frames)  # is the end there? Held already unless one window is all
    true_frames = n_frames if tape.end_frame is None else tape.end_frame
    if n_frames - true_frames >= min(slack, n_frames):
        return None
    return _Heard(heard, true_frames / source_rate, tuple(window.start_seconds for window in windows))


def _plan(duration_seconds: float, features: FeatureConfig, every_seconds: float | None) -> list[Window]:
    if every_seconds is None:
        return plan_windows(duration_seconds, features)
    return plan_windows_every(duration_seconds, every_seconds, features)


def _hear_window(tape: Tape, window: Window, source_rate: int, features: FeatureConfig) -> Mapping[str, FloatArray]:
    target_rate, n_samples = features.sample_rate, features.window_samples
    stretch = plan_stretch(window.start_seconds, n_samples, source_rate, target_rate)
    source = tape.read(stretch.start, stretch.stop)
    heard = resample(source, source_rate, target_rate)[stretch.skip : stretch.skip + n_samples]
    samples = np.zeros(n_samples, dtype=np.float32)
    samples[: heard.size] = heard
    measured = _analysis(features).window(samples)
    # One look at the result: whatever is not finite in the samples is not finite here either.
    if not np.isfinite(measured[MEL_POWER].max()):
        raise _not_finite(source)
    return measured


def _not_finite(source: FloatArray) -> TrackError:
    bad = int(source.size - np.count_nonzero(np.isfinite(source)))
    if bad:
        reason = f"{bad} of {source.size} samples heard are NaN or infinite"
        return TrackError(TrackCode.NOT_FINITE, Stage.DECODE, reason)
    reason = f"samples as large as {np.abs(source).max():.3g} (full scale is 1) overflow"
    return TrackError(TrackCode.NOT_FINITE, Stage.FEATURES, reason)


@lru_cache(maxsize=8)
def _analysis(features: FeatureConfig) -> Analysis:
    return Analysis(features)
