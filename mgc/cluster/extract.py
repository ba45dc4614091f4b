"""Feature extraction over a catalogue: one row a (track, view) into Parquet shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from mgc.cluster.hear import Heard, Listener, TrackListener
from mgc.cluster.incremental import Outcome, RunOptions, run_incrementally
from mgc.cluster.work import Advance
from mgc.config import Config
from mgc.data.feature_columns import column_values, feature_schema
from mgc.data.items import plan_items
from mgc.data.outputs import OutputDirectory, Run
from mgc.data.storage import Store
from mgc.errors import ConfigError


def extract_features(
    catalogue: pl.DataFrame,
    output_uri: str,
    config: Config,
    options: RunOptions,
    on_advance: Callable[[Advance], None] = lambda _: None,
) -> Outcome:
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
    return run_incrementally(output, items, spec, spec.fingerprint, config, options, on_advance=on_advance)


@dataclass(frozen=True)
class ExtractSpec:
    """What an actor needs to make feature rows.

    Parameters
    ----------
    config
        All settings.
    listener
        Of the settings, what turns catalogue rows into features: by default what hears audio.
    """

    config: Config
    listener: Callable[[Config], TrackListener] = Listener

    @property
    def fingerprint(self) -> str:
        """Of the feature settings."""
        return self.config.features.fingerprint()

    def start(self, run: Run) -> ExtractWorker:
        """Return the actor's worker."""
        return ExtractWorker(self.config, self.listener)


class ExtractWorker:
    """Items in, feature rows out.

    Parameters
    ----------
    config
        All settings.
    listener
        See `ExtractSpec`.
    """

    def __init__(self, config: Config, listener: Callable[[Config], TrackListener] = Listener) -> None:
        self._listener = listener(config)
        self._schema = feature_schema(config.features)

    def process(self, rows: pa.Table) -> pa.Table:
        """Return one feature row for each item."""
        made = [
            _feature_row(row, heard) for row, heard in zip(rows.to_pylist(), self._listener.hear(rows), strict=True)
        ]
        return pa.Table.from_pylist(made, schema=self._schema)


def _feature_row(row: dict[str, object], heard: Heard) -> dict[str, object]:
    n_windows, n_frames, n_mels = heard.track.log_mel.shape if heard.track else (0, 0, 0)
    return {
        "track_id": row["track_id"],
        "view": row["view"],
        "recipe": row["recipe"],
        "uri": row["uri"],
        "content_id": row["content_id"],
        "duration_seconds": heard.track.duration_seconds if heard.track else None,
        "n_windows": n_windows,
        "n_frames": n_frames,
        "n_mels": n_mels,
        **column_values(heard.track.arrays if heard.track else {}),
        **heard.error_columns(),
    }
