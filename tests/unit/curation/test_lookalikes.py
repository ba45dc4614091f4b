from __future__ import annotations

import numpy as np
import polars as pl

from mgc.curation.duplicates import lookalikes


def tracks(seconds: list[float], vectors: np.ndarray) -> pl.DataFrame:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return pl.DataFrame(
        {
            "track_id": [f"{row:03}" for row in range(len(seconds))],
            "uri": [f"/m/{row}.mp3" for row in range(len(seconds))],
            "duration_seconds": seconds,
            "embedding": unit.tolist(),
        },
        schema_overrides={"embedding": pl.List(pl.Float32)},
    )


def test_equally_long_and_alike_are_a_group() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 16))
    seconds = (100.0 + 3.0 * np.arange(60)).tolist()
    vectors[7], seconds[7] = vectors[3] + 0.01, seconds[3] + 0.1
    vectors[9], seconds[9] = vectors[3] - 0.01, seconds[3] + 0.2
    vectors[20] = vectors[40]  # alike, of other lengths
    seconds[30] = seconds[31] + 0.05  # equally long, not alike
    found = lookalikes(tracks(seconds, vectors))
    assert found.comparable
    assert found.groups["track_id"].to_list() == ["003", "007", "009"]
    assert found.groups["group_id"].unique().to_list() == ["003"]
    assert found.groups["cosine"].min() > 0.999  # type: ignore[operator]


def test_clips_of_one_length_are_not_asked() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8))
    found = lookalikes(tracks([30.0] * 300, vectors))
    assert (found.comparable, found.groups.height) == (False, 0)
    none = tracks([10.0, 20.0], vectors[:2]).with_columns(embedding=pl.lit(None, pl.List(pl.Float32)))
    assert not lookalikes(none).comparable
