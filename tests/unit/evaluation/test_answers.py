from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from answer_makers import catalogue_of, predictions_of

from mgc.errors import SchemaError, SplitError
from mgc.evaluation.answers import OUTSIDE, Failure, LabelledPredictions, answers_from_tables
from mgc.tables.parquet_batches import frame_of
from mgc.tables.schema import marked

GENRES, TAGS = ["jazz", "rock"], ["drums", "flute", "loud"]

CATALOGUE_ROWS: list[dict[str, Any]] = [
    {"track_id": "d", "genre": "polka", "group": "x"},
    {"track_id": "b", "genre": None, "tags": ["drums"], "tags_known": False},
    {"track_id": "a", "genre": "rock", "tags": ["loud", "humming"], "tags_known": True, "group": "x"},
    {"track_id": "c", "genre": "jazz", "group": "y"},
    {"track_id": "e", "genre": "jazz", "split": "train"},
]
PREDICTION_ROWS: list[dict[str, Any]] = [
    {"track_id": "a", "genres": {"jazz": 0.25, "rock": 0.75}, "tags": {"drums": 0.5, "flute": 0.125, "loud": 1.0}},
    {"track_id": "b", "genres": {"rock": 0.5, "jazz": 0.5}, "tags": {"loud": 0.0, "drums": 0.25, "flute": 0.75}},
    {"track_id": "c", "error": "T201_EMPTY_FILE"},
    {"track_id": "d", "genres": {"jazz": 1.0, "rock": 0.0}, "tags": {"drums": 0.0, "flute": 0.0, "loud": 0.0}},
    {"track_id": "z", "genres": {"jazz": 1.0, "rock": 0.0}, "tags": {"drums": 0.0, "flute": 0.0, "loud": 0.0}},
]


def joined(predictions: pl.DataFrame | None = None, split: str = "valid") -> LabelledPredictions:
    made = predictions_of(PREDICTION_ROWS) if predictions is None else predictions
    return answers_from_tables(made, catalogue_of(CATALOGUE_ROWS), split, GENRES, TAGS)


def without(track_id: str, *more: dict[str, Any]) -> pl.DataFrame:
    return predictions_of([*(row for row in PREDICTION_ROWS if row["track_id"] != track_id), *more])


def test_rows_are_joined_and_labels_come_from_the_catalogue() -> None:
    answers = joined()
    assert answers.track_ids == ["a", "b", "d"]
    assert answers.groups == ["x", "b", "x"]
    assert answers.genre_true.tolist() == [1, -1, OUTSIDE]
    assert answers.outside_genres == ("polka",)
    assert answers.genre_probabilities.tolist() == [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]
    assert answers.tag_true.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert answers.tags_known.tolist() == [True, False, False]
    assert answers.tag_probabilities[1].tolist() == [0.25, 0.75, 0.0], "by name, not by place"
    assert answers.failed == [Failure("c", "T201_EMPTY_FILE", "jazz", "y")]
    assert answers.split == "valid"


def test_parquet_round_trip() -> None:
    buffer = io.BytesIO()
    table = predictions_of(PREDICTION_ROWS).to_arrow().cast(marked("predictions"))
    pq.write_table(table, buffer)
    for read in (pl.read_parquet(buffer.getvalue()), frame_of(pq.read_table(buffer))):
        assert joined(read).genre_probabilities.tolist() == joined().genre_probabilities.tolist()


def test_maps_as_lists_of_entries_are_read_too() -> None:
    def entries(column: str) -> pl.Series:
        rows = predictions_of(PREDICTION_ROWS)[column].to_list()
        pairs = [None if row is None else [{"key": key, "value": p} for key, p in row.items()] for row in rows]
        kind = pl.List(pl.Struct({"key": pl.String, "value": pl.Float32}))
        return pl.Series(column, pairs, dtype=kind)

    older = predictions_of(PREDICTION_ROWS).with_columns(entries("genre_probabilities"), entries("tag_probabilities"))
    assert joined(older).tag_probabilities.tolist() == joined().tag_probabilities.tolist()


def test_missing_prediction_is_an_error_that_says_how_many() -> None:
    with pytest.raises(SchemaError, match="1 track of split 'valid' has no prediction: a"):
        joined(without("a"))
    with pytest.raises(SchemaError, match="4 tracks of split 'valid' have no prediction: a, b, c, …") as caught:
        joined(predictions_of(PREDICTION_ROWS[4:]))
    assert "mgc tag" in caught.value.remedy


def test_repeated_prediction_is_an_error() -> None:
    with pytest.raises(SchemaError, match="more than one prediction: a"):
        joined(predictions_of([*PREDICTION_ROWS, PREDICTION_ROWS[0]]))


def test_prediction_of_another_content_is_an_error() -> None:
    with pytest.raises(SchemaError, match="1 track of split 'valid' has changed since it was tagged: a") as caught:
        joined(without("a", PREDICTION_ROWS[0] | {"content_id": "c0"}))
    assert "mgc tag" in caught.value.remedy


def test_vocabulary_of_another_model_is_an_error() -> None:
    with pytest.raises(SchemaError, match="lack genre_probabilities of 'polka'"):
        answers_from_tables(
            predictions_of(PREDICTION_ROWS), catalogue_of(CATALOGUE_ROWS), "valid", [*GENRES, "polka"], TAGS
        )


def test_empty_split_names_those_there_are() -> None:
    with pytest.raises(SplitError, match="no track of split 'test'") as caught:
        joined(split="test")
    assert "train, valid" in caught.value.remedy


def test_all_failed_gives_answers_without_rows() -> None:
    failed = predictions_of([{"track_id": row["track_id"], "error": "T201_EMPTY_FILE"} for row in PREDICTION_ROWS])
    answers = joined(failed)
    assert len(answers) == 0
    assert len(answers.failed) == 4
    assert answers.genre_probabilities.shape == (0, 2)


def test_model_without_tags() -> None:
    made = predictions_of([{k: v for k, v in row.items() if k != "tags"} for row in PREDICTION_ROWS])
    answers = answers_from_tables(made, catalogue_of(CATALOGUE_ROWS), "valid", GENRES, [])
    assert answers.tag_probabilities.shape == (3, 0)
    assert np.isfinite(answers.genre_probabilities).all()
