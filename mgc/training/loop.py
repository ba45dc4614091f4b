"""Fitting one network: epochs, early stopping on the validation loss, and exact resumption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from mgc.config import TrainingConfig
from mgc.data.shards import FeatureSet
from mgc.errors import TrainingError
from mgc.models.types import ModelOutput
from mgc.taxonomy import Taxonomy
from mgc.training.batches import Batch, Shard, TrainingWindows
from mgc.training.losses import genre_loss, tag_loss
from mgc.training.optim import learning_rate_at, make_optimizer, set_learning_rate
from mgc.training.state import Tensors, TrainingState, copy_optimizer, copy_weights, restore_optimizer
from mgc.training.validate import ValidationScores, Validator

logger = logging.getLogger(__name__)

MAX_GRADIENT_NORM = 5.0
"""Longer gradients are shortened: recurrent networks have cliffs (Pascanu et al. 2013)."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch's figures.

    Parameters
    ----------
    epoch
        Counted from 1.
    train_loss
        Mean over the batches, with augmentation and smoothing: not comparable with `valid_loss`.
    valid_loss, valid_accuracy, valid_tag_macro_average_precision
        Over validation tracks; None where there are none with the label.
    learning_rate
        At the epoch's end.
    seconds
        Training and validation.
    windows_per_second
        Of training alone, over all workers.
    """

    epoch: int
    train_loss: float
    valid_loss: float | None
    valid_accuracy: float | None
    valid_tag_macro_average_precision: float | None
    learning_rate: float
    seconds: float
    windows_per_second: float


@dataclass(frozen=True)
class FitResult:
    """What a fit gave.

    Parameters
    ----------
    state
        The last one; `state.best_weights` are those to keep.
    reports
        Of the epochs that this call ran.
    stopped_early
        Whether patience ran out before the epochs did.
    """

    state: TrainingState
    reports: list[EpochReport]
    stopped_early: bool

    @property
    def best_weights(self) -> Tensors:
        """Weights of the epoch with the lowest validation loss; of the last where there is no validation."""
        return self.state.best_weights


def fit(
    model: nn.Module,
    train: FeatureSet,
    valid: FeatureSet | None,
    taxonomy: Taxonomy,
    config: TrainingConfig,
    *,
    seed: int,
    device: str = "cpu",
    start: TrainingState | None = None,
    on_epoch: Callable[[EpochReport, TrainingState], None] | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    shard: tuple[int, int] = (0, 1),
) -> FitResult:
    """Fit a network's weights in place, and return the best ones seen.

    The same arguments give the same weights, and a fit resumed from a state those of one that never stopped.

    Parameters
    ----------
    model
        As `build_model` makes it. Its weights decide the start unless `start` is given.
    train, valid
        Without a validation split, or without labels in it, all epochs are run and the last weights kept.
    start
        A state of the same fit to go on from.
    on_epoch
        Called after each epoch, on every worker.
    wrap
        Makes the network data-parallel (DistributedDataParallel); given the network on its device.
    shard
        (rank, world size) of this worker; each gets its part of every batch.

    Raises
    ------
    TrainingError
        No track has a label, features are not finite, the loss ceases to be, or `start` is of another fit.
    """
    part = Shard(*shard)
    windows = TrainingWindows(train, taxonomy, config)
    validator = Validator(valid, taxonomy, config, device, part)
    if not validator.possible:
        logger.warning("no labelled validation track: training all %d epochs, keeping the last", config.epochs)
    model.to(device)
    optimizer = make_optimizer(model, config)
    state = start or _fresh_state(model, seed)
    if start is not None:
        _restore(model, optimizer, start, seed)
    trainer = _Trainer(model, wrap(model), optimizer, windows, config, seed, device, part)
    reports: list[EpochReport] = []
    while state.epoch < config.epochs and not _out_of_patience(state, config):
        report = _run_epoch(trainer, validator, state.epoch)
        state = _next_state(trainer, state, report)
        reports.append(report)
        if on_epoch:
            on_epoch(report, state)
    return FitResult(state, reports, state.epoch < config.epochs)


@dataclass(frozen=True)
class _Trainer:
    """What an epoch works with; `parallel` is `model`, wrapped."""

    model: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    windows: TrainingWindows
    config: TrainingConfig
    seed: int
    device: str
    shard: Shard

    def learning_rate(self, step: int) -> float:
        return learning_rate_at(step, self.windows.steps_per_epoch, self.config)


def _fresh_state(model: nn.Module, seed: int) -> TrainingState:
    weights = copy_weights(model)
    return TrainingState(0, seed, weights, weights, None, 0, 0, {})


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, start: TrainingState, seed: int) -> None:
    if start.seed != seed:
        raise TrainingError(
            f"the checkpoint is of a fit with seed {start.seed}, this one has {seed}", "resume with the same settings"
        )
    try:
        model.load_state_dict(start.weights)
        restore_optimizer(optimizer, start.optimizer)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            "the checkpoint is of another architecture", "resume with the same settings, or start anew"
        ) from error


def _run_epoch(trainer: _Trainer, validator: Validator, finished: int) -> EpochReport:
    started = time.perf_counter()
    with _seeded(trainer, finished):
        train_loss = _train_epoch(trainer, finished)
    train_seconds = time.perf_counter() - started
    scores = validator.score(trainer.model) if validator.possible else None
    return _report(trainer, finished, train_loss, scores, train_seconds, time.perf_counter() - started)


def _seeded(trainer: _Trainer, finished: int) -> _Seeded:
    return _Seeded(trainer.device, trainer.seed, finished, trainer.shard.rank)
