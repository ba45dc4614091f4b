"""Precomputed mel spectrograms over a catalogue of `.npy` files: one row a track into Parquet shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from mgc.audio.mel_array import read_mels
from mgc.audio.sandbox.supervisor import ExtractedFeatures
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.extract import ExtractSpec
from mgc.cluster.fetch import Fetched, Fetcher
from mgc.cluster.reader import ItemFeatures
from mgc.cluster.run import RunOptions, RunOutcome, run_incrementally
from mgc.config import Config
from mgc.errors import TrackError
from mgc.storage.store import Store
from mgc.tables.run_log import OutputDirectory
from mgc.tables.work_items import clean_items


def import_mel_arrays(
    catalogue: pl.DataFrame,
    output_uri: str,
    config: Config,
    options: RunOptions,
    on_progress: Callable[[ChunkProgress], None] = lambda _: None,
) -> RunOutcome:
    """Import what `catalogue` has and the shards in `output_uri` do not; return what was done.

    The shards' feature settings are `config.features` with the source that `config.mels` describes: a model
    trained on them is told apart from one that heard audio, by fingerprint, unless `mels.like_audio` says that
    audio gives the same.
    """
    settings = config.model_copy(
        update={"features": config.features.for_model().model_copy(update={"source": config.mels.describe()})}
    )
    output = OutputDirectory(Store.open(output_uri), "features")
    spec = ExtractSpec(settings, MelReader)
    items = clean_items(catalogue)
    return run_incrementally(output, items, spec, spec.fingerprint, settings, options, on_progress=on_progress)


class MelReader:
    """Reads the arrays of catalogue rows, one result a row, in order."""

    def __init__(self, config: Config) -> None:
        # An array is read whole or not at all: no ranges of it.
        whole = config.decode.model_copy(update={"whole_file_bytes": config.decode.max_file_bytes})
        self._fetcher = Fetcher(config.cluster, whole)
        self._config = config

    def read(self, rows: pa.Table) -> Iterator[ItemFeatures]:
        """Yield what became of each row's array."""
        fetched = self._fetcher.fetch(rows["uri"].to_pylist(), rows["content_id"].to_pylist())
        return (self._read(item) for item in fetched)

    def _read(self, fetched: Fetched) -> ItemFeatures:
        if not isinstance(fetched.data, bytes):
            return ItemFeatures(None, fetched.error)
        try:
            track = read_mels(fetched.data, self._config.features, self._config.mels)
        except TrackError as error:
            return ItemFeatures(None, error)
        arrays = {"log_mel": np.ascontiguousarray(track.log_mel, "<f2")}
        return ItemFeatures(ExtractedFeatures(arrays, track.duration_seconds, track.start_seconds), None)
