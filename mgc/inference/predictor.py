"""The ensemble of a bundle at work: log-mels of tracks in, genre, tags and embedding of each out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mgc.arrays import Float32Array
from mgc.config.taxonomy import Taxonomy
from mgc.errors import DeviceError, FingerprintError, Stage, TrackCode, TrackError, error_columns
from mgc.models.bundle import Bundle
from mgc.models.ensemble import EnsembleOutputs, at_most_one, combine
from mgc.models.forward import LogMel, TrackOutputs, ensemble_window_outputs, outputs_by_track

CPU_WINDOWS = 32
"""Windows a pass by default: more, and a layer's output leaves the second-level cache."""

GPU_WINDOWS = 512
"""On a GPU, which wants all the work it can get at once."""


_DEVICE_SIGNS = ("CUDA error", "CUDA out of memory", "CUBLAS_STATUS", "cuDNN error", "can't allocate memory")
"""In errors that torch raises as a plain RuntimeError."""


@dataclass(frozen=True)
class WindowProbabilities:
    """The ensemble's prediction for each window of a track, in time.

    Each window's logits at the members' temperatures, the mean over members. The track's own probabilities are
    those of its mean logits, so they are near the mean over windows, not equal to it.

    Parameters
    ----------
    genre_probabilities
        In the taxonomy's order, shape (n_windows, n_genres), rows summing to 1, float32.
    tag_probabilities
        In the taxonomy's order, shape (n_windows, n_tags), float32.
    """

    genre_probabilities: Float32Array
    tag_probabilities: Float32Array


@dataclass(frozen=True)
class TrackPrediction:
    """The ensemble's prediction for one track.

    Parameters
    ----------
    genre, genre_probability
        The likeliest genre and how sure the ensemble is; None where the bundle knows no genres.
    genre_probabilities
        In the taxonomy's order, shape (n_genres,), float32.
    tag_probabilities
        In the taxonomy's order, shape (n_tags,), float32.
    tags
        Those at or above the threshold, likeliest first.
    abstained
        Whether the genre is less probable than the bundle's stated precision takes. None where the bundle knows no
        genres.
    embedding
        Of length 1, shape (members × embedding_size,), float32; cosine similarity is the dot product.
    windows
        How many there were.
    in_time
        The prediction for each window, where it was requested.
    """

    genre: str | None
    genre_probability: float | None
    genre_probabilities: Float32Array
    tag_probabilities: Float32Array
    tags: list[str]
    embedding: Float32Array
    windows: int
    in_time: WindowProbabilities | None = None
    abstained: bool | None = None


class Predictor:
    """A bundle's ensemble, loaded and ready.

    Parameters
    ----------
    bundle
        Taxonomy, weights and temperatures.
    device
        Of torch, `cpu` or `cuda`.
    batch_windows
        Windows a forward pass, across tracks; None: as many as are fastest on the device.
    tag_threshold
        Probability at which a tag is listed; None: at the bundle's own for each.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        batch_windows: int | None = None,
        tag_threshold: float | None = None,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._batch_windows = batch_windows or (GPU_WINDOWS if device.startswith("cuda") else CPU_WINDOWS)
        n_tags = len(bundle.taxonomy.tags)
        own = bundle.decision.thresholds(n_tags)
        self.tag_thresholds = own if tag_threshold is None else np.full(n_tags, tag_threshold)
        self._members = bundle.build_members(device)

    def check_features(self, fingerprint: str) -> None:
        """Refuse features that were not made as the members' training features were.

        Raises
        ------
        FingerprintError
            Naming both fingerprints.
        """
        expected = self._bundle.features.fingerprint()
        if fingerprint != expected:
            raise FingerprintError(
                f"features with fingerprint {fingerprint} do not fit the bundle '{self._bundle.uri}', "
                f"which was trained on {expected}",
                "extract with the bundle's feature settings, or train on these features",
            )

    def predict(self, tracks: Sequence[LogMel], *, in_time: bool = False) -> list[TrackPrediction]:
        """Return a prediction for each track, in order.

        Parameters
        ----------
        tracks
            Log-mels in dB, shape (n_windows, n_frames, n_mels) each; float32 or float16.
        in_time
            Also keep what each window gave; it is computed anyway.

        Raises
        ------
        ValueError
            A track has no window, another number of mel bins, or values that are not finite.
        """
        if not tracks:
            return []
        for number, track in enumerate(tracks):
            self._check(number, track)
        window_outputs = ensemble_window_outputs(
            self._members, tracks, batch_windows=self._batch_windows, device=self._device
        )
        whole = self._combined([outputs_by_track(windows, tracks) for windows in window_outputs])
        moments = self._combined(window_outputs) if in_time else None
        ends = np.cumsum([len(track) for track in tracks])
        return [
            self._prediction(whole, row, len(track), _moments(moments, end - len(track), end))
            for row, (track, end) in enumerate(zip(tracks, ends, strict=True))
        ]

    def predict_each(self, tracks: Sequence[LogMel], *, in_time: bool = False) -> list[TrackPrediction | TrackError]:
        """Return a prediction for each track, or why it has none; see `predict`.

        One forward pass serves many tracks; where it fails they are predicted one by one, so that only the track at
        fault fails.

        Raises
        ------
        DeviceError
            The track is not at fault: the device failed, or silence cannot be predicted either.
        """
        try:
            return list(self.predict(tracks, in_time=in_time))
        except Exception as error:  # whose fault it is, is found out below
            if len(tracks) > 1:
                return [one for track in tracks for one in self.predict_each([track], in_time=in_time)]
            self._require_working(error)
            return [TrackError(TrackCode.PREDICT_FAILED, Stage.PREDICT, _first_line(error))]

    def _require_working(self, error: Exception) -> None:
        """Raise a `DeviceError` where one track failed by something else than the track."""
        where = f"the ensemble of '{self._bundle.uri}' fails on '{self._device}'"
        if _is_of_the_device(error):
            raise DeviceError(
                f"{where}: {_first_line(error)}",
                "start the command again: what was finished is kept. Where memory is short, lower "
                'tagging.batch_windows or cluster.workers; tagging.use_gpu = "never" does without the GPU',
            ) from error
        features = self._bundle.features
        silence = np.full((1, features.n_frames, features.n_mels), features.silence, np.float32)
        try:
            self.predict([silence])
        except Exception as again:
            raise DeviceError(
                f"{where} for silence, too: {_first_line(again)}",
                "check the installation of torch and its driver, and the bundle with `mgc tag FILE`; "
                "then start the command again: what was finished is kept",
            ) from again

    def _combined(self, outputs: list[TrackOutputs]) -> EnsembleOutputs:
        calibrations = [member.calibration for member in self._bundle.members]
        return combine(outputs, calibrations, self._bundle.decision.fusion)

    def _check(self, number: int, track: LogMel) -> None:
        n_mels = self._bundle.features.n_mels
        if track.ndim != 3 or not len(track) or track.shape[2] != n_mels:
            raise ValueError(f"track {number}: log-mel of shape {track.shape}, not (windows, frames, {n_mels})")
        if not np.isfinite(track.sum(dtype=np.float32)):
            raise ValueError(f"track {number}: its log-mel is not finite")

    def _prediction(
        self, whole: EnsembleOutputs, row: int, windows: int, in_time: WindowProbabilities | None
    ) -> TrackPrediction:
        genre_probabilities = whole.genre_probabilities[row]
        tag_probabilities = whole.tag_probabilities[row]
        best = int(genre_probabilities.argmax()) if genre_probabilities.size else None
        sure = None if best is None else float(genre_probabilities[best])
        return TrackPrediction(
            genre=None if best is None else self._bundle.taxonomy.genres[best],
            genre_probability=sure,
            genre_probabilities=genre_probabilities,
            tag_probabilities=tag_probabilities,
            tags=self._tags(tag_probabilities),
            embedding=whole.embeddings[row],
            windows=windows,
            in_time=in_time,
            abstained=None if sure is None else sure < self._bundle.decision.abstain_below,
        )

    def _tags(self, probabilities: Float32Array) -> list[str]:
        likeliest_first = np.argsort(-probabilities, kind="stable")
        above = (probabilities >= self.tag_thresholds)[np.newaxis]
        listed = at_most_one(probabilities[np.newaxis], above, self._bundle.decision.exclusive_tags)[0]
        return [self._bundle.taxonomy.tags[tag] for tag in likeliest_first if listed[tag]]


def _is_of_the_device(error: Exception) -> bool:
    """Return whether memory ran out, or an accelerator failed: no other track would fare better."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _DEVICE_SIGNS)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _moments(windows: EnsembleOutputs | None, start: int, stop: int) -> WindowProbabilities | None:
    if windows is None:
        return None
    return WindowProbabilities(windows.genre_probabilities[start:stop], windows.tag_probabilities[start:stop])


ANSWER_COLUMNS = (
    "genre",
    "genre_probability",
    "abstained",
    "genre_probabilities",
    "tags",
    "tag_probabilities",
    "embedding",
)
"""What is null where there is no answer."""


def answer_columns(outcome: TrackPrediction | TrackError, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the columns of `mgc.tables.schema.PREDICTIONS` that the ensemble fills, and the three of an error."""
    if isinstance(outcome, TrackError):
        return {**dict.fromkeys(ANSWER_COLUMNS), "windows": 0, **error_columns(outcome)}
    return {
        "genre": outcome.genre,
        "genre_probability": outcome.genre_probability,
        "abstained": outcome.abstained,
        "genre_probabilities": list(zip(taxonomy.genres, outcome.genre_probabilities.tolist(), strict=True)),
        "tags": list(outcome.tags),
        "tag_probabilities": list(zip(taxonomy.tags, outcome.tag_probabilities.tolist(), strict=True)),
        "embedding": outcome.embedding,
        "windows": outcome.windows,
        **error_columns(None),
    }


# How fast networks are, measured in turn in one process: what a small student gains over its teacher.

ROUNDS = 5
WINDOWS = 32


def windows_per_second(bundles: Sequence[Bundle], rounds: int = ROUNDS) -> list[float]:
    """Return the windows that each bundle's ensemble predicts in a second on one thread, medians of rounds in turn.

    The networks alone, on noise: how long a network takes does not depend on its input. Features are not made.
    """
    tracks = [_noise(bundle) for bundle in bundles]
    predictors = [Predictor(bundle) for bundle in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    with threadpool_limits(1):
        for turn in range(rounds + 1):
            for predictor, track, taken in zip(predictors, tracks, seconds, strict=True):
                started = time.perf_counter()
                predictor.predict([track])
                if turn:  # the first one also builds what later ones find
                    taken.append(time.perf_counter() - started)
    return [WINDOWS / statistics.median(taken) for taken in seconds]


def _noise(bundle: Bundle) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    features = bundle.features
    rng = np.random.default_rng(0)
    shape = (WINDOWS, features.n_frames, features.n_mels)
    return rng.uniform(-features.top_db, 0.0, shape).astype(np.float32)
