"""The ensemble's members: each a Ray Train run, side by side where resources allow, watched from the driver.

A run's name follows from everything that decides the weights, and it saves a checkpoint after every epoch. So the
same command, given again after a kill, resumes from the last checkpoint, and Ray Train replaces a worker that dies by
one that does the same. Nothing is lost but the epoch in flight.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from mgc.audio.features.filter_banks import FilterBanks, hold
from mgc.catalogue.index import read_catalogue
from mgc.catalogue.splits import UNLISTED
from mgc.cluster.runtime import RaySession, root_cause
from mgc.config import (
    AugmentConfig,
    Config,
    FeatureConfig,
    ModelConfig,
    TrainingConfig,
    fingerprint_of,
    fingerprint_of_rows,
)
from mgc.config.taxonomy import Taxonomy
from mgc.errors import FingerprintError, SplitError, StorageError, TrainingError
from mgc.models.bundle import load_bundle
from mgc.models.published_weights import start_model
from mgc.models.transfer import Norms
from mgc.storage.store import Store
from mgc.tables.feature_cache import mapped_table
from mgc.tables.feature_shards import FeatureSet, feature_rows, feature_sets, read_feature_set
from mgc.tables.run_index import ITEM, newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.training.assemble import distillation_labels, stops_training
from mgc.training.calibrate import group_folds
from mgc.training.loop import EpochReport, fit
from mgc.training.losses import LabelWeights
from mgc.training.state import TrainingState

POLL_SECONDS = 1.0
START_FAILURES = 10
"""Of a member's workers, before they fit: by default Ray Train would start workers that die at once for ever."""
START_SECONDS = "300"
"""On a cluster that is joined: how long a start waits for nodes."""
STATE_FILE, PROGRESS_FILE = "state.bin", "progress.json"
"""In a checkpoint: where a fit stands, and the figures of its epochs."""
HELD = "held"
"""Split of the tracks of a fold that is left out."""
Epochs = list[dict[str, Any]]
"""A member's epochs, as `EpochReport` names their figures."""


@dataclass(frozen=True)
class MemberCheckpoint:
    """Where a member's fit stands, and its epochs so far."""

    state: TrainingState
    history: Epochs


@dataclass(frozen=True)
class MemberSetup:
    """All that a Ray Train worker needs to know; plain values, so that it can travel."""

    member: int
    model: ModelConfig
    features_uri: str
    config: Config
    taxonomy: Taxonomy
    threads: int
    teacher_uri: str | None = None
    teacher_fingerprint: str | None = None
    published: Mapping[str, str] = field(default_factory=dict)
    """See `published_fingerprints`."""
    banks: Mapping[FeatureConfig, FilterBanks] = field(default_factory=dict)
    """Filter banks that the network is started with (`published_banks`)."""
    norms: Norms | None = None
    """Batch norms of the published network that it builds on (`adapted_norms`), the same for all folds."""
    fold: int | None = None
    """Of `training.promise_folds`: it is left out of the fit (`in_fold`)."""
    statistics_uri: str | None = None
    """Where its network's statistics of all tracks are (`mgc.cluster.statistics`); None: it makes them itself."""


def progress_key(key: str, member: int) -> str:
    """Return where a member writes its epochs, for the driver to read."""
    return f"progress/{key}-member-{member}.json"


def rows_key(key: str, split: str) -> str:
    """Return where the driver writes which rows of shards a split is, for workers to map."""
    return f"rows/{key}-{split}.arrow"


def write_rows(
    work_uri: str,
    key: str,
    features_uri: str,
    catalogue: pl.DataFrame,
    augment: AugmentConfig,
    planned: pl.DataFrame | None = None,
) -> None:
    """Write what workers read in place of the catalogue and the index: rows of the shards, and their labels.

    `planned` is as for `feature_rows`.

    Raises
    ------
    SplitError
        Split 'train' has no track with features.
    """
    for split, views in (("train", augment), ("valid", None)):
        try:
            rows = feature_rows(features_uri, catalogue, split, views, planned)
        except SplitError:
            if split == "train":
                raise
            continue
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as file:
            file.write_table(rows)
        Store.open(work_uri).write_atomic(rows_key(key, split), sink.getvalue())


def fit_member(setup: MemberSetup, work_uri: str, key: str, gpu_share: float) -> ray.train.Result:
    """Fit one member on the cluster, and wait for it."""
    training = setup.config.training
    place = Store.open(work_uri).arrow_filesystem()
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={"setup": setup, "work_uri": work_uri, "key": key},
        scaling_config=ScalingConfig(
            num_workers=training.workers_per_member,
            use_gpu=gpu_share > 0.0,
            resources_per_worker={"CPU": setup.threads, **({"GPU": gpu_share} if gpu_share else {})},
        ),
        run_config=RunConfig(
            name=f"{key}-member-{setup.member}",
            storage_path=place.path,
            storage_filesystem=place.filesystem,
            failure_config=FailureConfig(training.max_failures, controller_failure_limit=START_FAILURES),  # type: ignore[call-arg] # v1 has none
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
    work = Store.open(loop_config["work_uri"])
    train_key, valid_key = (rows_key(loop_config["key"], split) for split in ("train", "valid"))
    keys = [train_key, valid_key] if work.exists(valid_key) else [train_key]
    tables = [mapped_table(work, key) for key in keys]
    train, *others = feature_sets(setup.features_uri, tables, setup.statistics_uri)
    valid = others[0] if others else None
    if valid and setup.fold is None and training.stops_early:
        valid = valid.at(np.flatnonzero(stops_training(valid.groups, training)).tolist())
    checkpoint = ray.train.get_checkpoint()
    start, history = read_checkpoint(checkpoint) if checkpoint else (None, [])
    seed = training.seed + 1_000 * setup.member
    torch.manual_seed(seed)
    taxonomy = setup.taxonomy
    hold(setup.banks)
    model = start_model(setup.model, train.features, taxonomy, setup.published, setup.norms)

    def on_epoch(report: EpochReport, state: TrainingState) -> None:
        if rank:
            ray.train.report({"epoch": report.epoch})
            return
        history.append(asdict(report))
        with checkpoint_folder(state, history) as folder:
            ray.train.report({"epoch": report.epoch}, checkpoint=Checkpoint.from_directory(folder))
        progress = json.dumps(history).encode()
        work.write_atomic(progress_key(loop_config["key"], setup.member), progress)

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
    """Return the teacher's predictions of the tracks: the same again after a restart."""
    if setup.teacher_uri is None:
        return None
    teacher, share = load_bundle(setup.teacher_uri, setup.teacher_fingerprint), setup.config.distill.teacher_share
    return distillation_labels(teacher, train, setup.config.training, share, str(get_device()))


def read_training_rows(catalogue_uri: str, config: Config, *, distilling: bool) -> pl.DataFrame:
    """Return the catalogue; for distillation, where the settings allow it, with split 'unlisted' in split 'train'."""
    catalogue = read_catalogue(catalogue_uri)
    if not (distilling and config.distill.unlisted):
        return catalogue
    return catalogue.with_columns(split=pl.col("split").replace(UNLISTED, "train"))


def learnt(catalogue: pl.DataFrame, training: TrainingConfig) -> pl.DataFrame:
    """Return the catalogue with split 'valid' in split 'train', where the bundle's members learn from both."""
    return catalogue.with_columns(pl.col("split").replace("valid", "train")) if training.learns_valid else catalogue


def in_fold(catalogue: pl.DataFrame, fold: int, training: TrainingConfig) -> pl.DataFrame:
    """Return tracks of train and valid, parted anew: one fold of groups is `HELD`, the rest train.

    Where a member stops early, the next fold is valid.
    """
    folds = training.promise_folds
    used = catalogue.filter(pl.col("split").is_in(["train", "valid"]))
    groups = used.select(pl.when(pl.col("group") == "").then("track_id").otherwise("group").alias("group"))["group"]
    place = group_folds(groups.to_list(), folds)
    stops = (place == (fold + 1) % folds) & training.stops_early
    return used.with_columns(split=pl.Series(np.select([place == fold, stops], [HELD, "valid"], "train")))


def data_fingerprint(features_uri: str, catalogue: pl.DataFrame) -> str:
    """Return a hash of what training reads: labels and splits, and which feature row of each track is the newest.

    Driver and workers each read the data, and know by this that it is the same. Compacting shards does not change it.
    """
    used = catalogue.filter(pl.col("split").is_in(["train", "valid"]))
    labels = used.select("track_id", "content_id", "genre", "tags", "tags_known", "group", "split").sort("track_id")
    index = newest_index(OutputDirectory(Store.open(features_uri), "features"))
    rows = index.join(used.select("track_id"), on="track_id", how="semi")
    features = rows.select(*ITEM, "content_id", "recipe", "sequence", "fingerprint", "error_code").sort(ITEM)
    return fingerprint_of({"labels": fingerprint_of_rows(labels), "features": fingerprint_of_rows(features)})


def require_same_data(features_uri: str, catalogue: pl.DataFrame, fingerprint: str) -> None:
    """Refuse data that are no longer those that a run began with, once they have been read.

    Raises
    ------
    FingerprintError
        Naming both fingerprints.
    """
    found = data_fingerprint(features_uri, catalogue)
    if found != fingerprint:
        raise FingerprintError(
            f"the catalogue or the features in '{features_uri}' changed during the run: they are {found} now, "
            f"and it began with {fingerprint}",
            "start the command again when nothing else writes there",
        )


def read_optional(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet | None:
    """Return the features of a split, or None where it has none."""
    try:
        return read_feature_set(features_uri, catalogue, split)
    except SplitError:
        return None


@contextmanager
def checkpoint_folder(state: TrainingState, progress: Any) -> Iterator[str]:
    """Yield a folder that holds where a fit stands and its progress, for a checkpoint of Ray's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(state.to_bytes())
        Path(folder, PROGRESS_FILE).write_text(json.dumps(progress), encoding="utf-8")
        yield folder


def read_checkpoint(checkpoint: Checkpoint) -> tuple[TrainingState, Any]:
    """Return what `checkpoint_folder` held."""
    with checkpoint.as_directory() as folder:
        try:
            progress = json.loads(Path(folder, PROGRESS_FILE).read_text(encoding="utf-8"))
            return TrainingState.from_bytes(Path(folder, STATE_FILE).read_bytes()), progress
        except (OSError, ValueError, RecursionError) as error:
            raise TrainingError(
                f"the checkpoint at '{checkpoint.path}' cannot be read: {error}",
                "delete the training directory beside the bundle to start anew",
            ) from error


@dataclass(frozen=True)
class MemberResources:
    """How members share a cluster.

    Parameters
    ----------
    gpu_share
        Of a GPU, each of their workers'; 0: they are fitted on CPUs.
    parallel_members
        Members fitted side by side.
    threads
        torch threads of each of their workers.
    """

    gpu_share: float
    parallel_members: int
    threads: int


def member_resources(training: TrainingConfig, members: int, session: RaySession) -> MemberResources:
    """Return how many of the members the cluster's nodes hold at once, and with how many threads each.

    A worker stands on one node, so the nodes decide, not their sum: on two nodes of two CPUs no worker gets four.

    Raises
    ------
    ClusterError
        No node holds a member's workers, and no autoscaler could add one.
    """
    use_gpu = training.use_gpu == "always" or (training.use_gpu == "auto" and session.n_gpus > 0)
    gpu_share = training.gpu_share if use_gpu else 0.0
    worker = {"CPU": float(training.threads or 1), **({"GPU": gpu_share} if use_gpu else {})}
    session.require_placement(worker, training.workers_per_member, "fitting a member")
    slots = session.n_placed(worker) // training.workers_per_member
    parallel_members = min(training.members_at_once or max(1, slots), members)
    n_workers = min(parallel_members, max(1, slots)) * training.workers_per_member
    threads = training.threads or 1
    if not training.threads:
        while session.n_placed({**worker, "CPU": threads + 1.0}) >= n_workers:
            threads += 1
    return MemberResources(gpu_share, parallel_members, threads)


def fit_members(
    setups: list[MemberSetup], work_uri: str, key: str, resources: MemberResources, watcher: Watcher
) -> list[MemberCheckpoint]:
    """Fit the members and return the last checkpoint of each.

    Raises
    ------
    TrainingError
        A member failed for good; what it had is kept for the same command to go on from.
    """
    # A fit only waits for its controller actor: threads here do, where tasks would cost a process each.
    with ThreadPoolExecutor(resources.parallel_members, thread_name_prefix="member") as pool:
        fits = [pool.submit(fit_member, setup, work_uri, key, resources.gpu_share) for setup in setups]
        while wait(fits, timeout=POLL_SECONDS).not_done:
            watcher.poll()
        watcher.poll()
    return [_last_checkpoint(_result(fit)) for fit in fits]


def set_up_ray_train(session: RaySession) -> None:
    """Set what Ray Train takes from the environment of the driver and hands to its controllers."""
    # A report, so each epoch, waits for the controller's next look at its workers: by default two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if session.joined:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_SECONDS)
    else:
        # An actor a member that watches for nodes being taken away: of no use on this machine alone.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _result(fit: Future[ray.train.Result]) -> ray.train.Result:
    try:
        return fit.result()
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise TrainingError(
            f"a member could not be trained: {root_cause(error)}",
            "where workers died, look at the memory of their nodes: fewer at once (training.members_at_once) or "
            "smaller batches; the same command goes on from the last checkpoint",
        ) from error


def _last_checkpoint(result: ray.train.Result) -> MemberCheckpoint:
    if result.checkpoint is None:
        raise TrainingError("a member ended without a checkpoint", "start the command again and report this")
    return MemberCheckpoint(*read_checkpoint(result.checkpoint))


class Watcher:
    """Reads the epochs that members wrote and reports those that are new.

    Through the store rather than an actor: a process less to start, and it outlives the driver.
    """

    def __init__(
        self,
        work_uri: str,
        key: str,
        members: int,
        on_epoch: Callable[[int, dict[str, Any]], None],
        on_resumed: Callable[[int, Epochs], None],
    ) -> None:
        self._store = Store.open(work_uri)
        self.key = key
        self._on_epoch = on_epoch
        histories = [self._history(member) for member in range(members)]
        self._reported = [len(history) for history in histories]
        for member, history in enumerate(histories):
            if history:
                on_resumed(member, history)

    def poll(self) -> None:
        """Report each epoch since the last poll."""
        for member, reported in enumerate(self._reported):
            history = self._history(member)
            for epoch in history[reported:]:
                self._on_epoch(member, epoch)
            # Not less than before: an epoch whose checkpoint a kill lost is done again, and reported once.
            self._reported[member] = max(reported, len(history))

    def _history(self, member: int) -> Epochs:
        try:
            history = json.loads(self._store.read_bytes(progress_key(self.key, member)))
        except (StorageError, ValueError, RecursionError):  # none yet; or a store that fails: only shown, and no loss
            return []
        return history if isinstance(history, list) else []
