"""Precision at k: by hand on small sets, chance where nothing is learned, and no neighbour of one's own group."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from curation_makers import unit_rows

from mgc.config import EvaluationConfig
from mgc.curation.similarity_score import score_similarity
from mgc.errors import SplitError

CONFIG = EvaluationConfig(bootstrap_samples=200)


def tracks(genres: list[str], tags: list[list[str]] | None = None, groups: list[str] | None = None) -> pl.DataFrame:
    n = len(genres)
    return pl.DataFrame(
        {
            "track_id": [f"t{number:03d}" for number in range(n)],
            "genre": genres,
            "tags": tags or [["x"]] * n,
            "tags_known": [True] * n,
            "group": groups or [f"g{number}" for number in range(n)],
        }
    )


def test_precision_is_macro_over_labels_as_counted_by_hand() -> None:
    angles = np.deg2rad([0, 1, 3, 90, 91])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labelled = tracks(["a", "a", "b", "b", "b"], [["p"], ["p", "q"], ["q"], ["p"], ["p"]])
    score = score_similarity(labelled, vectors, 1, CONFIG)
    # Nearest: 0→1, 1→0, 2→1, 3→4, 4→3. Genre a: 1 of 1, 1 of 1; b: 0, 1, 1.
    assert score.genre.embedding.value == pytest.approx((1.0 + 2 / 3) / 2)
    # Tag p of 0, 1, 3, 4: all. Tag q of 1: 0 has not; of 2: 1 has.
    assert score.tags.embedding.value == pytest.approx((1.0 + 0.5) / 2)
    # By chance: a has one other of four; b two others of four.
    assert score.genre.chance.value == pytest.approx((0.25 + 0.5) / 2)


def test_neighbours_of_the_same_group_do_not_count() -> None:
    vectors = unit_rows(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]]))
    labelled = tracks(["a", "a", "b", "b"], groups=["g", "g", "h", "h"])
    assert score_similarity(labelled, vectors, 1, CONFIG).genre.embedding.value == 0.0


def test_vectors_that_know_nothing_give_chance_within_the_interval() -> None:
    random = np.random.default_rng(0)
    labelled = tracks(random.choice(["a", "b", "c"], 240).tolist())
    score = score_similarity(labelled, unit_rows(random.standard_normal((240, 16))), 10, CONFIG)
    figure, chance = score.genre.embedding, score.genre.chance.value
    assert figure.low is not None
    assert figure.high is not None
    assert chance is not None
    assert figure.low <= chance <= figure.high
    assert score.to_json()["k"] == 10


def test_too_few_tracks_are_refused() -> None:
    with pytest.raises(SplitError, match="too few"):
        score_similarity(tracks(["a", "b"]), np.eye(2, dtype=np.float32), 2, CONFIG)
