"""A bundle's answers for the tracks of one split: from shards, or from predictions that are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from mgc.errors import FingerprintError, SchemaError, TrainingError
from mgc.evaluation.answers import (
    Failure,
    LabelledPredictions,
    answers_from_tables,
    genre_indices,
    names_outside,
    tag_vectors,
)
from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle
from mgc.tables.feature_shards import FeatureSet, failed_tracks, read_feature_set
from mgc.tables.predictions import read_predictions
from mgc.training.batches import require_sound

TRACKS_AT_ONCE = 256


def answers_from_shards(
    bundle: Bundle, features_uri: str, catalogue: pl.DataFrame, split: str
) -> LabelledPredictions:
    """Return the ensemble's answers for a split's shards, failed extractions among `failed`.

    Raises
    ------
    FingerprintError
        The shards were not made as the bundle's training features were.
    SchemaError
        Features are not finite.
    """
    tracks = _sound_features(features_uri, catalogue, split)
    predictor = Predictor(bundle)
    predictor.check_features(tracks.feature_fingerprint)
    predictions = [
        prediction
        for start in range(0, len(tracks), TRACKS_AT_ONCE)
        for prediction in predictor.predict(tracks.log_mels[start : start + TRACKS_AT_ONCE])
    ]
    genres, tags = bundle.taxonomy.genres, bundle.taxonomy.tags
    return LabelledPredictions(
        track_ids=tracks.track_ids,
        groups=tracks.groups,
        genres=genres,
        tags=tags,
        genre_true=genre_indices(tracks.genres, genres),
        genre_probabilities=np.stack([one.genre_probabilities for one in predictions]).astype(np.float64),
        tag_true=tag_vectors(tracks.tags, tags),
        tags_known=np.array(tracks.tags_known, dtype=bool),
        tag_probabilities=np.stack([one.tag_probabilities for one in predictions]).astype(np.float64),
        failed=[Failure(*row) for row in failed_tracks(features_uri, catalogue, split).iter_rows()],
        outside_genres=names_outside(tracks.genres, genres),
        split=split,
        abstain_below=bundle.decision.abstain_below,
        abstain_precision=bundle.decision.abstain_precision,
    )


def answers_from_predictions(
    bundle: Bundle, predictions_uri: str, catalogue: pl.DataFrame, split: str
) -> LabelledPredictions:
    """Return the answers that a tagging run wrote.

    Raises
    ------
    FingerprintError
        They are another bundle's.
    """
    predictions = read_predictions(predictions_uri)
    others = predictions.filter(pl.col("bundle_fingerprint") != bundle.fingerprint)
    if not others.is_empty():
        raise FingerprintError(
            f"{others.height} predictions in '{predictions_uri}' are of bundle {others['bundle_fingerprint'][0]}, "
            f"not of {bundle.fingerprint}",
            "give the bundle that made them, or tag again with this one",
        )
    answers = answers_from_tables(predictions, catalogue, split, bundle.taxonomy.genres, bundle.taxonomy.tags)
    decision = bundle.decision
    return replace(answers, abstain_below=decision.abstain_below, abstain_precision=decision.abstain_precision)


def both_splits(features_uri: str, catalogue: pl.DataFrame, split: str) -> tuple[FeatureSet, FeatureSet]:
    """Return the training tracks and those of `split`, for a baseline to learn and to answer."""
    return _sound_features(features_uri, catalogue, "train"), _sound_features(features_uri, catalogue, split)


def _sound_features(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet:
    tracks = read_feature_set(features_uri, catalogue, split)
    try:
        require_sound(tracks)
    except TrainingError as error:
        raise SchemaError(f"'{features_uri}': {error.message}", error.remedy) from error
    return tracks
