"""Training on a cluster: one Ray Train run a member, members side by side where resources allow.

A member's run has a name that follows from everything that decides its weights, so the same command, given
again after a kill, goes on from the last checkpoint; a worker that dies is replaced by Ray Train and goes on
from there too. Nothing is lost but the epoch in flight.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from mgc.cluster.runtime import RaySession, ray_session
from mgc.config import Config, fingerprint_of
from mgc.data.catalogue import read_catalogue
from mgc.data.shards import FeatureSet, read_feature_set, shard_facts
from mgc.data.storage import ObjectNotFoundError, Store, split_uri
from mgc.errors import SplitError, TrainingError
from mgc.models.bundle import BundleContents, load_bundle, write_bundle
from mgc.models.registry import build_model
from mgc.taxonomy import Taxonomy
from mgc.training.ensemble import assemble
from mgc.training.loop import EpochReport, fit
from mgc.training.state import TrainingState

STATE_FILE = "state.bin"
HISTORY_FILE = "history.json"
LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on, and where the bundle goes.

    Parameters
    ----------
    overwrite
        Train anew whatever is there.
    replace_other
        Replace a bundle of other data or settings; keep one of these.
    """

    catalogue_uri: str
    features_uri: str
    bundle_uri: str
    config: Config
    overwrite: bool = False
    replace_other: bool = False


@dataclass(frozen=True)
class TrainOutcome:
    """What training gave.

    Parameters
    ----------
    fingerprint
        Of the bundle.
    trained
        False where the bundle was there already, made from the same data and settings.
    metrics
        Validation figures by member and of the ensemble.
    epochs
        Epochs of each member, in all.
    """

    fingerprint: str
    trained: bool
    metrics: dict[str, Any]
    epochs: list[int]
    wall_seconds: float


@dataclass(frozen=True)
class _MemberSetup:
    """All that a Ray Train worker needs to know; plain values, so that it can travel."""

    member: int
    catalogue_uri: str
    features_uri: str
    config: Config
    taxonomy: Taxonomy
    threads: int


def train_ensemble(
    request: TrainingRequest,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda member, epoch: None,
    on_taken_up: Callable[[int, list[dict[str, Any]]], None] = lambda member, history: None,
) -> TrainOutcome:
    """Fit the ensemble and write its bundle.

    Parameters
    ----------
    on_epoch
        Told a member's number and its epoch's figures as they come.
    on_taken_up
        Told a member's number and the epochs of the run before, where that was stopped in the middle.

    Raises
    ------
    TrainingError, SplitError, SchemaError, BundleError
        Before Ray starts where the data or the bundle's place are wrong.
    """
    started = time.perf_counter()
    request = _absolute(request)
    catalogue = read_catalogue(request.catalogue_uri)
    taxonomy = _taxonomy(catalogue, request.config)
    key = _training_key(request, catalogue, taxonomy)
    Store.open(request.bundle_uri).check_writable()
    ready = _finished_bundle(request, key)
    if ready is not None:
        return ready
    with ray_session(request.config.cluster) as session:
        watcher = _Watcher(request, key, on_epoch, on_taken_up)
        states, histories = _fit_members(request, taxonomy, key, session, watcher)
        contents = _contents(request, catalogue, taxonomy, key, states, histories)
    fingerprint = write_bundle(request.bundle_uri, contents, overwrite=request.overwrite or request.replace_other)
    work = split_uri(_work_uri(request))
    Store.open(work.root).delete_tree(work.key)
    epochs = [len(history) for history in histories]
    return TrainOutcome(fingerprint, True, contents.metrics, epochs, time.perf_counter() - started)


def _absolute(request: TrainingRequest) -> TrainingRequest:
    """Return the request with absolute places: Ray Train's workers run in a working directory of their own."""
    return replace(
        request,
        catalogue_uri=Store.open(request.catalogue_uri).uri(),
        features_uri=Store.open(request.features_uri).uri(),
        bundle_uri=Store.open(request.bundle_uri).uri(),
    )


def _taxonomy(catalogue: pl.DataFrame, config: Config) -> Taxonomy:
    train = catalogue.filter(pl.col("split") == "train")
    known = train.filter(pl.col("tags_known"))
    taxonomy = Taxonomy.from_labels(train["genre"], known["tags"].to_list(), config.training.min_tag_positives)
    if not taxonomy.genres and not taxonomy.tags:
        raise TrainingError(
            "no track of split 'train' has a genre, and no tag is frequent enough",
            "join labels when indexing (--manifest or --labels-from folder), or lower training.min_tag_positives",
        )
    if len(taxonomy.genres) == 1:
        raise TrainingError(
            f"only one genre in split 'train': '{taxonomy.genres[0]}'",
            "a genre model needs two genres or more",
        )
    return taxonomy


def _training_key(request: TrainingRequest, catalogue: pl.DataFrame, taxonomy: Taxonomy) -> str:
    """Return a name for all that decides the weights: data, labels, splits, features, model and training."""
    facts = shard_facts(request.features_uri)
    labelled = catalogue.filter(pl.col("split").is_in(["train", "valid"])).select(
        "track_id", "content_id", "genre", "tags", "tags_known", "split"
    )
    return fingerprint_of(
        {
            "labels": fingerprint_of(labelled.sort("track_id").rows()),
            "features": facts.fingerprint,
            "taxonomy": taxonomy.fingerprint(),
            "model": request.config.model.fingerprint(),
            "training": request.config.training.fingerprint(),
        }
    )


def _finished_bundle(request: TrainingRequest, key: str) -> TrainOutcome | None:
    if request.overwrite or not Store.open(request.bundle_uri).exists("manifest.json"):
        return None
    bundle = load_bundle(request.bundle_uri)
    if bundle.facts.get("training_key") != key:
        if request.replace_other:
            return None
        raise TrainingError(
            f"'{request.bundle_uri}' holds a bundle of other data or settings ({bundle.fingerprint})",
            "give another --bundle, or --overwrite",
        )
    return TrainOutcome(bundle.fingerprint, False, bundle.metrics, [], 0.0)


def _work_uri(request: TrainingRequest) -> str:
    return f"{request.bundle_uri.rstrip('/')}.training"


def _fit_members(
    request: TrainingRequest,
    taxonomy: Taxonomy,
    key: str,
    session: RaySession,
    watcher: _Watcher,
) -> tuple[list[TrainingState], list[list[dict[str, Any]]]]:
    _set_up_ray_train(session)
    training = request.config.training
    use_gpu = training.use_gpu == "always" or (training.use_gpu == "auto" and session.n_gpus > 0)
    slots = session.n_gpus if use_gpu else session.n_cpus
    at_once = min(training.members_at_once or max(1, slots // training.workers_per_member), training.members)
    threads = training.threads or max(1, session.n_cpus // (at_once * training.workers_per_member))
    setups = [
        _MemberSetup(member, request.catalogue_uri, request.features_uri, request.config, taxonomy, threads)
        for member in range(training.members)
    ]
    # A fit only waits for its controller actor: threads here do, where tasks would cost a process each.
    with ThreadPoolExecutor(at_once, thread_name_prefix="member") as pool:
        fits = [pool.submit(_fit_member, setup, _work_uri(request), key, use_gpu) for setup in setups]
        while wait(fits, timeout=LOOK_EVERY_SECONDS).not_done:
            watcher.look()
        watcher.look()
    saved = [_last_checkpoint(_result(fit)) for fit in fits]
    return [state for state, _ in saved], [history for _, history in saved]


def _set_up_ray_train(session: RaySession) -> None:
    """Set what Ray Train takes from the environment of the driver and hands to its controllers."""
    # A report, so each epoch, waits for the controller's next look at its workers: by default two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if not session.joined:
        # An actor a member that watches for nodes being taken away: of no use on this machine alone.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _result(fit: Future[ray.train.Result]) -> ray.train.Result:
    try:
        return fit.result()
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise TrainingError(
            f"a member could not be trained: {_root_cause(error)}",
            "the same command goes on from the last checkpoint",
        ) from error


def _last_checkpoint(result: ray.train.Result) -> tuple[TrainingState, list[dict[str, Any]]]:
    if result.checkpoint is None:
        raise TrainingError("a member ended without a checkpoint", "start the command again and report this")
    return _read_checkpoint(result.checkpoint)


def _root_cause(error: Exception) -> str:
    """Return the message of ours inside what Ray wrapped around it, else Ray's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if re.match(r"mgc\.[\w.]+: ", line)]
    return (ours or lines or [type(error).__name__])[-1].removeprefix("mgc.errors.")


class _Watcher:
    """Reads what members wrote of their epochs and tells what is new.

    Through the store rather than an actor: a process less to start, and it outlives the driver.
    """

    def __init__(
        self,
        request: TrainingRequest,
        key: str,
        on_epoch: Callable[[int, dict[str, Any]], None],
        on_taken_up: Callable[[int, list[dict[str, Any]]], None],
    ) -> None:
        self._store = Store.open(_work_uri(request))
        self._key = key
        self._on_epoch = on_epoch
        histories = [self._history(member) for member in range(request.config.training.members)]
        self._told = [len(history) for history in histories]
        for member, history in enumerate(histories):
            if history:
                on_taken_up(member, history)

    def look(self) -> None:
        """Tell of each epoch since the last look."""
        for member, told in enumerate(self._told):
            history = self._history(member)
            for epoch in history[told:]:
                self._on_epoch(member, epoch)
            # Not less than before: an epoch whose checkpoint a kill lost is done again, and told once.
            self._told[member] = max(told, len(history))

    def _history(self, member: int) -> list[dict[str, Any]]:
        try:
            history: list[dict[str, Any]] = json.loads(self._store.read_bytes(_progress_key(self._key, member)))
        except ObjectNotFoundError:
            return []
        return history


def _progress_key(key: str, member: int) -> str:
    return f"progress/{key}-member-{member}.json"


def _fit_member(setup: _MemberSetup, work_uri: str, key: str, use_gpu: bool) -> ray.train.Result:
    training = setup.config.training
    place = Store.open(work_uri).arrow_filesystem()
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={"setup": setup, "work_uri": work_uri, "progress_key": _progress_key(key, setup.member)},
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
    setup: _MemberSetup = loop_config["setup"]
    training = setup.config.training
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(setup.threads)
    catalogue = read_catalogue(setup.catalogue_uri)
    train = read_feature_set(setup.features_uri, catalogue, "train")
    valid = read_optional(setup.features_uri, catalogue, "valid")
    start: TrainingState | None = None
    history: list[dict[str, Any]] = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        start, history = _read_checkpoint(checkpoint)
    seed = training.seed + 1_000 * setup.member
    torch.manual_seed(seed)
    taxonomy = setup.taxonomy
    model = build_model(setup.config.model, train.features.n_mels, len(taxonomy.genres), len(taxonomy.tags))

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
        training,
        seed=seed,
        device=str(get_device()),
        start=start,
        on_epoch=on_epoch,
        wrap=prepare_model if world > 1 else lambda module: module,
        shard=(rank, world),
    )


def read_optional(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet | None:
    """Return the features of a split, or None where it has none."""
    try:
        return read_feature_set(features_uri, catalogue, split)
    except SplitError:
        return None


def _report(report: EpochReport, state: TrainingState, history: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(state.to_bytes())
        Path(folder, HISTORY_FILE).write_text(json.dumps(history), encoding="utf-8")
        ray.train.report({"epoch": report.epoch}, checkpoint=Checkpoint.from_directory(folder))


def _read_checkpoint(checkpoint: Checkpoint) -> tuple[TrainingState, list[dict[str, Any]]]:
    with checkpoint.as_directory() as folder:
        state = TrainingState.from_bytes(Path(folder, STATE_FILE).read_bytes())
        history = json.loads(Path(folder, HISTORY_FILE).read_text(encoding="utf-8"))
    return state, history


def _contents(
    request: TrainingRequest,
    catalogue: pl.DataFrame,
    taxonomy: Taxonomy,
    key: str,
    states: list[TrainingState],
    histories: list[list[dict[str, Any]]],
) -> BundleContents:
    torch.set_num_threads(os.cpu_count() or 1)
    train = catalogue.filter(pl.col("split") == "train")
    valid = read_optional(request.features_uri, catalogue, "valid")
    features = shard_facts(request.features_uri).features
    facts = {
        "training_key": key,
        "catalogue": request.catalogue_uri,
        "tracks": dict(catalogue.group_by("split").len().sort("split").iter_rows()),
        "train_genres": dict(train.drop_nulls("genre").group_by("genre").len().sort("genre").iter_rows()),
        "train_groups": train["group"].n_unique(),
        "histories": histories,
    }
    return assemble([state.best_weights for state in states], valid, taxonomy, request.config, features, facts)
