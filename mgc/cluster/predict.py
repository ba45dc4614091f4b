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
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.reader import AudioFeatureReader, ItemFeatures
from mgc.cluster.run import RunOptions, RunOutcome, run_incrementally
from mgc.cluster.runtime import RaySession
from mgc.config import Config, TaggingConfig
from mgc.errors import Stage, TrackCode, TrackError
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
            predictions = iter(self._predict([item for item in extracted if item.track is not None]))
        now = datetime.now(UTC)
        made = []
        for row, item in zip(rows.to_pylist(), extracted, strict=True):
            answer = next(predictions) if item.track is not None else None
            outcome = ItemFeatures(None, answer) if isinstance(answer, TrackError) else item
            prediction = answer if isinstance(answer, TrackPrediction) else None
            made.append(self._row(row, outcome, prediction, now))
        return pa.Table.from_pylist(made, schema=self._schema)

    def _predict(self, extracted: list[ItemFeatures]) -> list[TrackPrediction | TrackError]:
        log_mels = [item.track.log_mel for item in extracted if item.track is not None]
        try:
            return list(self._predictor.predict(log_mels))
        except (RuntimeError, ValueError) as error:
            # One forward pass serves many tracks; alone, only the track at fault fails.
            if len(log_mels) == 1:
                return [TrackError(TrackCode.PREDICT_FAILED, Stage.PREDICT, str(error).splitlines()[0])]
            return [answer for item in extracted for answer in self._predict([item])]

    def _row(
        self, row: dict[str, Any], extracted: ItemFeatures, prediction: TrackPrediction | None, now: datetime
    ) -> dict[str, Any]:
        return {
            "track_id": row["track_id"],
            "uri": row["uri"],
            "content_id": row["content_id"],
            "duration_seconds": extracted.track.duration_seconds if extracted.track else None,
            **answer_columns(prediction, self._taxonomy),
            **extracted.error_columns(),
            "bundle_fingerprint": self._fingerprint,
            "run_id": self._run.run_id,
            "sequence": self._run.sequence,
            "tagged_at": now,
            "deleted_at": None,
        }
