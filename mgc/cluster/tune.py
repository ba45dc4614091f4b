"""A search for settings with Ray Tune: trials side by side, the hopeless ones stopped early (ASHA, Li et al. 2020).

The driver draws all trials before Ray starts, so that the same command searches the same settings, a longer search
begins with a shorter one's, and a search that was killed resumes from its trials' last epochs. `run_trials` is all
that there is of Ray Tune: experiments run by it too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

import polars as pl
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from mgc.audio.features.filter_banks import FilterBanks
from mgc.catalogue.index import read_catalogue
from mgc.cluster.members import data_fingerprint, member_resources, require_same_data
from mgc.cluster.runtime import absolute_uris, on_every_node, ray_session, root_cause
from mgc.cluster.train import taxonomy_of
from mgc.cluster.trial import TrialSetup, folds_of, run_trial
from mgc.config import Config, FeatureConfig, fingerprint_of, fingerprint_of_rows
from mgc.errors import BundleError, ConfigError, SplitError, TrainingError
from mgc.models.published_weights import published_banks, published_fingerprints
from mgc.storage.store import Store
from mgc.tables.feature_cache import clear_feature_cache
from mgc.tables.feature_shards import read_feature_set, require_views, shard_facts
from mgc.training.search import Dimension, SearchResult, Settings, Trial, draw_trials, read_result, write_result

TRIAL_FOLDER = "trial-"
OnReport = Callable[[int, dict[str, Any]], None]
"""Called with a trial's number and what it reports."""


@dataclass(frozen=True)
class SearchRequest:
    """What to search, on what, and where the table goes.

    Parameters
    ----------
    space
        See `mgc.training.search.read_space`; `config.search` says how.
    overwrite
        Search anew whatever is there.
    """

    catalogue_uri: str
    features_uri: str
    output_uri: str
    config: Config
    space: tuple[Dimension, ...]
    overwrite: bool = False


def search_settings(request: SearchRequest, on_epoch: OnReport = lambda number, reported: None) -> SearchResult:
    """Search, and write `trials.csv`, `tuning.json` and `best.toml` into the output.

    Parameters
    ----------
    on_epoch
        Called with a trial's number and its figures as they come.

    Raises
    ------
    ConfigError, SplitError, SchemaError
        Before Ray starts where the space, the data or the output are wrong.
    TrainingError
        No trial came to its end.
    FingerprintError
        The catalogue or the features changed during the search; no table is written.
    """
    request = replace(request, **absolute_uris(request, "catalogue_uri", "features_uri", "output_uri"))
    if request.config.training.ensemble:
        raise ConfigError(
            "training.ensemble is set, and a search is for one network", "leave it out; `[model]` is searched"
        )
    catalogue = read_catalogue(request.catalogue_uri)
    taxonomy = taxonomy_of(catalogue, request.config)
    if request.config.search.metric == "accuracy" and not taxonomy.genres:
        raise ConfigError("search.metric = 'accuracy', but no track of split 'train' has a genre", "choose 'tags'")
    _require_judged(request, catalogue)
    require_views(request.features_uri, catalogue, request.config.augment)
    trials = tuple(draw_trials(request.space, request.config.search))
    key = _search_key(request, catalogue, trials)
    store = Store.open(request.output_uri)
    store.check_writable()
    ready = read_result(store)
    if ready is not None and not request.overwrite:
        if ready.key != key:
            raise ConfigError(
                f"'{request.output_uri}' holds a search of other data or settings", "another --output, or --overwrite"
            )
        return ready
    data = data_fingerprint(request.features_uri, catalogue)
    with ray_session(request.config.cluster) as session:
        resources = member_resources(_alone(request.config), len(trials), session)
        setup = TrialSetup(
            catalogue_uri=request.catalogue_uri,
            features_uri=request.features_uri,
            config=request.config,
            trials=trials,
            taxonomy=taxonomy,
            threads=resources.threads,
            gpu_share=resources.gpu_share,
            data=data,
            published=_published(request),
            banks=_banks(request),
        )
        found = _search(setup, f"{request.output_uri}/run/{key}-{data}", on_epoch)
        on_every_node(clear_feature_cache, request.features_uri, session)
    # Trials that met other data failed by it, and the others cannot be compared with.
    require_same_data(request.features_uri, read_catalogue(request.catalogue_uri), data)
    if all(trial.failed for trial in found):
        raise TrainingError(
            f"no trial came to its end; the first: {found[0].failed}", "correct the settings or space"
        )
    result = SearchResult(key, request.config.search.metric, _judged_on(request.config), found)
    write_result(store, result, request.config)
    store.delete_tree("run")
    return result


def _alone(config: Config) -> Any:
    """Return the training's settings as far as they decide how trials, one network each, share a cluster."""
    return config.training.model_copy(
        update={"members_at_once": config.search.trials_at_once, "workers_per_member": 1}
    )


def _require_judged(request: SearchRequest, catalogue: pl.DataFrame) -> None:
    """Refuse a search whose trials could not be compared: no labelled track to judge on."""
    for fold in folds_of(catalogue, request.config):
        valid = fold.filter((pl.col("split") == "valid") & (pl.col("genre").is_not_null() | pl.col("tags_known")))
        if valid.is_empty():
            raise SplitError(
                "split 'valid' has no labelled track to judge trials on",
                "search on folds of 'train' (--folds 5), or index with labels and catalogue.valid_fraction",
            )
    if not request.config.search.folds:
        read_feature_set(request.features_uri, catalogue, "valid")


def _banks(request: SearchRequest) -> dict[FeatureConfig, FilterBanks]:
    """Return what `TrialSetup` holds; what is wrong with published weights is each trial's own failure."""
    with contextlib.suppress(ConfigError, BundleError):
        return published_banks([request.config.model], shard_facts(request.features_uri).model_features)
    return {}


def _published(request: SearchRequest) -> dict[str, str]:
    """Return what `TrialSetup` holds; see `_banks`."""
    with contextlib.suppress(ConfigError, BundleError):
        return published_fingerprints([request.config.model])
    return {}


def _judged_on(config: Config) -> str:
    folds = config.search.folds
    return f"{folds} folds of split 'train', groups apart" if folds else "split 'valid'"


def _search_key(request: SearchRequest, catalogue: pl.DataFrame, trials: tuple[Settings, ...]) -> str:
    """Return a name for all that decides the figures."""
    config = request.config
    labelled = catalogue.filter(pl.col("split").is_in(["train", "valid"])).select(
        "track_id", "content_id", "genre", "tags", "tags_known", "group", "split"
    )
    facts = {
        "labels": fingerprint_of_rows(labelled.sort("track_id")),
        "features": shard_facts(request.features_uri).model_features.fingerprint(),
        "model": config.model.fingerprint(),
        "training": config.training.fingerprint(),
        "augment": config.augment.fingerprint(),
        "search": config.search.model_dump(exclude={"trials_at_once"}),
        "trials": trials,
    }
    return fingerprint_of(facts)


def _search(setup: TrialSetup, work_uri: str, on_epoch: OnReport) -> list[Trial]:
    search, training = setup.config.search, setup.config.training
    epochs = training.epochs * max(1, search.folds)
    scheduler = ASHAScheduler(
        time_attr="progress",
        max_t=epochs,
        grace_period=min(search.grace_epochs, epochs),
        reduction_factor=search.reduction,
    )
    config = tune.TuneConfig(
        metric="score",
        mode="min" if search.metric == "loss" else "max",
        scheduler=scheduler,
        max_concurrent_trials=search.trials_at_once,
    )
    function = tune.with_parameters(run_trial, setup=setup)
    resources = {"cpu": float(setup.threads), "gpu": setup.gpu_share}
    ended = run_trials(function, len(setup.trials), resources, work_uri, config, training.max_failures, on_epoch)
    found = [_trial(setup.trials, one) for one in ended]
    return sorted(found, key=lambda trial: trial.rank(search.metric))


def _trial(trials: tuple[Settings, ...], ended: EndedTrial) -> Trial:
    reported = ended.reported
    return Trial(
        number=ended.number,
        settings=trials[ended.number],
        loss=reported.get("valid_loss"),
        accuracy=reported.get("valid_accuracy"),
        tags=reported.get("valid_tag_macro_average_precision"),
        epochs=reported.get("epochs", 0),
        folds=reported.get("folds", 0),
        seconds=reported.get("time_total_s", 0.0),
        failed=ended.failed,
    )


# Trials of Ray Tune: of a search here, of an experiment in `mgc.cluster.experiment`.


@dataclass(frozen=True)
class EndedTrial:
    """A trial at its end.

    Parameters
    ----------
    reported
        What it last reported.
    failed
        Why it did not come to its end; empty where it did.
    """

    number: int
    reported: dict[str, Any]
    failed: str


def run_trials(
    function: Callable[[dict[str, Any]], None],
    count: int,
    resources: dict[str, float],
    work_uri: str,
    config: tune.TuneConfig,
    max_failures: int,
    on_report: OnReport,
) -> list[EndedTrial]:
    """Call a function with `{"number": n}`, n below `count`, as trials side by side; a failure stops no other.

    Parameters
    ----------
    resources
        "cpu" and "gpu" of a trial.
    work_uri
        Tune's files. Where a killed search left them, its trials resume from their last checkpoints.
    max_failures
        Times that a trial is begun again, from its last checkpoint, whose process died.
    on_report
        Called with a trial's number and what it reports; with `failed` where it failed for good.
    """
    # Ray's own log files of each trial are of no use here, and a search that is killed should lose seconds.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    # The older output is silent with `verbose=0`.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would end at Ctrl+C as if all trials had come to their end.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    _ReportCallback.on_report = on_report
    place = Store.open(work_uri).arrow_filesystem()
    trainable = tune.with_resources(function, resources)
    numbers = {"number": tune.grid_search(list(range(count)))}
    if tune.Tuner.can_restore(place.path, storage_filesystem=place.filesystem):
        tuner = tune.Tuner.restore(
            place.path, trainable, resume_errored=True, param_space=numbers, storage_filesystem=place.filesystem
        )
    else:
        folder, _, name = place.path.rpartition("/")
        run_config = tune.RunConfig(
            name=name,
            storage_path=folder,
            storage_filesystem=place.filesystem,
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[_ReportCallback()],
            verbose=0,
        )
        config = replace(config, trial_dirname_creator=_folder)
        tuner = tune.Tuner(trainable, param_space=numbers, tune_config=config, run_config=run_config)
    results = tuner.fit()
    return [_ended(results[place]) for place in range(len(results))]


def _folder(trial: Any) -> str:
    """Return a trial's folder: a trial that died before its first report is known by it alone."""
    return f"{TRIAL_FOLDER}{trial.config['number']}"


def _ended(result: Any) -> EndedTrial:
    number, reported = int(PurePosixPath(result.path).name.removeprefix(TRIAL_FOLDER)), result.metrics or {}
    failed = reported.get("failed") or (root_cause(result.error) if result.error else "")
    return EndedTrial(number, reported, failed)


class _ReportCallback(tune.Callback):
    """Passes reports on. Ray pickles callbacks with the search, so the function called is not part of them."""

    on_report: ClassVar[OnReport] = staticmethod(lambda number, reported: None)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Pass a report on."""
        type(self).on_report(trial.config["number"], result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Report a trial that failed for good."""
        error = trial.get_pickled_error() or trial.get_error()
        type(self).on_report(trial.config["number"], {"failed": root_cause(error)})
