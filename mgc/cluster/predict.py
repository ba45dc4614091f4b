"""Batch inference over a catalogue: one prediction row a track."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from mgc.audio.features.filter_banks import FilterBanks, filter_banks
from mgc.audio.track_features import TrackFeatures, TrackResult
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.reader import AudioFeatureReader
from mgc.cluster.run import RunOptions, RunOutcome, run_incrementally
from mgc.cluster.runtime import RaySession
from mgc.config import Config, TaggingConfig
from mgc.errors import TrackError
from mgc.inference.predictor import Predictor, TrackPrediction, answer_columns
from mgc.models.bundle import Bundle, load_bundle
from mgc.models.bundle_files import require_audio
from mgc.storage.store import Store
from mgc.tables.deletions import DeletionRule
from mgc.tables.publish import publish
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import marked
from mgc.tables.work_items import clean_items


def tag_catalogue(
    catalogue: pl.DataFrame,
    bundle_uri: str,
    output_uri: str,
    config: Config,
    options: RunOptions,
    on_progress: Callable[[ChunkProgress], None] = lambda _: None,
) -> RunOutcome:
    """Tag what is new, changed or made by another bundle; mark what is gone; publish `current` and `history`.

    The features are those of the bundle, whatever the settings say: a bundle is only right on its own.

    Raises
    ------
    FingerprintError
        The bundle was trained on features that are not computed from audio.
    """
    bundle = load_bundle(bundle_uri)
    require_audio(bundle.features, bundle.uri)
    output = OutputDirectory(Store.open(output_uri), "predictions")
    # Absolute: an actor on a cluster that was joined has another working directory.
    spec = PredictSpec(
        Store.open(bundle_uri).uri(),
        bundle.fingerprint,
        config.model_copy(update={"features": bundle.features}),
        filter_banks(bundle.features),
    )
    options = replace(
        options,
        gpus_per_worker=lambda session, workers: _gpu_share(config.tagging, session, workers),
        deletions=options.deletions or DeletionRule(config.tagging.ask_deleted_fraction),
        publish=publish,
    )
    items = clean_items(catalogue)
    return run_incrementally(output, items, spec, bundle.fingerprint, config, options, on_progress=on_progress)


def _gpu_share(config: TaggingConfig, session: RaySession, workers: int) -> float:
    if config.use_gpu == "never" or not session.n_gpus:
        return 0.0
    return min(1.0, session.n_gpus / workers)


@dataclass(frozen=True)
class PredictSpec:
    """What an actor needs to tag."""

    bundle_uri: str
    bundle_fingerprint: str
    config: Config
    banks: FilterBanks | None = None
    """Of the bundle's features."""

    def start(self, run: OutputRun) -> PredictWorker:
        """Return the actor's worker, the ensemble loaded."""
        # One thread an actor: the pool has one actor a CPU, and more threads would fight for it.
        torch.set_num_threads(1)
        return PredictWorker(self, load_bundle(self.bundle_uri), run)


class PredictWorker:
    """Items (clean views) in, prediction rows out."""

    def __init__(self, spec: PredictSpec, bundle: Bundle, run: OutputRun) -> None:
        self._reader = AudioFeatureReader(spec.config, spec.banks)
        device = "cuda" if torch.cuda.is_available() and spec.config.tagging.use_gpu != "never" else "cpu"
        tagging = spec.config.tagging
        self._predictor = Predictor(bundle, device, tagging.batch_windows, tagging.tag_threshold)
        # One chunk at a time on the device, while the next one is heard.
        self._forward = threading.Lock()
        self._run = run
        self._taxonomy = bundle.taxonomy
        self._fingerprint = bundle.fingerprint
        self._schema = marked("predictions", fingerprint=bundle.fingerprint)

    def process(self, rows: pa.Table) -> pa.Table:
        """Return one prediction row for each item."""
        extracted = list(self._reader.read(rows))
        with self._forward:
            log_mels = [features.log_mel for features in extracted if isinstance(features, TrackFeatures)]
            predicted = iter(self._predictor.predict_each(log_mels))
        now = datetime.now(UTC)
        made = []
        for row, features in zip(rows.to_pylist(), extracted, strict=True):
            outcome = features if isinstance(features, TrackError) else next(predicted)
            made.append(self._row(row, features, outcome, now))
        return pa.Table.from_pylist(made, schema=self._schema)

    def _row(
        self, row: dict[str, Any], features: TrackResult, outcome: TrackPrediction | TrackError, now: datetime
    ) -> dict[str, Any]:
        return {
            "track_id": row["track_id"],
            "uri": row["uri"],
            "content_id": row["content_id"],
            "duration_seconds": _duration_seconds(features, outcome),
            **answer_columns(outcome, self._taxonomy),
            "bundle_fingerprint": self._fingerprint,
            "run_id": self._run.run_id,
            "sequence": self._run.sequence,
            "tagged_at": now,
            "deleted_at": None,
        }


def _duration_seconds(features: TrackResult, outcome: TrackPrediction | TrackError) -> float | None:
    if isinstance(features, TrackError) or isinstance(outcome, TrackError):
        return None
    return features.duration_seconds
