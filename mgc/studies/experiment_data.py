"""The labelled tracks of an experiment with their features, and the two sides of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from mgc.arrays import FloatingArray
from mgc.catalogue.index import read_catalogue
from mgc.config import AugmentConfig, fingerprint_of, fingerprint_of_rows
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import CLEAN
from mgc.errors import ConfigError, SplitError
from mgc.evaluation.protocols import (
    Fold,
    SegmentFold,
    fixed_split,
    group_k_fold,
    groups_across,
    random_segments,
    random_tracks,
    stratified_k_fold,
    with_fold,
)
from mgc.studies.experiment_settings import DataSettings, ProtocolSettings
from mgc.tables.feature_cache import LogMels
from mgc.tables.feature_shards import FeatureSet, read_feature_set, require_views, shard_facts


@dataclass(frozen=True)
class Material:
    """What an experiment works on.

    Parameters
    ----------
    catalogue
        The labelled tracks that have features, by track id; schema CATALOGUE.
    tracks
        Their clean features, in that order; cut into segments where the experiment does so.
    taxonomy
        Of all these tracks, so that every run answers the same question.
    labelled
        Labelled tracks in all, those without features included.
    fingerprint
        Of labels, groups, splits, features and segments.
    shards_fingerprint
        Of all settings of the shards, those of further features and statistics included.
    """

    catalogue: pl.DataFrame
    tracks: FeatureSet
    taxonomy: Taxonomy
    labelled: int
    fingerprint: str
    features_uri: str
    segment_seconds: float | None
    shards_fingerprint: str = ""

    @property
    def seconds_a_window(self) -> float:
        """Length of what is learnt from and predicted at once: a window, or a segment of it."""
        frames = self.tracks.log_mels[0].shape[1]
        return float(frames / self.tracks.features.frames_per_second)


@dataclass(frozen=True)
class FoldFeatures:
    """A fold: training and held-out tracks, and how many groups (artists) are on both sides."""

    train: FeatureSet
    held_out: FeatureSet
    groups_across: int


def read_material(data: DataSettings) -> Material:
    """Return the labelled tracks of a catalogue that have features.

    Raises
    ------
    SplitError
        No track is labelled, or none of those has features.
    ConfigError
        No catalogue or features are named, or segments are longer than the windows.
    """
    if data.catalogue is None or data.features is None:
        raise ConfigError("the experiment names no data", "give --catalogue and --features, or both in its [data]")
    catalogue = read_catalogue(data.catalogue)
    labelled = catalogue.filter(pl.col("genre").is_not_null() | pl.col("tags_known")).sort("track_id")
    if labelled.is_empty():
        raise SplitError("the catalogue has no labelled track to learn from", "join labels when indexing")
    tracks = read_feature_set(data.features, _as_one(labelled), "train")
    there = labelled.filter(pl.col("track_id").is_in(tracks.track_ids))
    known = there.filter(pl.col("tags_known") & data.tags)
    taxonomy = Taxonomy.from_labels(there["genre"], known["tags"].to_list(), data.min_tag_positives)
    cut = in_segments(tracks, data.segment_seconds)
    facts = {
        "labels": fingerprint_of_rows(
            there.select("track_id", "content_id", "genre", "tags", "tags_known", "group", "split")
        ),
        "features": tracks.feature_fingerprint,
        "taxonomy": taxonomy.fingerprint(),
        "segment_seconds": data.segment_seconds,
    }
    fingerprint = fingerprint_of(facts)
    stored = shard_facts(data.features).fingerprint
    return Material(there, cut, taxonomy, labelled.height, fingerprint, data.features, data.segment_seconds, stored)


def _as_one(catalogue: pl.DataFrame) -> pl.DataFrame:
    return with_fold(catalogue, Fold(tuple(catalogue["track_id"]), ()))


def in_segments(tracks: FeatureSet, segment_seconds: float | None) -> FeatureSet:
    """Return the tracks with their windows cut into whole segments, the remainder left out; None: as they are.

    Raises
    ------
    ConfigError
        A segment is longer than a window, or shorter than a frame.
    """
    if segment_seconds is None:
        return tracks
    frames = round(segment_seconds * tracks.features.frames_per_second)
    longest = tracks.features.n_frames
    if not 1 <= frames <= longest:
        raise ConfigError(
            f"data.segment_seconds = {segment_seconds:g}: {frames} frames, but windows have {longest}",
            "choose a segment shorter than a window of the shards",
        )

    def cut(log_mel: FloatingArray) -> FloatingArray:
        windows, _, n_mels = log_mel.shape
        whole = log_mel.shape[1] // frames
        return log_mel[:, : whole * frames].reshape(windows * whole, frames, n_mels)

    return replace(tracks, log_mels=LogMels(lambda row: cut(tracks.log_mels[row]), np.arange(len(tracks))))


def folds_of(protocol: ProtocolSettings, material: Material, seed: int) -> Sequence[Fold | SegmentFold]:
    """Return the folds of a protocol that are run.

    Raises
    ------
    SplitError
        The tracks cannot be parted so.
    """
    catalogue = material.catalogue
    if protocol.kind == "fixed_split":
        return fixed_split(catalogue, protocol.train, protocol.valid)
    if protocol.kind == "group_k_fold":
        return group_k_fold(catalogue, protocol.folds, seed)[: protocol.n_folds]
    if protocol.kind == "stratified_k_fold":
        return stratified_k_fold(catalogue, protocol.folds, seed)[: protocol.n_folds]
    if protocol.kind == "random_tracks":
        return random_tracks(catalogue, protocol.valid_fraction, seed)
    windows = {
        track: len(own) for track, own in zip(material.tracks.track_ids, material.tracks.log_mels, strict=True)
    }
    return random_segments(catalogue, windows, protocol.valid_fraction, seed)


def read_fold(
    fold: Fold | SegmentFold, material: Material, views: Sequence[str], augment: AugmentConfig
) -> FoldFeatures:
    """Return the features on both sides of a fold; the held-out ones are clean.

    Parameters
    ----------
    views, augment
        Views of the training tracks, and how they were made.
    """
    if isinstance(fold, SegmentFold):
        tracks = Fold(*(tuple(sorted({track for track, _ in side})) for side in (fold.train, fold.valid)))
        train, held_out = (_windows(material.tracks, side) for side in (fold.train, fold.valid))
        return FoldFeatures(train, held_out, len(groups_across(material.catalogue, tracks)))
    train = material.tracks.of_tracks(list(fold.train))
    if tuple(views) != (CLEAN,):
        wanted = augment.model_copy(update={"views": (CLEAN, *(view for view in views if view != CLEAN))})
        wanted = wanted.model_copy(update={"splits": ("train",), "balance_to_share": None})
        folded = with_fold(material.catalogue, fold)
        require_views(material.features_uri, folded, wanted)
        train = in_segments(
            read_feature_set(material.features_uri, folded, "train", wanted), material.segment_seconds
        )
    held_out = material.tracks.of_tracks(list(fold.valid))
    return FoldFeatures(train, held_out, len(groups_across(material.catalogue, fold)))


def _windows(tracks: FeatureSet, chosen: Sequence[tuple[str, int]]) -> FeatureSet:
    """Return the tracks that have chosen windows, with these alone."""
    numbers: dict[str, list[int]] = {}
    for track, number in chosen:
        numbers.setdefault(track, []).append(number)
    some = tracks.of_tracks(sorted(numbers))
    return replace(
        some,
        log_mels=LogMels(lambda row: some.log_mels[row][numbers[some.track_ids[row]]], np.arange(len(some))),
    )
