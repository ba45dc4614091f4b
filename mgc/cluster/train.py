"""Training on a cluster: check, fit the members, calibrate, write the bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl
import torch

from mgc.cluster.members import (
    HELD,
    MemberCheckpoint,
    MemberSetup,
    Watcher,
    data_fingerprint,
    fit_members,
    in_fold,
    learnt,
    member_resources,
    read_optional,
    read_training_rows,
    require_same_data,
    set_up_ray_train,
    write_rows,
)
from mgc.cluster.monitoring import OnEpoch, OnResumed, monitored, tensorboard_log
from mgc.cluster.runtime import RaySession, absolute_uris, on_every_node, ray_session
from mgc.cluster.statistics import make_statistics, with_norms, worth_a_pool
from mgc.config import Config, TrainingConfig, fingerprint_of, fingerprint_of_rows
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import CLEAN
from mgc.errors import ConfigError, SplitError, TrainingError
from mgc.evaluation.answers import tag_vectors
from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle, BundleContents, load_bundle, write_bundle
from mgc.models.published_weights import (
    published_banks,
    published_facts,
    published_fingerprints,
    without_published_path,
)
from mgc.reports.training_report import write_training_report
from mgc.storage.store import Store, split_uri
from mgc.tables.feature_cache import clear_feature_cache
from mgc.tables.feature_shards import (
    FeatureSet,
    feature_rows,
    feature_sets,
    items_with_features,
    require_views,
    shard_facts,
)
from mgc.training.assemble import FoldPredictions, assemble, fidelity_metrics, predict_fold
from mgc.training.promise import find_exclusive


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on, and where the bundle goes.

    Parameters
    ----------
    overwrite
        Train anew whatever is there.
    replace_other
        Replace a bundle of other data or settings; keep one of these.
    teacher_uri
        A bundle whose predictions are learnt instead of the labels, by one network (`Config.student`).
    """

    catalogue_uri: str
    features_uri: str
    bundle_uri: str
    config: Config
    overwrite: bool = False
    replace_other: bool = False
    teacher_uri: str | None = None


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


def train_ensemble(
    request: TrainingRequest,
    on_epoch: OnEpoch = lambda member, epoch: None,
    on_resumed: OnResumed = lambda member, history: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> TrainOutcome:
    """Fit the ensemble and write its bundle.

    Parameters
    ----------
    on_epoch
        Called with a member's number and its epoch's figures as they come; those of `training.promise_folds` have
        `fold` and `folds`.
    on_resumed
        Called with a member's number and the epochs of an earlier run that was stopped in the middle.
    on_note
        Called with what is done before the first epoch, in words.

    Raises
    ------
    TrainingError, SplitError, SchemaError, BundleError
        Before Ray starts where the data or the bundle's place are wrong.
    FingerprintError
        A teacher that reads other features than there are; data, a teacher or published weights that changed
        during the run.
    """
    started = time.perf_counter()
    uris = absolute_uris(request, "catalogue_uri", "features_uri", "bundle_uri", "teacher_uri")
    config = request.config.student() if request.teacher_uri else request.config
    request = replace(request, config=config, **uris)
    published = published_facts(request.config.member_models())
    teacher = _teacher(request)
    catalogue = read_training_rows(request.catalogue_uri, request.config, distilling=teacher is not None)
    taxonomy = teacher.taxonomy if teacher else taxonomy_of(learnt(catalogue, config.training), config)
    require_views(request.features_uri, catalogue, request.config.augment)
    key = _training_key(request, catalogue, taxonomy, teacher, published)
    data = data_fingerprint(request.features_uri, catalogue)
    Store.open(request.bundle_uri).check_writable()
    ready = _finished_bundle(request, key)
    if ready is not None:
        write_training_report(request.bundle_uri, anew=False)
        return ready
    with (
        tensorboard_log(request.config.logs.tensorboard_dir, key) as log,
        ray_session(request.config.cluster) as session,
    ):
        log_epoch, log_resumed = monitored(log, on_epoch, on_resumed)
        # Checkpoints go with the features that were read, too.
        work_key = f"{key}-{data}"
        watcher = Watcher(_work_uri(request), work_key, len(request.config.member_models()), log_epoch, log_resumed)
        setups = _setups(request, taxonomy, teacher, session)
        tracks = learnt(catalogue, config.training)
        setups = with_norms(setups, tracks, Store.open(_work_uri(request)), work_key)
        if not teacher:  # which labels every window, and so reads it
            setups = _with_statistics(request, catalogue, setups, on_note)
        members = _members(request, catalogue, setups, teacher, data, session, watcher)
        folds = []
        if request.config.training.promise_folds and not teacher:
            folds = _folds(request, catalogue, setups, session, work_key, on_epoch)
        contents = _contents(request, catalogue, taxonomy, published, key, members, folds)
        if teacher:
            contents = _with_teacher(request, contents, teacher, catalogue)
        _require_same_data(request, data)
        for uri in {request.features_uri, *(one.statistics_uri for one in setups if one.statistics_uri)}:
            on_every_node(clear_feature_cache, uri, session)
    fingerprint = write_bundle(request.bundle_uri, contents, overwrite=request.overwrite or request.replace_other)
    write_training_report(request.bundle_uri)
    work = split_uri(_work_uri(request))
    Store.open(work.root).delete_tree(work.key)
    epochs = [len(member.history) for member in members]
    return TrainOutcome(fingerprint, True, contents.metrics, epochs, time.perf_counter() - started)


def _teacher(request: TrainingRequest) -> Bundle | None:
    if request.teacher_uri is None:
        return None
    if request.teacher_uri == request.bundle_uri:
        raise ConfigError("the student would replace its teacher", "give another directory as --bundle")
    teacher = load_bundle(request.teacher_uri)
    Predictor(teacher).check_features(shard_facts(request.features_uri).model_features.fingerprint())
    return teacher


def taxonomy_of(catalogue: pl.DataFrame, config: Config) -> Taxonomy:
    """Return the genres and tags of split 'train'.

    Raises
    ------
    TrainingError
        There is nothing to learn, or one genre alone.
    """
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


def _training_key(
    request: TrainingRequest,
    catalogue: pl.DataFrame,
    taxonomy: Taxonomy,
    teacher: Bundle | None,
    published: list[dict[str, str]],
) -> str:
    """Return a name for all that decides the weights: data, labels, splits, features, views, model and training."""
    facts = shard_facts(request.features_uri)
    labelled = catalogue.filter(pl.col("split").is_in(["train", "valid"])).select(
        "track_id", "content_id", "genre", "tags", "tags_known", "group", "split"
    )
    distillation = (
        {"teacher": teacher.fingerprint, "distill": request.config.distill.fingerprint()} if teacher else {}
    )
    return fingerprint_of(
        {
            **distillation,
            "labels": fingerprint_of_rows(labelled.sort("track_id")),
            "features": facts.model_features.fingerprint(),
            "taxonomy": taxonomy.fingerprint(),
            "models": [model.fingerprint() for model in request.config.member_models()],
            **({"published": published} if published else {}),
            **({"learnt": ["train", "valid"]} if request.config.training.learns_valid else {}),
            "training": request.config.training.fingerprint(),
            "augment": request.config.augment.fingerprint(),
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


def _setups(
    request: TrainingRequest, taxonomy: Taxonomy, teacher: Bundle | None, session: RaySession
) -> list[MemberSetup]:
    set_up_ray_train(session)
    models = request.config.member_models()
    resources = member_resources(request.config.training, len(models), session)
    published = published_fingerprints(models)
    banks = published_banks(models, shard_facts(request.features_uri).model_features)
    return [
        MemberSetup(
            member=member,
            model=model,
            features_uri=request.features_uri,
            config=request.config,
            taxonomy=taxonomy,
            threads=resources.threads,
            teacher_uri=request.teacher_uri,
            teacher_fingerprint=teacher.fingerprint if teacher else None,
            published=published,
            banks=banks,
        )
        for member, model in enumerate(models)
    ]


def _with_statistics(
    request: TrainingRequest, catalogue: pl.DataFrame, setups: list[MemberSetup], on_note: Callable[[str], None]
) -> list[MemberSetup]:
    """Return the setups with where the statistics of each are, made now where they are worth a pool of actors."""
    used = catalogue.filter(pl.col("split").is_in(["train", "valid"]))
    if not worth_a_pool(used.height, setups):
        return setups
    items = items_with_features(request.features_uri, used, request.config.augment)
    clean = items.filter(pl.col("view") == CLEAN)
    one = used.join(clean.head(1), on="track_id", how="semi").with_columns(split=pl.lit("train"))
    first = read_optional(request.features_uri, one, "train")
    if first is None:
        return setups  # who reads the split says what is wrong
    made = partial(make_statistics, items=items, first=first, work_uri=_work_uri(request), on_note=on_note)
    # Members of one network and several seeds share them: the second run finds that there is nothing to do.
    return [replace(setup, statistics_uri=made(setup)) for setup in setups]


def _members(
    request: TrainingRequest,
    catalogue: pl.DataFrame,
    setups: list[MemberSetup],
    teacher: Bundle | None,
    data: str,
    session: RaySession,
    watcher: Watcher,
) -> list[MemberCheckpoint]:
    resources = member_resources(request.config.training, len(setups), session)
    config, tracks = request.config, learnt(catalogue, request.config.training)
    write_rows(_work_uri(request), watcher.key, request.features_uri, tracks, config.augment, catalogue)
    try:
        return fit_members(setups, _work_uri(request), watcher.key, resources, watcher)
    except TrainingError:
        # What ended a member may be that its data changed: that is then the error to show.
        _require_same_data(request, data)
        if request.teacher_uri and teacher:
            load_bundle(request.teacher_uri, teacher.fingerprint)
        raise


def _require_same_data(request: TrainingRequest, data: str) -> None:
    rows = read_training_rows(request.catalogue_uri, request.config, distilling=request.teacher_uri is not None)
    require_same_data(request.features_uri, rows, data)


def _folds(
    request: TrainingRequest,
    catalogue: pl.DataFrame,
    setups: list[MemberSetup],
    session: RaySession,
    key: str,
    on_epoch: OnEpoch,
) -> list[FoldPredictions]:
    """Return predictions of all tracks of train and valid, each by members fitted on other groups."""

    def watcher_of(fold: int, own_key: str) -> Watcher:
        place = {"fold": fold + 1, "folds": training.promise_folds}
        return Watcher(
            _work_uri(request),
            own_key,
            len(setups),
            lambda *seen: on_epoch(seen[0], seen[1] | place),
            lambda *_: None,
        )

    training, taxonomy = request.config.training, setups[0].taxonomy
    resources = member_resources(training, len(setups), session)
    features = shard_facts(request.features_uri).model_features
    parts = []
    for fold in range(training.promise_folds):
        own_key = f"{key}-fold{fold}"
        watcher = watcher_of(fold, own_key)
        tracks = in_fold(catalogue, fold, training)
        write_rows(_work_uri(request), own_key, request.features_uri, tracks, request.config.augment, catalogue)
        own = [replace(setup, fold=fold) for setup in setups]
        weights = [
            one.state.best_weights for one in fit_members(own, _work_uri(request), own_key, resources, watcher)
        ]
        seen, held = (_read_by_each(setups, tracks, split) for split in ("valid", HELD))
        if held and (seen or training.learns_valid):
            models = [without_published_path(model) for model in request.config.member_models()]
            parts.append(predict_fold(models, weights, seen, held, taxonomy, features))
    return parts


def _read_by_each(setups: Sequence[MemberSetup], tracks: pl.DataFrame, split: str) -> list[FeatureSet]:
    """Return a split's tracks as each member reads them; none where it has no features."""
    features_uri, uris = setups[0].features_uri, {setup.statistics_uri for setup in setups}
    try:
        rows = feature_rows(features_uri, tracks, split)
    except SplitError:
        return []
    by_uri = {uri: feature_sets(features_uri, [rows], uri)[0] for uri in uris}
    return [by_uri[setup.statistics_uri] for setup in setups]


def _contents(
    request: TrainingRequest,
    catalogue: pl.DataFrame,
    taxonomy: Taxonomy,
    published: list[dict[str, str]],
    key: str,
    members: list[MemberCheckpoint],
    folds: list[FoldPredictions],
) -> BundleContents:
    torch.set_num_threads(os.cpu_count() or 1)
    tracks = learnt(catalogue, request.config.training)
    train = tracks.filter(pl.col("split") == "train")
    valid = read_optional(request.features_uri, tracks, "valid")
    features = shard_facts(request.features_uri).model_features
    facts: dict[str, Any] = {
        **({"published_weights": published} if published else {}),
        "training_key": key,
        "catalogue": request.catalogue_uri,
        **({"learnt_splits": ["train", "valid"]} if request.config.training.learns_valid else {}),
        "tracks": dict(tracks.group_by("split").len().sort("split").iter_rows()),
        "train_genres": dict(train.drop_nulls("genre").group_by("genre").len().sort("genre").iter_rows()),
        "train_groups": train["group"].n_unique(),
        "train_views": list(request.config.augment.views),
        "histories": [member.history for member in members],
    }
    return assemble(
        [member.state.best_weights for member in members],
        valid,
        taxonomy,
        request.config,
        features,
        facts,
        folds=folds,
        exclusive=_exclusive_tags(train, taxonomy, request.config.training),
    )


def _exclusive_tags(train: pl.DataFrame, taxonomy: Taxonomy, training: TrainingConfig) -> tuple[tuple[int, ...], ...]:
    """Return the groups of tags, by index, of which at most one is listed: as declared, or as the labels show."""
    if training.exclusive_tags is None:
        known = train.filter(pl.col("tags_known"))["tags"].to_list()
        return find_exclusive(tag_vectors(known, taxonomy.tags) > 0)
    places = {tag: place for place, tag in enumerate(taxonomy.tags)}
    groups = (tuple(places[tag] for tag in group if tag in places) for group in training.exclusive_tags)
    return tuple(group for group in groups if len(group) > 1)


def _with_teacher(
    request: TrainingRequest, contents: BundleContents, teacher: Bundle, catalogue: pl.DataFrame
) -> BundleContents:
    valid = read_optional(request.features_uri, catalogue, "valid")
    distilled = {"teacher": teacher.fingerprint, "teacher_share": request.config.distill.teacher_share}
    metrics = contents.metrics | fidelity_metrics(contents, teacher, valid) if valid else contents.metrics
    return replace(contents, metrics=metrics, facts=contents.facts | distilled)
