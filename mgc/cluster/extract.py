"""Feature extraction over a catalogue: one row a (track, view) into Parquet shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import polars as pl
import pyarrow as pa

from mgc.audio.decode.source import RemoteBytes
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.mel_array import read_mels
from mgc.audio.track_features import TrackResult
from mgc.catalogue.index import read_catalogue, slices_of
from mgc.cluster.reader import AudioFeatureReader, Fetcher, FileRef
from mgc.cluster.run import CatalogueJob, RunOptions, RunOutcome, run_incrementally
from mgc.config import Config
from mgc.config.view_settings import parse_view
from mgc.errors import ConfigError, TrackError, error_columns
from mgc.storage.store import Store
from mgc.tables.feature_shards import column_values, feature_schema
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import CATALOGUE
from mgc.tables.slices import Slices
from mgc.tables.work_items import clean_items, plan_items


def extract_features(
    catalogue: pl.DataFrame | str,
    output_uri: str,
    config: Config,
    options: RunOptions,
) -> RunOutcome:
    """Extract what `catalogue` has and the shards in `output_uri` do not; return what was done.

    Parameters
    ----------
    catalogue
        In memory; or where it is: then it is read a slice at a time, unless views are wanted, whose partners and
        balance are decided over all of it.

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
    make_reader = partial(AudioFeatureReader, banks=filter_banks(config.features))
    if any(parse_view(name).kinds for name in config.augment.views):
        tracks = read_catalogue(catalogue) if isinstance(catalogue, str) else catalogue
        items = Slices.of(plan_items(tracks, config.augment))
    else:
        items = _clean(catalogue)
    return _run(output_uri, items, config, make_reader, options)


def _clean(catalogue: pl.DataFrame | str) -> Slices:
    (tracks,) = slices_of(catalogue, CATALOGUE.names)
    return tracks.changed(clean_items)


def _run(
    output_uri: str,
    items: Slices,
    config: Config,
    make_reader: Callable[[Config], AudioFeatureReader | MelReader],
    options: RunOptions,
) -> RunOutcome:
    job = CatalogueJob(
        output=OutputDirectory(Store.open(output_uri), "features"),
        items=items,
        fingerprint=config.features.fingerprint(),
        make_worker=partial(ExtractWorker, config, make_reader),
        config=config,
    )
    return run_incrementally(job, options)


class ExtractWorker:
    """Items in, feature rows out.

    Parameters
    ----------
    config
        All settings.
    make_reader
        Of the settings, what turns items into features: by default what decodes audio.
    """

    def __init__(
        self, config: Config, make_reader: Callable[[Config], AudioFeatureReader | MelReader] = AudioFeatureReader
    ) -> None:
        self._reader = make_reader(config)
        self._schema = feature_schema(config.features)

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        """Return one feature row for each item; nothing of the run is in them."""
        made = [
            _feature_row(row, features)
            for row, features in zip(rows.to_pylist(), self._reader.read(rows), strict=True)
        ]
        return pa.Table.from_pylist(made, schema=self._schema)


def _feature_row(row: dict[str, object], result: TrackResult) -> dict[str, object]:
    kept = {name: row[name] for name in ("track_id", "view", "recipe", "uri", "content_id")}
    if isinstance(result, TrackError):
        shape = {"n_windows": 0, "n_frames": 0, "n_mels": 0}
        return {**kept, "duration_seconds": None, "note": None, **shape, **column_values({}), **error_columns(result)}
    shape = dict(zip(("n_windows", "n_frames", "n_mels"), result.log_mel.shape, strict=True))
    made = {"duration_seconds": result.duration_seconds, "note": result.note, **shape, **column_values(result.arrays)}
    return {**kept, **made, **error_columns(None)}


# Precomputed mel spectrograms.


def import_mel_arrays(
    catalogue: pl.DataFrame | str,
    output_uri: str,
    config: Config,
    options: RunOptions,
) -> RunOutcome:
    """Import the `.npy` files that `catalogue` has and the shards in `output_uri` do not; return what was done.

    The shards' feature settings are `config.features` with the source that `config.mels` describes: by its
    fingerprint a model trained on them differs from one trained on audio, unless `mels.like_audio` says that audio
    gives the same.
    """
    settings = config.model_copy(
        update={"features": config.features.for_model().model_copy(update={"source": config.mels.describe()})}
    )
    return _run(output_uri, _clean(catalogue), settings, MelReader, options)


class MelReader:
    """Reads the arrays of catalogue rows, one result a row, in order."""

    def __init__(self, config: Config) -> None:
        # An array is read whole or not at all: no ranges of it.
        whole = config.decode.model_copy(update={"whole_file_bytes": config.decode.max_file_bytes})
        self._fetcher = Fetcher(config.cluster, whole)
        self._config = config

    def read(self, rows: pa.Table) -> Iterator[TrackResult]:
        """Yield what became of each row's array."""
        files = map(FileRef, *(rows[name].to_pylist() for name in ("uri", "content_id", "track_id", "size_bytes")))
        return map(self._read, self._fetcher.fetch(list(files)))

    def _read(self, fetched: bytes | RemoteBytes | TrackError) -> TrackResult:
        if isinstance(fetched, TrackError):
            return fetched
        assert isinstance(fetched, bytes), "an array is read whole"
        try:
            return read_mels(fetched, self._config.features, self._config.mels).as_stored()
        except TrackError as error:
            return error
