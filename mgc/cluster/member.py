"""One member of the ensemble: a Ray Train run of its own, a checkpoint an epoch.

The run's name follows from everything that decides the weights, so the same command, given again after a kill,
goes on from the last checkpoint; a worker that dies is replaced by Ray Train and goes on from there too.
Nothing is lost but the epoch in flight.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from mgc.catalogue.index import read_catalogue
from mgc.catalogue.splits import UNLISTED
from mgc.config import Config, ModelConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import SplitError
from mgc.models.bundle import load_bundle
from mgc.models.published_weights import start_model
from mgc.storage.store import Store
from mgc.tables.feature_shards import FeatureSet, read_feature_set
from mgc.training.assemble import distillation_labels
from mgc.training.loop import EpochReport, fit
from mgc.training.losses import LabelWeights
from mgc.training.state import TrainingState

STATE_FILE = "state.bin"
HISTORY_FILE = "history.json"
Epochs = list[dict[str, Any]]
"""A member's epochs, as `EpochReport` names their figures."""


@dataclass(frozen=True)
class MemberCheckpoint:
    """What a checkpoint holds."""

    state: TrainingState
    history: Epochs


@dataclass(frozen=True)
class MemberSetup:
    """All that a Ray Train worker needs to know; plain values, so that it can travel."""

    member: int
    model: ModelConfig
    catalogue_uri: str
    features_uri: str
    config: Config
    taxonomy: Taxonomy
    threads: int
    teacher_uri: str | None = None


def progress_key(key: str, member: int) -> str:
    """Return where a member writes its epochs, for the driver to read."""
    return f"progress/{key}-member-{member}.json"


def fit_member(setup: MemberSetup, work_uri: str, key: str, use_gpu: bool) -> ray.train.Result:
    """Fit one member on the cluster, and wait for it."""
    training = setup.config.training
    place = Store.open(work_uri).arrow_filesystem()
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={"setup": setup, "work_uri": work_uri, "progress_key": progress_key(key, setup.member)},
        scaling_config=ScalingConfig(
            num_workers=training.workers_per_member,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": setup.threads, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name=f"{key}-member-{setup.member}",
            storage_path=place.path,
            storage_filesystem=place.filesystem,
            failure_config=FailureConfig(max_failures=training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    return trainer.fit()


def _train_loop(loop_config: dict[str, Any]) -> None:
    """Fit one member inside a Ray Train worker, reporting each epoch with its checkpoint."""
    setup: MemberSetup = loop_config["setup"]
    training = setup.config.training
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(setup.threads)
    catalogue = read_training_rows(setup.catalogue_uri, setup.config, distilling=setup.teacher_uri is not None)
    train = read_feature_set(setup.features_uri, catalogue, "train", setup.config.augment)
    valid = read_optional(setup.features_uri, catalogue, "valid")
    start: TrainingState | None = None
    history: Epochs = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        saved = read_checkpoint(checkpoint)
        start, history = saved.state, saved.history
    seed = training.seed + 1_000 * setup.member
    torch.manual_seed(seed)
    taxonomy = setup.taxonomy
    model = start_model(setup.model, train.features, taxonomy)

    def on_epoch(report: EpochReport, state: TrainingState) -> None:
        if rank:
            ray.train.report({"epoch": report.epoch})
            return
        history.append(asdict(report))
        _report(report, state, history)
        progress = json.dumps(history).encode()
        Store.open(loop_config["work_uri"]).write_atomic(loop_config["progress_key"], progress)

    fit(
        model,
        train,
        valid,
        taxonomy,
        training.for_member(setup.member),
        seed=seed,
        device=str(get_device()),
        start=start,
        on_epoch=on_epoch,
        wrap=prepare_model if world > 1 else lambda module: module,
        shard=(rank, world),
        soft_labels=_soft_labels(setup, train),
    )


def _soft_labels(setup: MemberSetup, train: FeatureSet) -> LabelWeights | None:
    """Return what the teacher says of the tracks; asked again after a restart, it says the same."""
    if setup.teacher_uri is None:
        return None
    teacher, share = load_bundle(setup.teacher_uri), setup.config.distill.teacher_share
    return distillation_labels(teacher, train, setup.config.training, share, str(get_device()))


def read_training_rows(catalogue_uri: str, config: Config, *, distilling: bool) -> pl.DataFrame:
    """Return the catalogue, where a teacher may say so with the tracks of split 'unlisted' in split 'train'."""
    catalogue = read_catalogue(catalogue_uri)
    if not (distilling and config.distill.unlisted):
        return catalogue
    return catalogue.with_columns(split=pl.col("split").replace(UNLISTED, "train"))


def read_optional(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet | None:
    """Return the features of a split, or None where it has none."""
    try:
        return read_feature_set(features_uri, catalogue, split)
    except SplitError:
        return None


def _report(report: EpochReport, state: TrainingState, history: Epochs) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(state.to_bytes())
        Path(folder, HISTORY_FILE).write_text(json.dumps(history), encoding="utf-8")
        ray.train.report({"epoch": report.epoch}, checkpoint=Checkpoint.from_directory(folder))


def read_checkpoint(checkpoint: Checkpoint) -> MemberCheckpoint:
    """Return what a member saved."""
    with checkpoint.as_directory() as folder:
        state = TrainingState.from_bytes(Path(folder, STATE_FILE).read_bytes())
        history = json.loads(Path(folder, HISTORY_FILE).read_text(encoding="utf-8"))
    return MemberCheckpoint(state, history)
