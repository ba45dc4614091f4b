"""The columns of feature shards beside the log-mel: further features and statistics, where they were asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mgc.audio.features.feature_rows import UNITS, row_names, statistics_names
from mgc.config import FeatureConfig
from mgc.tables.schema import marked

ROWS_KEY = b"mgc.rows"
UNIT_KEY = b"mgc.unit"
STATISTICS = "statistics"
STATISTICS_NAMES = "statistics_names"


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
