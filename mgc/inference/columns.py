"""A track's answer as columns of the predictions table; the catalogue's job and the tagging of a file share them."""

from __future__ import annotations

from typing import Any

from mgc.config.taxonomy import Taxonomy
from mgc.inference.predictor import TrackPrediction

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


def answer_columns(prediction: TrackPrediction | None, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the columns of `mgc.tables.schema.PREDICTIONS` that the ensemble fills; null ones for None."""
    if prediction is None:
        return {**dict.fromkeys(ANSWER_COLUMNS), "windows": 0}
    return {
        "genre": prediction.genre,
        "genre_probability": prediction.genre_probability,
        "abstained": prediction.abstained,
        "genre_probabilities": list(zip(taxonomy.genres, prediction.genre_probabilities.tolist(), strict=True)),
        "tags": list(prediction.tags),
        "tag_probabilities": list(zip(taxonomy.tags, prediction.tag_probabilities.tolist(), strict=True)),
        "embedding": prediction.embedding,
        "windows": prediction.windows,
    }
