"""Feature extraction, one path for training and inference: a file's bytes → the features of its windows.

open → plan windows → for each: read, mix, resample, change, one pass over its STFT → features of the track. Same
bytes, recipe and settings, same floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import AudioReader, Tape, open_audio
from mgc.audio.decode.source import Content
from mgc.audio.features.analysis import MEL_POWER, Analysis
from mgc.audio.track_features import TrackFeatures, TrackResult
from mgc.audio.transforms import change_samples, changes_samples, partner_start
from mgc.audio.views import Placing, ViewRequest, place
from mgc.audio.windows import plan_stretch, resample, thinned, window_starts, window_starts_every
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

WindowMeasurements = Mapping[str, Float32Array]
"""What `Analysis.window` measured in one window, by name."""

_SLACK_SECONDS = 0.1
"""By how much the end may miss what the header says without the header being called wrong: codecs pad."""

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
        Between the starts of windows (`window_starts_every`), for a look at the track in time; None: the few,
        evenly placed windows that predictions are made from.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, DECODE_FAILED, NO_SAMPLES, NOT_FINITE, UNSUPPORTED_LAYOUT, SILENT or TOO_SHORT.
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
) -> list[TrackResult]:
    """Return the features of views of one track, decoded once for all of them.

    A view has windows of its own, placed in its own time: a track played at twice the tempo is half as long.

    Parameters
    ----------
    data, features, decode, every_seconds
        See `extract`.
    views
        What is wanted.
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
        wanted = _Wanted(views, others, features, decode, every_seconds)
        extracted = _extract_planned(reader, reader.info.n_frames, wanted)
        if extracted is None:
            extracted = _extract_planned(reader, reader.count_frames(), wanted)
    if extracted is None:
        raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
    return extracted


@dataclass(frozen=True)
class _Wanted:
    """What `extract_views` was called with; the partners opened."""

    views: Sequence[ViewRequest]
    partners: Sequence[Partner]
    features: FeatureConfig
    decode: DecodeConfig
    every_seconds: float | None


def _extract_planned(reader: AudioReader, n_frames: int | None, wanted: _Wanted) -> list[TrackResult] | None:
    """Return the views of a track of `n_frames` samples; None if none are known, or the audio ends elsewhere."""
    if not n_frames:
        return None
    source_rate, features = reader.info.sample_rate, wanted.features
    track = OpenTrack(Tape(reader), source_rate, n_frames / source_rate)
    ratios = [place(view.recipe, features).tempo_ratio for view in wanted.views]
    starts = [_window_starts(track.duration_seconds / ratio, features, wanted.every_seconds) for ratio in ratios]
    analyser = ViewAnalyser(track, wanted.views, wanted.partners, features)
    measured = analyser.analyse(starts)
    slack = math.ceil(_SLACK_SECONDS * source_rate)
    track.tape.read(max(0, n_frames - slack), n_frames)  # is the end there? Held already unless one window is all
    true_frames = n_frames if track.tape.end_frame is None else track.tape.end_frame
    goes_on = track.tape.end_frame is None and track.tape.read(n_frames, n_frames + slack).size == slack
    if goes_on or n_frames - true_frames >= min(slack, n_frames):
        return None
    true_seconds = true_frames / source_rate
    if not all(isinstance(windows, TrackError) for windows in measured):
        _require_sound(true_seconds, analyser.loudest, wanted.decode)
    note = _note(reader, true_frames)
    return [
        one if isinstance(one, TrackError) else _features_of(one, true_seconds / ratio, own, features, note)
        for one, ratio, own in zip(measured, ratios, starts, strict=True)
    ]


def _note(reader: AudioReader, n_frames: int) -> str | None:
    """Return what of a file was put right."""
    rate, claimed = reader.info.sample_rate, reader.info.n_frames
    if claimed is None or abs(claimed - n_frames) < _SLACK_SECONDS * rate:
        return reader.note or None
    length = f"{n_frames / rate:.1f} s of sound, and not {claimed / rate:.1f} s as its header says"
    return f"{reader.note}; {length}" if reader.note else length


def _require_sound(seconds: float, mean_square: float, decode: DecodeConfig) -> None:
    """Refuse what is too short, or too faint, to say anything about."""
    if seconds < decode.min_seconds:
        reason = f"{1000 * seconds:.1f} ms of sound; decode.min_seconds is {decode.min_seconds:g}"
        raise TrackError(TrackCode.TOO_SHORT, Stage.DECODE, reason)
    level = 10.0 * math.log10(mean_square) if mean_square else -math.inf
    if level < decode.silence_dbfs:
        found = f"{level:.0f} dB of full scale at most" if mean_square else "digital silence"
        reason = (
            f"all windows that were looked at are silent: {found}; decode.silence_dbfs is {decode.silence_dbfs:g}"
        )
        raise TrackError(TrackCode.SILENT, Stage.DECODE, reason)


def _window_starts(
    duration_seconds: float, features: FeatureConfig, every_seconds: float | None
) -> tuple[float, ...]:
    if every_seconds is None:
        return tuple(window_starts(duration_seconds, features))
    return tuple(window_starts_every(duration_seconds, every_seconds, features))


def _features_of(
    windows: Sequence[WindowMeasurements],
    duration_seconds: float,
    start_seconds: tuple[float, ...],
    features: FeatureConfig,
    note: str | None,
) -> TrackFeatures:
    arrays = analysis_of(features).track(windows)
    # Thinned last: decibels are relative to the maximum of all frames analysed.
    return TrackFeatures(
        {name: thinned(array, features) for name, array in arrays.items()}, duration_seconds, start_seconds, note
    )


# Reading and measuring the windows of a track's views: each stretch of the source is decoded once for all of them.


@dataclass(frozen=True)
class OpenTrack:
    """A track that is being read.

    Parameters
    ----------
    tape
        Its samples.
    sample_rate
        Hz.
    duration_seconds
        As far as is known.
    """

    tape: Tape
    sample_rate: int
    duration_seconds: float


class Partner:
    """An overlay's other track; opened when the first view needs it."""

    def __init__(self, content: bytes | Content, limits: DecodeConfig, stack: ExitStack) -> None:
        self._content = content
        self._limits = limits
        self._stack = stack
        self._track: OpenTrack | TrackError | None = None

    def track(self) -> OpenTrack:
        """Return the open track.

        Where it ends before its header says so it is silent from there on.

        Raises
        ------
        TrackError
            It cannot be opened.
        """
        if self._track is None:
            self._track = self._opened()
        if isinstance(self._track, TrackError):
            raise self._track
        return self._track

    def _opened(self) -> OpenTrack | TrackError:
        try:
            reader = self._stack.enter_context(open_audio(self._content, self._limits))
            n_frames = reader.info.n_frames or reader.count_frames()
        except TrackError as error:
            return TrackError(error.track_code, error.stage, f"the overlay's partner: {error.message}")
        return OpenTrack(Tape(reader), reader.info.sample_rate, n_frames / reader.info.sample_rate)


@dataclass(frozen=True)
class _WindowJob:
    """One window of one view; `start_seconds` in the view's own time."""

    view: int
    window: int
    start_seconds: float


class ViewAnalyser:
    """Measures the windows of a track's views.

    Parameters
    ----------
    track
        The open track.
    views
        What is wanted of it.
    partners
        Of its overlays.
    features
        The settings.

    Attributes
    ----------
    loudest
        Mean square of the samples of the loudest window read.
    """

    def __init__(
        self, track: OpenTrack, views: Sequence[ViewRequest], partners: Sequence[Partner], features: FeatureConfig
    ) -> None:
        self._track = track
        self._views = views
        self._partners = partners
        self._features = features
        self._analysis = analysis_of(features)
        self._placings = [place(view.recipe, features) for view in views]
        self._last: tuple[tuple[float, Placing], _WindowSamples] | None = None
        self.loudest = 0.0

    def analyse(self, starts: Sequence[Sequence[float]]) -> list[list[WindowMeasurements] | TrackError]:
        """Return what was measured in each view's windows, or why that view has none.

        Parameters
        ----------
        starts
            Each view's windows' starts, in seconds of its own time.
        """
        found: list[list[WindowMeasurements] | TrackError] = [[] for _ in self._views]
        jobs = [
            _WindowJob(view, window, start) for view, own in enumerate(starts) for window, start in enumerate(own)
        ]
        # In the order of the source, so that the tape goes forward; sorting keeps a view's windows in order.
        for job in sorted(jobs, key=lambda job: job.start_seconds * self._placings[job.view].tempo_ratio):
            measured = found[job.view]
            if isinstance(measured, TrackError):
                continue
            try:
                measured.append(self._measure(job))
            except TrackError as error:
                found[job.view] = error
        return found

    def _measure(self, job: _WindowJob) -> WindowMeasurements:
        placing, recipe = self._placings[job.view], self._views[job.view].recipe
        start = job.start_seconds * placing.tempo_ratio
        decoded = self._read(start, placing)
        samples = decoded.samples
        if changes_samples(recipe):
            # Looked at here, because saturation would make something finite of what is not.
            if not math.isfinite(float(np.dot(samples, samples))):
                raise _not_finite(decoded.source)
            partner = self._partner(job, start, placing)
            samples = change_samples(samples, recipe, self._features.sample_rate, job.window, partner)
        n_frames = None if placing.frame_step is None else self._features.n_analysed_frames
        measured = self._analysis.window(samples, placing.frame_step, n_frames)
        # One look at the result: whatever is not finite in the samples is not finite here either.
        if not np.isfinite(measured[MEL_POWER].max()):
            raise _not_finite(decoded.source)
        return measured

    def _read(self, start_seconds: float, placing: Placing) -> _WindowSamples:
        """Return a window; views of the same samples share it."""
        key = (start_seconds, placing)
        if self._last is None or self._last[0] != key:
            self._last = key, read_window(self._track, start_seconds, placing)
            self.loudest = max(self.loudest, self._last[1].mean_square)
        return self._last[1]

    def _partner(self, job: _WindowJob, start_seconds: float, placing: Placing) -> Float32Array | None:
        number = self._views[job.view].partner
        if number is None:
            return None
        other = self._partners[number].track()
        length = placing.n_samples / placing.rate
        start = partner_start(start_seconds, length, self._track.duration_seconds, other.duration_seconds)
        decoded = read_window(other, start, placing)
        if not math.isfinite(float(np.dot(decoded.samples, decoded.samples))):
            error = _not_finite(decoded.source)
            raise TrackError(error.track_code, error.stage, f"the overlay's partner: {error.message}")
        return decoded.samples


@dataclass(frozen=True)
class _WindowSamples:
    """A window's samples, zero beyond the track's end; their mean square before it; what they were made from."""

    samples: Float32Array
    source: Float32Array
    mean_square: float


def read_window(track: OpenTrack, start_seconds: float, placing: Placing) -> _WindowSamples:
    """Return a window of a track from `start_seconds` on, resampled."""
    n_samples = placing.n_samples
    stretch = plan_stretch(start_seconds, n_samples, track.sample_rate, placing.rate)
    source = track.tape.read(stretch.start, stretch.stop)
    decoded = resample(source, track.sample_rate, placing.rate)[stretch.skip : stretch.skip + n_samples]
    samples = np.zeros(n_samples, dtype=np.float32)
    samples[: decoded.size] = decoded
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite, or too large, is said of the features
        mean_square = float(np.dot(decoded, decoded)) / max(1, decoded.size)
    return _WindowSamples(samples, source, mean_square)


def _not_finite(source: Float32Array) -> TrackError:
    bad = int(source.size - np.count_nonzero(np.isfinite(source)))
    if bad:
        reason = f"{bad} of {source.size} samples read are NaN or infinite"
        return TrackError(TrackCode.NOT_FINITE, Stage.DECODE, reason)
    reason = f"samples as large as {np.abs(source).max():.3g} (full scale is 1) overflow"
    return TrackError(TrackCode.NOT_FINITE, Stage.FEATURES, reason)


@lru_cache(maxsize=8)
def analysis_of(features: FeatureConfig) -> Analysis:
    """Return the analysis of some settings, its filters made once."""
    return Analysis(features)
