"""A bundle's answers for a few files that were heard: the same to the last bit as the catalogue's job gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mgc.audio.sandbox.supervisor import ExtractedFeatures
from mgc.config import TaggingConfig
from mgc.errors import Stage, TrackCode, TrackError
from mgc.inference.file_reader import FileFeatures
from mgc.inference.predictor import Predictor, TrackPrediction, WindowProbabilities
from mgc.models.bundle import Bundle, bundle_of
from mgc.models.bundle_files import StoredBundle


@dataclass(frozen=True)
class WindowPredictions:
    """What the ensemble says of each window of a file.

    Parameters
    ----------
    start_seconds, end_seconds
        Of each window, no end beyond the track's.
    probabilities
        A row each.
    """

    start_seconds: tuple[float, ...]
    end_seconds: tuple[float, ...]
    probabilities: WindowProbabilities


@dataclass(frozen=True)
class FileAnswer:
    """What a bundle says of one file: a prediction, or an error.

    Parameters
    ----------
    uri
        As it was given.
    duration_seconds
        Of the whole track; None where it was not heard.
    in_time
        The windows that the prediction was made from, or, where the file was heard so, those every so many
        seconds.
    """

    uri: str
    duration_seconds: float | None = None
    prediction: TrackPrediction | None = None
    in_time: WindowPredictions | None = None
    error: TrackError | None = None


class FileTagger:
    """A bundle's ensemble on the CPU, with one thread, as each actor of the catalogue's job has it.

    More threads would add up in another order and change the last bits; for a few windows they save nothing.
    """

    def __init__(self, stored: StoredBundle, config: TaggingConfig) -> None:
        torch.set_num_threads(1)
        self.bundle: Bundle = bundle_of(stored)
        self._predictor = Predictor(self.bundle, "cpu", config.batch_windows, config.tag_threshold)

    @property
    def tag_thresholds(self) -> npt.NDArray[np.float64]:
        """Probability at which each tag is listed, shape (n_tags,)."""
        return self._predictor.tag_thresholds

    def answer(self, file_features: FileFeatures) -> FileAnswer:
        """Return the ensemble's word on a file; a failure is in it, never raised."""
        if file_features.track is None:
            return FileAnswer(file_features.uri, error=file_features.error)
        duration_seconds = file_features.track.duration_seconds
        try:
            (prediction,) = self._predictor.predict([file_features.track.log_mel], in_time=True)
            in_time = (
                self._in_time(file_features.dense, None)
                if file_features.dense
                else self._in_time(file_features.track, prediction)
            )
        except (RuntimeError, ValueError) as error:
            reason = TrackError(TrackCode.PREDICT_FAILED, Stage.PREDICT, str(error).splitlines()[0])
            return FileAnswer(file_features.uri, duration_seconds, error=reason)
        return FileAnswer(file_features.uri, duration_seconds, prediction, in_time)

    def _in_time(self, track: ExtractedFeatures, prediction: TrackPrediction | None) -> WindowPredictions:
        if prediction is None:
            (prediction,) = self._predictor.predict([track.log_mel], in_time=True)
        if prediction.in_time is None:
            raise ValueError("the predictor was asked for windows and gave none")
        length = self.bundle.features.window_seconds
        ends = tuple(min(start + length, track.duration_seconds) for start in track.start_seconds)
        return WindowPredictions(track.start_seconds, ends, prediction.in_time)
