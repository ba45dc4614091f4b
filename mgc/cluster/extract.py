"""Feature extraction over a catalogue: one row a (track, view) into Parquet shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.reader import AudioFeatureReader, FeatureReader, ItemFeatures
from mgc.cluster.run import RunOptions, RunOutcome, run_incrementally
from mgc.config import Config
from mgc.errors import ConfigError
from mgc.storage.store import Store
from mgc.tables.feature_shards import column_values, feature_schema
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.work_items import plan_items


def extract_features(
    catalogue: pl.DataFrame,
    output_uri: str,
    config: Config,
    options: RunOptions,
    on_progress: Callable[[ChunkProgress], None] = lambda _: None,
) -> RunOutcome:
    """Extract what `catalogue` has and the shards in `output_uri` do not; return what was done.

    Raises
    ------
    ConfigError
        `features.source` is something other than audio.
    """
    if not config.features.from_audio:
        raise ConfigError(
            f"features.source is '{config.features.source}', and `mgc extract` computes features of audio",
            "leave features.source at 'audio'; `mgc import-mels` reads mel spectrograms",
        )
    output = OutputDirectory(Store.open(output_uri), "features")
    spec = ExtractSpec(config)
    items = plan_items(catalogue, config.augment)
    return run_incrementally(output, items, spec, spec.fingerprint, config, options, on_progress=on_progress)


@dataclass(frozen=True)
class ExtractSpec:
    """What an actor needs to make feature rows.

    Parameters
    ----------
    config
        All settings.
    reader
        Of the settings, what turns catalogue rows into features: by default what hears audio.
    """

    config: Config
    reader: Callable[[Config], FeatureReader] = AudioFeatureReader

    @property
    def fingerprint(self) -> str:
        """Of the feature settings."""
        return self.config.features.fingerprint()

    def start(self, run: OutputRun) -> ExtractWorker:
        """Return the actor's worker."""
        return ExtractWorker(self.config, self.reader)


class ExtractWorker:
    """Items in, feature rows out.

    Parameters
    ----------
    config
        All settings.
    reader
        See `ExtractSpec`.
    """

    def __init__(self, config: Config, reader: Callable[[Config], FeatureReader] = AudioFeatureReader) -> None:
        self._reader = reader(config)
        self._schema = feature_schema(config.features)

    def process(self, rows: pa.Table) -> pa.Table:
        """Return one feature row for each item."""
        made = [
            _feature_row(row, features)
            for row, features in zip(rows.to_pylist(), self._reader.read(rows), strict=True)
        ]
        return pa.Table.from_pylist(made, schema=self._schema)


def _feature_row(row: dict[str, object], features: ItemFeatures) -> dict[str, object]:
    n_windows, n_frames, n_mels = features.track.log_mel.shape if features.track else (0, 0, 0)
    return {
        "track_id": row["track_id"],
        "view": row["view"],
        "recipe": row["recipe"],
        "uri": row["uri"],
        "content_id": row["content_id"],
        "duration_seconds": features.track.duration_seconds if features.track else None,
        "n_windows": n_windows,
        "n_frames": n_frames,
        "n_mels": n_mels,
        **column_values(features.track.arrays if features.track else {}),
        **features.error_columns(),
    }
