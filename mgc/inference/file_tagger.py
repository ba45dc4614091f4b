"""A bundle's predictions for a few files, as JSON or a table: to the last bit what the catalogue's job gives."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.arrays import Float32Array
from mgc.audio.track_features import TrackFeatures
from mgc.config import TaggingConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import TrackError, error_columns
from mgc.inference.file_reader import STANDARD_INPUT, FileFeatures
from mgc.models.bundle_files import StoredBundle
from mgc.storage.store import Store, split_uri
from mgc.tables.schema import marked

if TYPE_CHECKING:
    from mgc.inference.occlusion import Occlusion
    from mgc.inference.predictor import TrackPrediction, WindowProbabilities
    from mgc.models.bundle import Bundle


@dataclass(frozen=True)
class WindowPredictions:
    """The ensemble's prediction for each window of a file.

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
    """A bundle's prediction for one file, or why there is none.

    Parameters
    ----------
    uri
        As it was given.
    duration_seconds
        Of the whole track; None where it was not decoded.
    in_time
        The windows that the prediction was made from, or, where `ReadOptions` wants them, those every so many
        seconds.
    note
        What of the file was put right.
    """

    uri: str
    duration_seconds: float | None = None
    prediction: TrackPrediction | None = None
    in_time: WindowPredictions | None = None
    error: TrackError | None = None
    note: str | None = None


class FileTagger:
    """A bundle's ensemble on the CPU, with one thread, as each actor of the catalogue's job has it.

    More threads would add up in another order and change the last bits; for a few windows they save nothing.
    Torch is imported here, not with the module: that takes longer than to decode a song, which `FileReader` does
    meanwhile in another process.
    """

    def __init__(self, stored: StoredBundle, config: TaggingConfig) -> None:
        import torch

        from mgc.inference.predictor import Predictor
        from mgc.models.bundle import bundle_of

        torch.set_num_threads(1)
        self.bundle: Bundle = bundle_of(stored)
        self._predictor = Predictor(self.bundle, "cpu", config.batch_windows, config.tag_threshold)

    @property
    def tag_thresholds(self) -> npt.NDArray[np.float64]:
        """Probability at which each tag is listed, shape (n_tags,)."""
        return self._predictor.tag_thresholds

    def answer(self, file_features: FileFeatures) -> FileAnswer:
        """Return the ensemble's prediction for a file; what is wrong with the file is in it, never raised.

        Raises
        ------
        DeviceError
            The ensemble fails whatever the file is.
        """
        return self.answers([file_features])[0]

    def answers(self, files: Sequence[FileFeatures]) -> list[FileAnswer]:
        """Return the ensemble's prediction for each file, in order, predicted together; the same error."""
        log_mels = [file.track.log_mel for file in files if not isinstance(file.track, TrackError)]
        predictions = iter(self._predictor.predict_each(log_mels, in_time=True))
        return [
            FileAnswer(file.uri, error=file.track)
            if isinstance(file.track, TrackError)
            else self._answer(file.uri, file.track, file.dense or file.track, next(predictions))
            for file in files
        ]

    def _answer(
        self, uri: str, track: TrackFeatures, dense: TrackFeatures, prediction: TrackPrediction | TrackError
    ) -> FileAnswer:
        in_time = prediction
        if dense is not track:
            (in_time,) = self._predictor.predict_each([dense.log_mel], in_time=True)
        if isinstance(prediction, TrackError):
            return FileAnswer(uri, track.duration_seconds, error=prediction)
        if isinstance(in_time, TrackError):
            return FileAnswer(uri, track.duration_seconds, error=in_time)
        windows = self._window_predictions(dense, in_time)
        return FileAnswer(uri, track.duration_seconds, prediction, windows, note=track.note)

    def occlusion(self, track: TrackFeatures) -> Occlusion | None:
        """Return which seconds and bands of a track spoke for its answer."""
        from mgc.inference.occlusion import occlusion

        return occlusion(self._predictor, self.bundle, track)

    def _window_predictions(self, track: TrackFeatures, prediction: TrackPrediction) -> WindowPredictions | None:
        if prediction.in_time is None:
            return None
        length = self.bundle.features.window_seconds
        ends = tuple(min(start + length, track.duration_seconds) for start in track.start_seconds)
        return WindowPredictions(track.start_seconds, ends, prediction.in_time)


def json_answer(
    answer: FileAnswer, bundle: Bundle, *, embedding: bool = False, windows: bool = False
) -> dict[str, Any]:
    """Return an answer, JSON-ready; without one, the same keys with null, and the error.

    The first two keys are those of Guo 2024 (§3.4). Probabilities are exactly the float32 values of the predictions
    table.

    Parameters
    ----------
    embedding
        Also its embedding.
    windows
        Also each window's probabilities, with where it starts and ends.
    """
    prediction = answer.prediction
    taxonomy = bundle.taxonomy
    value: dict[str, Any] = {
        "audio_file": answer.uri,
        "predicted_genre": prediction and prediction.genre,
        "genre_probability": prediction and prediction.genre_probability,
        "abstained": prediction and prediction.abstained,
        "genre_probabilities": prediction and _named(taxonomy.genres, prediction.genre_probabilities),
        "tags": prediction and list(prediction.tags),
        "tag_probabilities": prediction and _named(taxonomy.tags, prediction.tag_probabilities),
        "duration_seconds": answer.duration_seconds,
        "note": answer.note,
        "windows": prediction.windows if prediction else 0,
        **error_columns(answer.error),
        "bundle_fingerprint": bundle.fingerprint,
    }
    if embedding:
        value["embedding"] = prediction and prediction.embedding.tolist()
    if windows:
        value["in_time"] = answer.in_time and _in_time(answer.in_time, taxonomy)
    return value


def _in_time(in_time: WindowPredictions, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    return [
        {
            "start_seconds": start,
            "end_seconds": end,
            "genre_probabilities": _named(taxonomy.genres, genre),
            "tag_probabilities": _named(taxonomy.tags, tag),
        }
        for start, end, genre, tag in zip(
            in_time.start_seconds,
            in_time.end_seconds,
            in_time.probabilities.genre_probabilities,
            in_time.probabilities.tag_probabilities,
            strict=True,
        )
    ]


def _named(names: tuple[str, ...], probabilities: Float32Array) -> dict[str, float]:
    return dict(zip(names, probabilities.tolist(), strict=True))


def write_taggram(uri: str, answers: Sequence[FileAnswer], bundle: Bundle) -> int:
    """Write a taggram, tag × time, of all files that have an answer: one row a window. Return how many rows.

    The name is that of musicnn (Pons & Serra, "musicnn: Pre-trained convolutional neural networks for music audio
    tagging", 2019), whose users read off it which moments of a track bring a tag.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    table = pa.concat_tables(
        [marked("taggram").empty_table(), *(taggram_table(answer, bundle) for answer in answers)]
    ).cast(marked("taggram", fingerprint=bundle.fingerprint))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    root, key = split_uri(uri)
    Store(root).write_atomic(key, buffer.getvalue())
    return int(table.num_rows)


def taggram_table(answer: FileAnswer, bundle: Bundle) -> pa.Table:
    """Return one file's windows (schema TAGGRAM), none where it has no answer.

    `uri` is absolute, as in a catalogue. A file that was tagged by itself is of no catalogue and has no `track_id`.
    """
    schema = marked("taggram")
    if answer.in_time is None:
        return schema.empty_table()
    in_time, taxonomy = answer.in_time, bundle.taxonomy
    n_windows = len(in_time.start_seconds)
    uri = answer.uri if answer.uri == STANDARD_INPUT else Store.open(answer.uri).uri()
    columns = {
        "track_id": [None] * n_windows,
        "uri": [uri] * n_windows,
        "start_seconds": in_time.start_seconds,
        "end_seconds": in_time.end_seconds,
        "genre_probabilities": [
            list(zip(taxonomy.genres, row, strict=True)) for row in in_time.probabilities.genre_probabilities.tolist()
        ],
        "tag_probabilities": [
            list(zip(taxonomy.tags, row, strict=True)) for row in in_time.probabilities.tag_probabilities.tolist()
        ],
        "bundle_fingerprint": [bundle.fingerprint] * n_windows,
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


# Two bundles' answers for the same file, side by side, as Guo 2024 (§4) compares two models.


@dataclass(frozen=True)
class Vocabularies:
    """The labels of two bundles: names that both know, and those of one alone, in the order of the first."""

    genres_both: tuple[str, ...]
    genres_a: tuple[str, ...]
    genres_b: tuple[str, ...]
    tags_both: tuple[str, ...]
    tags_a: tuple[str, ...]
    tags_b: tuple[str, ...]

    @classmethod
    def of(cls, a: Bundle, b: Bundle) -> Vocabularies:
        """Return what two bundles share."""
        return cls(
            *_shared(a.taxonomy.genres, b.taxonomy.genres),
            *_shared(a.taxonomy.tags, b.taxonomy.tags),
        )


@dataclass(frozen=True)
class Difference:
    """How two bundles differ on one file.

    Parameters
    ----------
    answered
        Whether both have an answer.
    same_genre
        None where one has no answer, or knows no genres.
    genre_distance
        Total variation, 0 (alike) to 1, between the probabilities of the genres; None where the two do not
        know the same genres, so that their probabilities are shares of different wholes.
    tags_a, tags_b
        Tags that one lists and the other does not.
    tag_changes
        Tags that both know with probability of `b` minus that of `a`, the largest change first.
    """

    answered: bool
    same_genre: bool | None
    genre_distance: float | None
    tags_a: list[str]
    tags_b: list[str]
    tag_changes: list[tuple[str, float]]


def difference(a: FileAnswer, b: FileAnswer, bundle_a: Bundle, bundle_b: Bundle) -> Difference:
    """Return where two bundles' answers for one file differ."""
    if a.prediction is None or b.prediction is None:
        return Difference(False, None, None, [], [], [])
    one, other = a.prediction, b.prediction
    genres_a, genres_b = bundle_a.taxonomy.genres, bundle_b.taxonomy.genres
    distance = None
    if genres_a and set(genres_a) == set(genres_b):
        changes = _changes(genres_a, one.genre_probabilities, genres_b, other.genre_probabilities)
        distance = 0.5 * sum(abs(change) for _, change in changes)
    return Difference(
        answered=True,
        same_genre=None if one.genre is None or other.genre is None else one.genre == other.genre,
        genre_distance=distance,
        tags_a=[tag for tag in one.tags if tag not in other.tags],
        tags_b=[tag for tag in other.tags if tag not in one.tags],
        tag_changes=_changes(
            bundle_a.taxonomy.tags, one.tag_probabilities, bundle_b.taxonomy.tags, other.tag_probabilities
        ),
    )


def json_difference(a: FileAnswer, b: FileAnswer, bundle_a: Bundle, bundle_b: Bundle) -> dict[str, Any]:
    """Return both answers and where they differ, JSON-ready."""
    found = difference(a, b, bundle_a, bundle_b)
    return {
        "audio_file": a.uri,
        "same_genre": found.same_genre,
        "genre_distance": found.genre_distance,
        "tags_only_a": found.tags_a,
        "tags_only_b": found.tags_b,
        "tag_changes": dict(found.tag_changes),
        "a": json_answer(a, bundle_a),
        "b": json_answer(b, bundle_b),
    }


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(name for name in a if name in b),
        tuple(name for name in a if name not in b),
        tuple(name for name in b if name not in a),
    )


def _changes(
    names_a: tuple[str, ...], a: Float32Array, names_b: tuple[str, ...], b: Float32Array
) -> list[tuple[str, float]]:
    of_b = dict(zip(names_b, b.tolist(), strict=True))
    changes = [(name, of_b[name] - value) for name, value in zip(names_a, a.tolist(), strict=True) if name in of_b]
    order = np.argsort([-abs(change) for _, change in changes], kind="stable")
    return [changes[place] for place in order]
