"""An answer as a JSON object: Guo 2024 (§3.4) hands its result on as `audio_file` and `predicted_genre`."""

from __future__ import annotations

from typing import Any

from mgc.arrays import Float32Array
from mgc.config.taxonomy import Taxonomy
from mgc.errors import error_columns
from mgc.inference.file_tagger import FileAnswer, WindowPredictions
from mgc.models.bundle import Bundle


def json_answer(
    answer: FileAnswer, bundle: Bundle, *, embedding: bool = False, windows: bool = False
) -> dict[str, Any]:
    """Return an answer, JSON-ready; without one, the same keys with null, and the error.

    Probabilities are the float32 values of the predictions table, exactly.

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
