"""Feature shards: one row a (track, view), written as Parquet parts and read back as arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.config import FeatureConfig
from mgc.data.outputs import OutputDirectory
from mgc.data.schema import require_kind
from mgc.data.storage import Store
from mgc.data.view import current_index, current_rows
from mgc.errors import FingerprintError, SchemaError, SplitError

COLUMNS = ("track_id", "content_id", "n_windows", "n_frames", "n_mels", "log_mel", "error_code")


@dataclass(frozen=True)
class FeatureSet:
    """The tracks of one split that have features, in memory, in track_id order.

    Parameters
    ----------
    log_mels
        One float16 array a track: dB in [-top_db, 0], shape (n_windows, n_frames, n_mels). n_windows differs.
    genres
        Genre name, or None where it is not known.
    tags, tags_known
        Tag names; where `tags_known` is False an empty list says nothing.
    groups
        Group (artist, work) of each track.
    features, feature_fingerprint
        The settings that made the log-mels (`FeatureConfig.for_model`), and their fingerprint.
    """

    track_ids: list[str]
    log_mels: list[npt.NDArray[np.float16]]
    genres: list[str | None]
    tags: list[list[str]]
    tags_known: list[bool]
    groups: list[str]
    features: FeatureConfig
    feature_fingerprint: str

    def __len__(self) -> int:
        return len(self.track_ids)


@dataclass(frozen=True)
class ShardFacts:
    """What the shards of an output directory were made with.

    Parameters
    ----------
    features, fingerprint
        All feature settings.
    """

    features: FeatureConfig
    fingerprint: str

    @property
    def heard(self) -> FeatureConfig:
        """The part of the settings that decides what a model hears."""
        return self.features.for_model()


def shard_facts(features_uri: str) -> ShardFacts:
    """Return the feature settings of the newest visible shards.

    Raises
    ------
    SchemaError
        There are no shards, or they are of another kind or version.
    FingerprintError
        The settings written in the shards do not give the fingerprint written beside them.
    """
    output = OutputDirectory(Store.open(features_uri), "features")
    parts = [part for commit in output.commits() for part in commit.parts]
    if not parts:
        raise SchemaError(f"no finished feature shards in '{features_uri}'", "run `mgc extract` to its end first")
    newest_part = max(parts, key=lambda part: part.sequence)
    with output.store.open_input(newest_part.key) as source:
        metadata = require_kind(pq.read_schema(source), "features", output.store.uri(newest_part.key))
    features = FeatureConfig.model_validate(json.loads(metadata["mgc.feature_config"]))
    if features.fingerprint() != metadata["mgc.fingerprint"]:
        raise FingerprintError(
            f"shards in '{features_uri}' say {metadata['mgc.fingerprint']}, their settings give "
            f"{features.fingerprint()}",
            "extract them anew with this version of mgc",
        )
    return ShardFacts(features, features.fingerprint())


def read_feature_set(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet:
    """Return the features of a split's tracks, with labels from the catalogue.

    Failed tracks and rows of another content or fingerprint are left out.

    Raises
    ------
    SplitError
        The split has no track with features.
    """
    facts = shard_facts(features_uri)
    output = OutputDirectory(Store.open(features_uri), "features")
    chosen = catalogue.filter(pl.col("split") == split)
    where = current_index(output, chosen).filter(
        pl.col("error_code").is_null() & (pl.col("fingerprint") == facts.fingerprint)
    )
    where = where.join(chosen.select("track_id", "content_id"), on=["track_id", "content_id"], how="semi")
    arrays: dict[str, npt.NDArray[np.float16]] = {}
    for table in current_rows(output, where, COLUMNS):
        arrays |= _arrays_of(table)
    if not arrays:
        raise SplitError(
            f"no track of split '{split}' has features in '{features_uri}'",
            "check the split names in the catalogue, and that `mgc extract` ran over this catalogue",
        )
    rows = chosen.filter(pl.col("track_id").is_in(list(arrays))).sort("track_id")
    return FeatureSet(
        track_ids=rows["track_id"].to_list(),
        log_mels=[arrays[track_id] for track_id in rows["track_id"]],
        genres=rows["genre"].to_list(),
        tags=rows["tags"].to_list(),
        tags_known=rows["tags_known"].to_list(),
        groups=rows["group"].to_list(),
        features=facts.heard,
        feature_fingerprint=facts.heard.fingerprint(),
    )


def failed_tracks(features_uri: str, catalogue: pl.DataFrame, split: str) -> pl.DataFrame:
    """Return the split's tracks whose extraction failed: track_id, error_code, genre, group."""
    output = OutputDirectory(Store.open(features_uri), "features")
    chosen = catalogue.filter(pl.col("split") == split)
    failed = current_index(output, chosen).filter(pl.col("error_code").is_not_null())
    return failed.select("track_id", "error_code").join(chosen.select("track_id", "genre", "group"), on="track_id")


def _arrays_of(table: pa.Table) -> dict[str, npt.NDArray[np.float16]]:
    found = {}
    for row in table.to_pylist():
        shape = (row["n_windows"], row["n_frames"], row["n_mels"])
        found[row["track_id"]] = np.frombuffer(row["log_mel"], dtype="<f2").reshape(shape)
    return found
