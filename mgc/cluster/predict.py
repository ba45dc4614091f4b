"""Batch inference over a catalogue: one prediction row a track."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from mgc.audio.features.filter_banks import FilterBanks, filter_banks
from mgc.audio.track_features import TrackFeatures, TrackResult
from mgc.catalogue.index import slices_of
from mgc.cluster.reader import AudioFeatureReader, StoredFeatureReader
from mgc.cluster.run import CatalogueJob, RunOptions, RunOutcome, run_incrementally
from mgc.cluster.runtime import RaySession
from mgc.config import Config
from mgc.errors import TrackError
from mgc.inference.predictor import Predictor, TrackPrediction, answer_columns
from mgc.models.bundle import load_bundle
from mgc.models.bundle_files import require_audio
from mgc.storage.store import Store
from mgc.tables.deletions import DeletionRule
from mgc.tables.feature_shards import with_stored_features
from mgc.tables.publish import CatalogueUris, open_current, publish
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import CATALOGUE, marked
from mgc.tables.work_items import clean_items


def tag_catalogue(
    catalogue: pl.DataFrame | str,
    bundle_uri: str,
    output_uri: str,
    config: Config,
    options: RunOptions,
    features_uri: str | None = None,
) -> RunOutcome:
    """Tag what is new, changed or made by another bundle; mark deleted tracks; publish `current` and `history`.

    The features are those of the bundle, whatever `[features]` is: a bundle is only right on its own.

    Parameters
    ----------
    catalogue
        In memory; or where it is: then it is read a slice at a time.
    features_uri
        Shards of `mgc extract` or `mgc import-mels`: tracks that have features there are neither fetched nor decoded.

    Raises
    ------
    FingerprintError
        The bundle was trained on features that are not computed from audio, and there are no shards; or on others
        than those of the shards.
    SchemaError, StorageError
        The output holds another table, or cannot hold this one: see `open_current`.
    """
    bundle = load_bundle(bundle_uri)
    tracks, uris = slices_of(catalogue, CATALOGUE.names, ["track_id", "uri"])
    items = tracks.changed(clean_items)
    if features_uri is None:
        require_audio(bundle.features, bundle.uri)
    else:
        items = with_stored_features(items, features_uri, bundle.features)
        features_uri = Store.open(features_uri).uri()
    own = config.model_copy(update={"features": bundle.features})
    tagging = config.tagging
    output = OutputDirectory(Store.open(output_uri), "predictions")
    open_current(output.store)  # what could not be published after hours is refused now
    job = CatalogueJob(
        output=output,
        items=items,
        fingerprint=bundle.fingerprint,
        make_worker=partial(
            # Its URI is absolute: an actor on a cluster that was joined has another working directory.
            PredictWorker,
            bundle.uri,
            bundle.fingerprint,
            own,
            filter_banks(own.features),
            features_uri,
        ),
        config=config,
        gpus_per_worker=partial(gpu_share, tagging.use_gpu),
        deletions=DeletionRule(tagging.ask_deleted_fraction, options.accept_deletions, options.confirm_deletions),
        publish=partial(publish, uris=CatalogueUris(uris)),
    )
    return run_incrementally(job, options)


def gpu_share(use_gpu: str, session: RaySession, workers: int) -> float:
    """Return the share of a GPU that each actor of the pool gets."""
    if use_gpu == "never" or not session.n_gpus:
        return 0.0
    return min(1.0, session.n_gpus / workers)


class PredictWorker:
    """Items (clean views) in, prediction rows out.

    Parameters
    ----------
    bundle_uri
        Absolute.
    fingerprint
        Of the bundle that the run began with: rows are recorded under it.
    config
        All settings; the features are the bundle's.
    banks
        Filter banks of these features; None: made here.
    features_uri
        Shards that hold the features of items which name them; None: all are decoded.

    Raises
    ------
    FingerprintError
        Another bundle is there now.
    """

    def __init__(
        self,
        bundle_uri: str,
        fingerprint: str,
        config: Config,
        banks: FilterBanks | None = None,
        features_uri: str | None = None,
    ) -> None:
        # First: its decoding child imports its libraries while the ensemble is loaded.
        self._reader = (
            StoredFeatureReader(features_uri, config, banks) if features_uri else AudioFeatureReader(config, banks)
        )
        # One thread an actor: the pool has one actor a CPU, and more threads would fight for it.
        torch.set_num_threads(1)
        bundle = load_bundle(bundle_uri, fingerprint)
        tagging = config.tagging
        device = "cuda" if torch.cuda.is_available() and tagging.use_gpu != "never" else "cpu"
        self._predictor = Predictor(bundle, device, tagging.batch_windows, tagging.tag_threshold)
        # One chunk at a time on the device, while the next one is decoded.
        self._forward = threading.Lock()
        self._taxonomy = bundle.taxonomy
        self._fingerprint = bundle.fingerprint
        self._schema = marked("predictions", fingerprint=bundle.fingerprint)

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        """Return one prediction row for each item."""
        extracted = list(self._reader.read(rows))
        with self._forward:
            log_mels = [features.log_mel for features in extracted if isinstance(features, TrackFeatures)]
            predicted = iter(self._predictor.predict_each(log_mels))
        stamp = {"run_id": run.run_id, "sequence": run.sequence, "tagged_at": datetime.now(UTC), "deleted_at": None}
        made = []
        for row, features in zip(rows.to_pylist(), extracted, strict=True):
            outcome = features if isinstance(features, TrackError) else next(predicted)
            made.append(self._row(row, features, outcome) | stamp)
        return pa.Table.from_pylist(made, schema=self._schema)

    def _row(
        self, row: dict[str, Any], features: TrackResult, outcome: TrackPrediction | TrackError
    ) -> dict[str, Any]:
        return {
            "track_id": row["track_id"],
            "uri": row["uri"],
            "content_id": row["content_id"],
            **_file_columns(features, outcome),
            **answer_columns(outcome, self._taxonomy),
            "bundle_fingerprint": self._fingerprint,
        }


def _file_columns(features: TrackResult, outcome: TrackPrediction | TrackError) -> dict[str, Any]:
    if isinstance(features, TrackError) or isinstance(outcome, TrackError):
        return {"duration_seconds": None, "note": None}
    return {"duration_seconds": features.duration_seconds, "note": features.note}
