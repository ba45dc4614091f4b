"""Feature shards: one row a (track, view), written as Parquet parts and read back as arrays.

Columns beside the log-mel hold further features and statistics, where the settings name any (`feature_schema`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.arrays import BoolArray
from mgc.audio.features.feature_rows import UNITS, row_names, statistics_names
from mgc.audio.track_features import TrackFeatures, TrackResult
from mgc.config import AugmentConfig, FeatureConfig
from mgc.config.section import json_object
from mgc.config.view_settings import CLEAN
from mgc.errors import FingerprintError, SchemaError, SplitError, Stage, TrackCode, TrackError
from mgc.storage.store import Store
from mgc.tables.feature_cache import KEY, SHAPE, LogMels, MappedRows, map_log_mels
from mgc.tables.parquet_batches import frame_of, named_if_damaged
from mgc.tables.run_index import ITEM, current_index, current_rows, newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.schema import ERROR_FIELDS, marked, require_kind
from mgc.tables.slices import Slices, Span
from mgc.tables.work_items import clean_items, plan_items

ROWS_KEY = b"mgc.rows"
UNIT_KEY = b"mgc.unit"
FEATURES_KEY = b"mgc.feature_config"
VALUES_AT_ONCE = 10_000
STATISTICS = "statistics"
STATISTICS_NAMES = "statistics_names"


@dataclass(frozen=True)
class FeatureSet:
    """The views of one split's tracks that have features, in the order of (track_id, view).

    Unless views are wanted there is one row a track, its clean view.

    Parameters
    ----------
    log_mels
        One float16 array a row: dB in [-top_db, 0], shape (n_windows, n_frames, n_mels). n_windows differs. From
        shards they lie on disk (`mgc.tables.feature_cache`): what is taken from one is what is read.
    genres
        Genre name, or None where it is not known.
    tags, tags_known
        Tag names; where `tags_known` is False an empty list says nothing. An overlay has the tags of both its
        tracks, and they are known where both tracks' are.
    groups
        Group (artist, work) of each track.
    features, feature_fingerprint
        The settings that made the log-mels (`FeatureConfig.for_model`), and their fingerprint.
    views
        The view of each row.
    finite
        Whether all values of each row are finite; None: nobody looked.
    of_statistics
        Whether statistics of each window stand in the place of its log-mel, shape (n_windows, 1, size), float32.
    """

    track_ids: Sequence[str]
    log_mels: Sequence[npt.NDArray[Any]]
    genres: Sequence[str | None]
    tags: Sequence[Sequence[str]]
    tags_known: Sequence[bool]
    groups: Sequence[str]
    features: FeatureConfig
    feature_fingerprint: str
    views: Sequence[str]
    finite: BoolArray | None = None
    of_statistics: bool = False

    def __len__(self) -> int:
        return len(self.track_ids)

    def of_tracks(self, track_ids: list[str]) -> FeatureSet:
        """Return some of the tracks, in the order given, a view of each."""
        place = {track: number for number, track in enumerate(self.track_ids)}
        return self.at([place[track] for track in track_ids])

    def at(self, rows: Iterable[int]) -> FeatureSet:
        """Return some of the rows, in the order given."""
        rows = list(rows)
        numbers = np.array(rows, dtype=np.int64)
        return replace(
            self,
            track_ids=[self.track_ids[row] for row in rows],
            log_mels=LogMels(lambda row: self.log_mels[row], numbers),
            genres=[self.genres[row] for row in rows],
            tags=[self.tags[row] for row in rows],
            tags_known=[self.tags_known[row] for row in rows],
            groups=[self.groups[row] for row in rows],
            views=[self.views[row] for row in rows],
            finite=None if self.finite is None else self.finite[numbers],
        )


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
    def model_features(self) -> FeatureConfig:
        """The part of the settings that decides the log-mel."""
        return self.features.for_model()


def shard_facts(features_uri: str) -> ShardFacts:
    """Return the feature settings of the newest visible shards.

    Raises
    ------
    SchemaError
        There are no shards, or they are damaged, or of another kind or version.
    FingerprintError
        The settings written in the shards do not give the fingerprint written beside them.
    """
    output = OutputDirectory(Store.open(features_uri), "features")
    parts = [part for commit in output.commits() for part in commit.parts]
    if not parts:
        raise SchemaError(f"no finished feature shards in '{features_uri}'", "run `mgc extract` to its end first")
    newest_part = max(parts, key=lambda part: part.sequence)
    place = output.store.uri(newest_part.key)
    with named_if_damaged(place), output.store.open_input(newest_part.key) as source:
        metadata = require_kind(pq.read_schema(source), "features", place)
    try:
        features = FeatureConfig.model_validate(json_object(metadata["mgc.feature_config"]))
    except (ValueError, KeyError) as error:
        raise SchemaError(f"'{place}' does not say by which settings it was made", "extract anew") from error
    if features.fingerprint() != metadata["mgc.fingerprint"]:
        raise FingerprintError(
            f"shards in '{features_uri}' say {metadata['mgc.fingerprint']}, their settings give "
            f"{features.fingerprint()}",
            "extract them anew with this version of mgc",
        )
    return ShardFacts(features, features.fingerprint())


def read_feature_set(
    features_uri: str, catalogue: pl.DataFrame, split: str, augment: AugmentConfig | None = None
) -> FeatureSet:
    """Return the features of a split's tracks, with labels from the catalogue.

    Failed rows and rows of another content, recipe or fingerprint are left out.

    Parameters
    ----------
    augment
        Which views to read; None: the clean ones, which is all that may be judged by.

    Raises
    ------
    SplitError
        The split has no track with features.
    SchemaError
        A part is damaged.
    StorageError
        This node's disk has no room for the features.
    """
    (found,) = feature_sets(features_uri, [feature_rows(features_uri, catalogue, split, augment)])
    # In memory: who evaluates goes through them more than once.
    held: dict[str, Any] = {name: list(getattr(found, name)) for name in COLUMNS.values()}
    return replace(found, **held)


COLUMNS = {
    "track_id": "track_ids",
    "view": "views",
    "genre": "genres",
    "tags": "tags",
    "tags_known": "tags_known",
    "group": "groups",
}
"""Columns of `feature_rows`, and what a feature set calls them."""


def feature_rows(
    features_uri: str,
    catalogue: pl.DataFrame,
    split: str,
    augment: AugmentConfig | None = None,
    planned: pl.DataFrame | None = None,
) -> pa.Table:
    """Return which rows of the shards a split's features are, and their labels; see `read_feature_set`.

    Parameters
    ----------
    planned
        The catalogue that the views were planned by, where `catalogue` has other splits. A view that sounds another
        split's track, too, is left out.
    """
    facts = shard_facts(features_uri)
    output = OutputDirectory(Store.open(features_uri), "features")
    chosen = catalogue.filter(pl.col("split") == split)
    items = clean_items(chosen) if augment is None else _planned_items(chosen, augment, planned)
    where = _made(output, items, facts.fingerprint).filter(pl.col("error_code").is_null())
    if where.is_empty():
        raise SplitError(
            f"no track of split '{split}' has features in '{features_uri}'",
            "check the split names in the catalogue, and that `mgc extract` ran over this catalogue",
        )
    rows = _labelled(items, chosen).join(where.select(*ITEM, "part"), on=ITEM).sort(ITEM)
    table = rows.select(*COLUMNS, "part").to_arrow()
    return table.replace_schema_metadata({FEATURES_KEY: facts.model_features.model_dump_json()})


def _planned_items(chosen: pl.DataFrame, augment: AugmentConfig, planned: pl.DataFrame | None) -> pl.DataFrame:
    if planned is None:
        return plan_items(chosen, augment)
    ids = chosen["track_id"].implode()
    items = plan_items(planned, augment)
    return items.filter(pl.col("track_id").is_in(ids), pl.col("partner_id").is_in(ids).fill_null(True))


def feature_sets(
    features_uri: str, tables: Sequence[pa.Table], statistics_uri: str | None = None
) -> list[FeatureSet]:
    """Return the features of several `feature_rows`, from one pass over the shards.

    The columns of the tables stay where they are: mapped, they take no memory.

    Parameters
    ----------
    statistics_uri
        Of statistics made from these rows, which then stand in the place of log-mels: shape (n_windows, 1, size).

    Raises
    ------
    SchemaError
        A row has no statistics there.
    """
    output = OutputDirectory(Store.open(features_uri), "features")
    keys = [frame_of(rows.select(KEY)) for rows in tables]
    if statistics_uri is not None:
        output = OutputDirectory(Store.open(statistics_uri), "statistics")
        where = newest_index(output).filter(pl.col("error_code").is_null()).select(KEY)
        keys = [key.select(ITEM).join(where, on=ITEM, how="left", maintain_order="left") for key in keys]
        if any(key["part"].null_count() for key in keys):
            raise SchemaError(
                f"'{statistics_uri}' lacks statistics of some tracks", "start the command again: they are made anew"
            )
    mapped = map_log_mels(output, pl.concat(keys))
    ends = np.cumsum([key.height for key in keys])
    found = [
        _feature_set(rows, mapped, slice(end - rows.num_rows, end)) for rows, end in zip(tables, ends, strict=True)
    ]
    return [replace(one, of_statistics=statistics_uri is not None) for one in found]


def _feature_set(rows: pa.Table, mapped: MappedRows, place: slice) -> FeatureSet:
    features = FeatureConfig.model_validate(json_object(rows.schema.metadata[FEATURES_KEY]))
    columns: dict[str, Any] = {name: ArrowColumn(rows[column]) for column, name in COLUMNS.items()}
    return FeatureSet(
        log_mels=mapped.log_mels[place],
        features=features,
        feature_fingerprint=features.fingerprint(),
        finite=mapped.finite[place],
        **columns,
    )


class ArrowColumn(Sequence[Any]):
    """A column of an Arrow table as Python's values, each made when it is asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at: Any) -> Any:
        """Return the value at a place; at a slice, a list."""
        return self._column[at].to_pylist() if isinstance(at, slice) else self._column[at].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), VALUES_AT_ONCE):
            yield from self[start : start + VALUES_AT_ONCE]


def require_views(features_uri: str, catalogue: pl.DataFrame, augment: AugmentConfig) -> None:
    """Check that the shards have every view that the settings want to train on.

    Raises
    ------
    SchemaError
        Of some view they have nothing made with these settings.
    """
    items = plan_items(catalogue.filter(pl.col("split") == "train"), augment)
    output = OutputDirectory(Store.open(features_uri), "features")
    made = _made(output, items, shard_facts(features_uri).fingerprint)
    missing = sorted(set(items["view"]) - set(made["view"]) - {CLEAN})
    if missing:
        raise SchemaError(
            f"augment.views wants {', '.join(missing)}, but '{features_uri}' has none made with these settings",
            "run `mgc extract` with the same [augment] settings first",
        )


def with_stored_features(items: Slices, features_uri: str, features: FeatureConfig) -> Slices:
    """Return items (schema PLAN, clean views) with the shard of each whose features are there, of the same content.

    Parameters
    ----------
    features
        Those wanted (`FeatureConfig.for_model`). Where they are not computed from audio, failed rows count, too.

    Raises
    ------
    FingerprintError
        The shards were made with other features.
    SchemaError
        There are no shards; or features that are not computed from audio are not there for every item.
    """
    facts = shard_facts(features_uri)
    if facts.model_features.fingerprint() != features.fingerprint():
        raise FingerprintError(
            f"'{features_uri}' holds features {facts.model_features.fingerprint()}, the bundle was trained on "
            f"{features.fingerprint()}",
            "give shards that the bundle was trained on, or leave --features out: the audio is decoded",
        )
    output = OutputDirectory(Store.open(features_uri), "features")
    commits = output.commits()

    def read(span: Span) -> pl.DataFrame:
        wanted = items.read(span)
        made = _made_as_wanted(newest_index(output, commits, span), wanted, facts.fingerprint)
        if features.from_audio:
            made = made.filter(pl.col("error_code").is_null())
        return _with_parts(wanted, made)

    stored = Slices(items.spans, read)
    if not features.from_audio:
        counts = [(rows.height, rows["features_part"].null_count()) for rows in map(read, items.spans)]
        total, missing = map(sum, zip(*counts, strict=True))
        if missing:
            raise SchemaError(
                f"{missing:,} of {total:,} tracks have no features in '{features_uri}', and this bundle takes "
                "none from audio",
                "run `mgc import-mels` over the same catalogue first",
            )
    return stored


def stored_results(features_uri: str, items: pl.DataFrame) -> dict[str, TrackResult]:
    """Return what the shards named by items (`features_part`) hold of their clean views, by track."""
    output = OutputDirectory(Store.open(features_uri), "features")
    wanted = items.select(*ITEM, pl.col("features_part").alias("part"))
    columns = ["duration_seconds", *SHAPE, "log_mel", *(field.name for field in ERROR_FIELDS)]
    rows = (row for table in current_rows(output, wanted, columns) for row in table.to_pylist())
    return {row["track_id"]: _stored_result(row) for row in rows}


def items_with_features(features_uri: str, catalogue: pl.DataFrame, augment: AugmentConfig) -> pl.DataFrame:
    """Return the items of a catalogue (schema PLAN) whose features are in shards, with the part of each."""
    items = plan_items(catalogue, augment)
    output = OutputDirectory(Store.open(features_uri), "features")
    made = _made(output, items, shard_facts(features_uri).fingerprint).filter(pl.col("error_code").is_null())
    return _with_parts(items, made).drop_nulls("features_part")


def _with_parts(items: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """Return items with the shard of each that index rows name."""
    where = made.select(*ITEM, pl.col("part").alias("features_part"))
    return items.drop("features_part").join(where, on=ITEM, how="left", maintain_order="left").select(items.columns)


def _stored_result(row: Mapping[str, Any]) -> TrackResult:
    if row["error_code"] is not None:
        return TrackError(TrackCode(row["error_code"]), Stage(row["error_stage"]), row["error_message"])
    return TrackFeatures({"log_mel": frames_from(row, "log_mel")}, row["duration_seconds"], ())


def _made(output: OutputDirectory, items: pl.DataFrame, fingerprint: str) -> pl.DataFrame:
    """Return the index rows of items that were made as they are wanted now, failed ones included."""
    return _made_as_wanted(newest_index(output), items, fingerprint)


def _made_as_wanted(index: pl.DataFrame, items: pl.DataFrame, fingerprint: str) -> pl.DataFrame:
    made = index.filter(pl.col("fingerprint") == fingerprint)
    return made.join(items, on=[*ITEM, "content_id", "recipe"], how="semi")


def _labelled(items: pl.DataFrame, tracks: pl.DataFrame) -> pl.DataFrame:
    """Return items with the labels that are true of them: of an overlay, those of both its tracks."""
    other = tracks.select(
        pl.col("track_id").alias("partner_id"),
        pl.col("tags").alias("partner_tags"),
        pl.col("tags_known").alias("partner_known"),
    )
    both = items.join(other, on="partner_id", how="left")
    return both.with_columns(
        tags=pl.when(pl.col("partner_id").is_null())
        .then("tags")
        .otherwise(pl.col("tags").list.set_union("partner_tags").list.sort()),
        tags_known=pl.col("tags_known") & pl.col("partner_known").fill_null(True),
    )


def failed_tracks(features_uri: str, catalogue: pl.DataFrame, split: str) -> pl.DataFrame:
    """Return the split's tracks whose extraction failed: track_id, error_code, genre, group."""
    output = OutputDirectory(Store.open(features_uri), "features")
    chosen = catalogue.filter(pl.col("split") == split)
    failed = current_index(output, chosen).filter(pl.col("error_code").is_not_null())
    return failed.select("track_id", "error_code").join(chosen.select("track_id", "genre", "group"), on="track_id")


def feature_schema(config: FeatureConfig) -> pa.Schema:
    """Return the schema of shards made with these settings.

    A `large_binary` column for each further per-frame feature: float32, C order, shape (n_windows, n_frames, rows);
    the field's metadata names the rows and the unit. And `statistics`, whose values the schema's metadata names
    (`mgc.statistics_names`, JSON).
    """
    names = statistics_names(config)
    facts = {STATISTICS_NAMES: json.dumps(names)} if names else {}
    schema = marked("features", fingerprint=config.fingerprint(), feature_config=config.model_dump_json(), **facts)
    for name in further_features(config):
        about = {ROWS_KEY: json.dumps(row_names(name, config)).encode(), UNIT_KEY: UNITS[name].encode()}
        schema = schema.append(pa.field(name, pa.large_binary(), metadata=about))
    return schema.append(pa.field(STATISTICS, pa.list_(pa.float32()))) if names else schema


def further_features(config: FeatureConfig) -> tuple[str, ...]:
    """Return the features that are kept frame by frame beside the log-mel."""
    return tuple(name for name in config.frames if name != "log_mel")


def column_values(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, object]:
    """Return what a row of `feature_schema` holds of a track's arrays; without any, its columns are null."""
    return {name: array if name == STATISTICS else array.data for name, array in arrays.items()}


def frames_from(row: Mapping[str, Any], feature: str) -> npt.NDArray[Any]:
    """Return a per-frame feature of a row of a shard, shape (n_windows, n_frames, rows)."""
    dtype = "<f2" if feature == "log_mel" else "<f4"
    return np.frombuffer(row[feature], dtype=dtype).reshape(row["n_windows"], row["n_frames"], -1)
