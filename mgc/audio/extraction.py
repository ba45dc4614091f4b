"""The one feature path of training and inference: a file's bytes → the features of its windows.

open → plan windows → for each: read, mix, resample, change, one pass over its STFT → features of the track. Same
bytes, recipe and settings, same floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mgc.audio.decode.audio_reader import AudioReader, open_audio
from mgc.audio.decode.content import Content
from mgc.audio.listen import Measured, OpenTrack, Partner, ViewAnalyser, analysis_of
from mgc.audio.placing import place
from mgc.audio.resample import Tape
from mgc.audio.stride import thinned
from mgc.audio.track_features import TrackFeatures
from mgc.audio.views import ViewRequest
from mgc.audio.windows import Window, plan_windows, plan_windows_every
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

_SHORTFALL_SECONDS = 0.1
"""How much earlier than its header says a track may end without the header being called wrong: codecs pad."""

_CLEAN = (ViewRequest(),)


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
    (extracted,) = extract_views(data, _CLEAN, (), features, decode, every_seconds)
    if isinstance(extracted, TrackError):
        raise extracted
    return extracted


def extract_views(
    data: bytes | Content,
    views: Sequence[ViewRequest],
    partners: Sequence[bytes | Content],
    features: FeatureConfig,
    decode: DecodeConfig,
    every_seconds: float | None = None,
) -> list[TrackFeatures | TrackError]:
    """Return the features of views of one track, decoded once for all of them.

    A view has windows of its own, placed in its own time: a track played at twice the tempo is half as long.

    Parameters
    ----------
    data, features, decode, every_seconds
        See `extract`.
    views
        What is asked.
    partners
        The bytes of the tracks that overlays are made with.

    Returns
    -------
    list
        One a view, in order: its features, or why it alone has none (its partner cannot be read, say).

    Raises
    ------
    TrackError
        As `extract`: no view can be had.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(open_audio(data, decode))
        others = [Partner(content, decode, stack) for content in partners]
        extraction = _Extraction(reader, views, others, features, every_seconds)
        n_frames = reader.info.n_frames
        extracted = extraction.run(n_frames) if n_frames else None
        if extracted is None:
            n_frames = reader.count_frames()
            extracted = extraction.run(n_frames) if n_frames else None
    if extracted is None:
        raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
    return [_features(one, features) for one in extracted]


@dataclass(frozen=True)
class _ViewMeasurements:
    """What was measured in each of a view's windows, or why nothing was; where, and the view's true length."""

    windows: list[Measured] | TrackError
    duration_seconds: float
    start_seconds: tuple[float, ...]


def _features(extracted: _ViewMeasurements, features: FeatureConfig) -> TrackFeatures | TrackError:
    if isinstance(extracted.windows, TrackError):
        return extracted.windows
    arrays = analysis_of(features).track(extracted.windows)
    # Thinned last: decibels are relative to the maximum of all frames analysed.
    kept = {name: thinned(array, features) for name, array in arrays.items()}
    return TrackFeatures(kept, extracted.duration_seconds, extracted.start_seconds)


@dataclass(frozen=True)
class _Extraction:
    """An open track, and what is asked of it."""

    reader: AudioReader
    views: Sequence[ViewRequest]
    partners: Sequence[Partner]
    features: FeatureConfig
    every_seconds: float | None

    def run(self, n_frames: int) -> list[_ViewMeasurements] | None:
        """Return the views of a track of `n_frames` samples; None if the audio ends well before that."""
        source_rate = self.reader.info.sample_rate
        tape = Tape(self.reader)
        seconds = n_frames / source_rate
        ratios = [place(view.recipe, self.features).tempo_ratio for view in self.views]
        starts = [tuple(window.start_seconds for window in self._plan(seconds / ratio)) for ratio in ratios]
        analyser = ViewAnalyser(OpenTrack(tape, source_rate, seconds), self.views, self.partners, self.features)
        windows = analyser.analyse(starts)
        slack = math.ceil(_SHORTFALL_SECONDS * source_rate)
        tape.read(max(0, n_frames - slack), n_frames)  # is the end there? Held already unless one window is all
        true_frames = n_frames if tape.end_frame is None else tape.end_frame
        if n_frames - true_frames >= min(slack, n_frames):
            return None
        true_seconds = true_frames / source_rate
        return [_ViewMeasurements(own, true_seconds / ratios[view], starts[view]) for view, own in enumerate(windows)]

    def _plan(self, duration_seconds: float) -> list[Window]:
        if self.every_seconds is None:
            return plan_windows(duration_seconds, self.features)
        return plan_windows_every(duration_seconds, self.every_seconds, self.features)
