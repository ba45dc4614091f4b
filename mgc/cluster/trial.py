"""One trial of a search: the network of some settings, fitted on one split or on folds, reported after every epoch.

A plain function of Ray Tune with the loop in its own process: a Ray Train run inside each trial would want a
controller and a worker beside it, and on two CPUs wait for both for ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
import torch
from ray import tune

from mgc.audio.features.filter_banks import FilterBanks, hold
from mgc.catalogue.index import read_catalogue
from mgc.cluster.members import checkpoint_folder, read_checkpoint, require_same_data
from mgc.config import Config, FeatureConfig, with_settings
from mgc.config.taxonomy import Taxonomy
from mgc.errors import MgcError
from mgc.evaluation.protocols import group_k_fold, with_fold
from mgc.models.published_weights import start_model
from mgc.tables.feature_shards import read_feature_set
from mgc.training.cached_statistics import adapted_norms
from mgc.training.loop import EpochReport, fit
from mgc.training.search import Settings
from mgc.training.state import TrainingState

FIGURES = {"loss": "valid_loss", "accuracy": "valid_accuracy", "tags": "valid_tag_macro_average_precision"}
"""What may be searched for, and its name in an `EpochReport`."""


@dataclass(frozen=True)
class TrialSetup:
    """All that trials share; plain values, so that it can travel.

    Parameters
    ----------
    trials
        What each trial changes of `config`.
    """

    catalogue_uri: str
    features_uri: str
    config: Config
    trials: tuple[Settings, ...]
    taxonomy: Taxonomy
    threads: int
    gpu_share: float
    """Of a GPU, each trial's; 0: they are fitted on CPUs."""
    data: str
    """`data_fingerprint` of what the search began with."""
    published: Mapping[str, str] = field(default_factory=dict)
    """See `published_fingerprints`."""
    banks: Mapping[FeatureConfig, FilterBanks] = field(default_factory=dict)
    """Filter banks that networks are started with (`published_banks`)."""


@dataclass(frozen=True)
class TrialProgress:
    """How far a trial is.

    Parameters
    ----------
    done
        Of each fold that is finished, the epoch that was kept.
    epochs
        Of the fold in flight.
    evaluations
        Times that the tracks judged on were evaluated, over all folds.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    evaluations: int = 0

    def with_epoch(self, epoch: dict[str, Any]) -> TrialProgress:
        """Return the progress after one more epoch."""
        return TrialProgress(self.done, [*self.epochs, epoch], self.evaluations + 1)

    def with_fold_finished(self) -> TrialProgress:
        """Return the progress at the beginning of the next fold."""
        return TrialProgress([*self.done, _kept(self.epochs)], [], self.evaluations)

    def tune_metrics(self, metric: str, epochs_a_fold: int) -> dict[str, Any]:
        """Return the report to Ray Tune: the score of the weights that would be kept now, a mean over folds."""
        kept = [*self.done, _kept(self.epochs)]
        means = {name: _mean([epoch[name] for epoch in kept]) for name in FIGURES.values()}
        score = means[FIGURES[metric]]
        return {
            **means,
            "score": worst(metric) if score is None else score,
            "progress": len(self.done) * epochs_a_fold + len(self.epochs),
            "epochs": self.evaluations,
            "folds": len(kept),
            "kept_epoch": kept[-1]["epoch"],
            "failed": "",
        }


def worst(metric: str) -> float:
    """Return the score of a trial that has none."""
    return math.inf if metric == "loss" else -math.inf


def run_trial(chosen: dict[str, Any], setup: TrialSetup) -> None:
    """Fit one trial's network on each fold in turn; a fault of its settings is its row and stops no other trial."""
    search = setup.config.search
    try:
        _run_folds(with_settings(setup.config, setup.trials[chosen["number"]]), setup)
    except MgcError as error:
        tune.report(
            dict.fromkeys(FIGURES.values())
            | {"score": worst(search.metric), "progress": 1, "epochs": 0, "folds": 0, "kept_epoch": 0}
            | {"failed": error.message}
        )


def _run_folds(config: Config, setup: TrialSetup) -> None:
    torch.set_num_threads(setup.threads)
    progress, start = _resumed()
    whole = read_catalogue(setup.catalogue_uri)
    require_same_data(setup.features_uri, whole, setup.data)
    for catalogue in folds_of(whole, config)[len(progress.done) :]:
        progress = _run_fold(config, setup, catalogue, progress, start).with_fold_finished()
        start = None


def folds_of(catalogue: pl.DataFrame, config: Config) -> list[pl.DataFrame]:
    """Return the catalogue with each fold as its splits 'train' and 'valid'; with no folds, as it is.

    Raises
    ------
    SplitError
        There are fewer groups in 'train' than folds.
    """
    search = config.search
    if not search.folds:
        return [catalogue]
    train = catalogue.filter(pl.col("split") == "train")
    return [with_fold(train, fold) for fold in group_k_fold(train, search.folds, search.seed)]


def _run_fold(
    config: Config, setup: TrialSetup, catalogue: pl.DataFrame, progress: TrialProgress, start: TrainingState | None
) -> TrialProgress:
    train = read_feature_set(setup.features_uri, catalogue, "train", config.augment)
    valid = read_feature_set(setup.features_uri, catalogue, "valid")
    training, taxonomy = config.training, setup.taxonomy
    torch.manual_seed(training.seed)
    hold(setup.banks)
    norms = adapted_norms(config.model, train, setup.published)
    model = start_model(config.model, train.features, taxonomy, setup.published, norms)
    current = progress

    def on_epoch(report: EpochReport, state: TrainingState) -> None:
        nonlocal current
        current = current.with_epoch(asdict(report))
        with checkpoint_folder(state, asdict(current)) as folder:
            metrics = current.tune_metrics(config.search.metric, training.epochs)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

    fit(
        model,
        train,
        valid,
        taxonomy,
        training,
        seed=training.seed,
        device="cuda" if setup.gpu_share else "cpu",
        start=start,
        on_epoch=on_epoch,
    )
    return current


def _resumed() -> tuple[TrialProgress, TrainingState | None]:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return TrialProgress(), None
    state, progress = read_checkpoint(checkpoint)
    return TrialProgress(**progress), state


def _kept(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the epoch whose weights a fit keeps: the last that is marked so."""
    return next(epoch for epoch in reversed(epochs) if epoch["kept"])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
