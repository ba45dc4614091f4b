"""Answers, predictions and feature sets for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mgc.config import EvaluationConfig, FeatureConfig
from mgc.evaluation.answers import Failure, LabelledPredictions
from mgc.evaluation.bootstrap import Resampling
from mgc.tables.feature_shards import FeatureSet
from mgc.tables.parquet_batches import frame_of
from mgc.tables.schema import CATALOGUE, marked

QUICK = EvaluationConfig(bootstrap_samples=200)
TINY = FeatureConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=32, window_seconds=0.5, max_windows=2)


def one_hot(predicted: Sequence[int], n_genres: int, confidence: float = 0.7) -> np.ndarray:
    """Return probabilities that give `confidence` to the predicted genre and share the rest."""
    probabilities = np.full((len(predicted), n_genres), (1 - confidence) / max(1, n_genres - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def genre_answers(true: Sequence[int], predicted: Sequence[int], n_genres: int, **more: Any) -> LabelledPredictions:
    """Return answers without tags, one group a track."""
    n = len(true)
    values: dict[str, Any] = {
        "track_ids": [f"t{row:04}" for row in range(n)],
        "groups": [f"g{row:04}" for row in range(n)],
        "genres": [f"genre{index}" for index in range(n_genres)],
        "tags": [],
        "genre_true": np.array(true, dtype=np.int64),
        "genre_probabilities": one_hot(predicted, n_genres),
        "tag_true": np.zeros((n, 0), dtype=np.int64),
        "tags_known": np.zeros(n, dtype=bool),
        "tag_probabilities": np.zeros((n, 0)),
    }
    return LabelledPredictions(**(values | more))


def tag_answers(truth: np.ndarray, scores: np.ndarray, **more: Any) -> LabelledPredictions:
    """Return answers without genres."""
    n, n_tags = truth.shape
    values: dict[str, Any] = {
        "genre_probabilities": np.zeros((n, 0)),
        "tags": [f"tag{index}" for index in range(n_tags)],
        "tag_true": truth.astype(np.int64),
        "tags_known": np.ones(n, dtype=bool),
        "tag_probabilities": scores,
    }
    without = {"genres": [], "genre_true": np.full(n, -1, dtype=np.int64)}
    return LabelledPredictions(
        track_ids=[f"t{row:04}" for row in range(n)],
        groups=[f"g{row:04}" for row in range(n)],
        **(without | values | more),
    )


def mixed_answers(n: int = 60, seed: int = 0) -> LabelledPredictions:
    """Return answers with four genres, five tags, unknown labels, groups of three and two failures."""
    generator = np.random.default_rng(seed)
    true = generator.integers(-1, 4, n)
    logits = generator.normal(size=(n, 4))
    logits[np.arange(n), np.maximum(true, 0)] += 1.5
    powers = np.exp(logits)
    tags = (generator.random((n, 5)) < 0.3).astype(np.int64)
    return genre_answers(
        true,
        [0] * n,
        4,
        groups=[f"g{row // 3:04}" for row in range(n)],
        genre_probabilities=powers / powers.sum(axis=1, keepdims=True),
        tags=[f"tag{index}" for index in range(5)],
        tag_true=tags,
        tags_known=generator.random(n) < 0.8,
        tag_probabilities=np.clip(0.3 * tags + generator.random((n, 5)) * 0.7, 0, 1),
        failed=[Failure("x1", "T201_EMPTY_FILE", "genre1", "g0000"), Failure("x2", "T202_NOT_AUDIO")],
        split="test",
    )


def resampling(n: int, samples: int = 200, seed: int = 0) -> Resampling:
    """Return resamples of n single tracks."""
    return Resampling(np.arange(n), samples, 0.95, seed)


def catalogue_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return a catalogue; what a row does not say is filled in."""
    filled = [
        {
            "uri": f"/music/{row['track_id']}.wav",
            "content_id": "c1",
            "size_bytes": 1,
            "genre": None,
            "tags": [],
            "tags_known": False,
            "group": row["track_id"],
            "split": "valid",
        }
        | row
        for row in rows
    ]
    return frame_of(pa.Table.from_pylist(filled, schema=CATALOGUE))


def predictions_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return predictions; `genres` and `tags` of a row are name → probability, a row with `error` failed."""
    return frame_of(pa.Table.from_pylist([_prediction(**row) for row in rows], schema=marked("predictions")))


def _prediction(
    track_id: str,
    genres: dict[str, float] | None = None,
    tags: dict[str, float] | None = None,
    error: str | None = None,
    uri: str | None = None,
    content_id: str = "c1",
    message: str = "why",
    seconds: float = 90.0,
) -> dict[str, Any]:
    best = max(genres, key=genres.__getitem__) if genres else None
    return {
        "track_id": track_id,
        "uri": uri or f"/music/{track_id}.wav",
        "content_id": content_id,
        "duration_seconds": None if error else seconds,
        "genre": best,
        "genre_probability": genres[best] if genres and best else None,
        "genre_probabilities": None if error else list((genres or {}).items()),
        "tags": None if error else [tag for tag, p in (tags or {}).items() if p >= 0.5],
        "tag_probabilities": None if error else list((tags or {}).items()),
        "embedding": None if error else [0.0],
        "windows": 0 if error else 1,
        "error_code": error,
        "error_stage": "decode" if error else None,
        "error_message": message if error else None,
        "bundle_fingerprint": "b" * 16,
        "run_id": "run",
        "sequence": 1,
        "tagged_at": datetime(2026, 1, 1, tzinfo=UTC),
        "deleted_at": None,
    }


def feature_set(
    genres: Sequence[str | None],
    tags: Sequence[Sequence[str]],
    *,
    tags_known: Sequence[bool] | None = None,
    noise: float = 0.3,
    seed: int = 0,
    prefix: str = "t",
    config: FeatureConfig = TINY,
) -> FeatureSet:
    """Return tracks whose spectra tilt by genre and bulge by tag, so that MFCCs tell them apart."""
    generator = np.random.default_rng(seed)
    names = sorted({genre for genre in genres if genre} | {tag for some in tags for tag in some})
    band = np.arange(config.n_mels) / config.n_mels
    log_mels = []
    for genre, some in zip(genres, tags, strict=True):
        shape = -40.0 + sum(
            12.0 * np.cos(np.pi * (names.index(name) + 1) * band) for name in [genre, *some] if name is not None
        )
        wobble = generator.normal(0, 10 * noise, config.n_mels)
        frames = shape + wobble + generator.normal(0, 3.0, (2, config.n_frames, config.n_mels))
        log_mels.append(np.clip(frames, -80, 0).astype(np.float16))
    ids = [f"{prefix}{row:03}" for row in range(len(genres))]
    return FeatureSet(
        track_ids=ids,
        log_mels=log_mels,
        genres=list(genres),
        tags=[list(some) for some in tags],
        tags_known=list(tags_known) if tags_known is not None else [True] * len(genres),
        groups=ids,
        features=config,
        feature_fingerprint=config.fingerprint(),
        views=["clean"] * len(genres),
    )
