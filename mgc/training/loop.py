"""The training loop of one network: epochs, early stopping on the validation loss, exact resumption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mgc.config import FitConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import TrainingError
from mgc.models.layers import ModelOutput
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import Batch, Shard, TrainingWindows, require_sound
from mgc.training.cached_statistics import cache_statistics, can_cache_statistics, reading
from mgc.training.device import BusyTime, forward_precision, is_gpu, to_device
from mgc.training.losses import LabelWeights, genre_loss, tag_loss
from mgc.training.optim import WeightAverage, averaged_weights, learning_rate_at, make_optimizer, set_learning_rate
from mgc.training.state import Tensors, TrainingState, copy_optimizer, copy_weights, restore_optimizer
from mgc.training.validate import Validator, make_validator

logger = logging.getLogger(__name__)

MAX_GRADIENT_NORM = 5.0
"""Longer gradients are shortened: recurrent networks have cliffs (Pascanu et al. 2013)."""
STEPS_UNREAD = 16
"""Steps whose losses are left on the device: to read one makes a GPU wait for the CPU."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch's figures.

    Parameters
    ----------
    epoch
        Counted from 1.
    train_loss
        Mean over the batches, with augmentation and smoothing: not comparable with `valid_loss`.
    train_accuracy
        Of the windows as they were trained on, before the step; None where no genre is known.
    valid_loss, valid_accuracy, valid_tag_macro_average_precision, valid_rmse
        Over validation tracks, of the averaged weights where `training.averaging` asks for them; None where
        there are none with the label. The RMSE is that of genre probabilities against 0 and 1.
    learning_rate
        At the epoch's end.
    seconds
        Training and validation.
    windows_per_second
        Of training alone, over all workers.
    busy_share
        Of the time of training alone, how much passed from the beginning of a step to its end; the rest the device
        waited for batches.
    kept
        Whether its weights are those to keep, as far as the fit has come.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    valid_tag_macro_average_precision: float | None
    valid_rmse: float | None
    learning_rate: float
    seconds: float
    windows_per_second: float
    busy_share: float
    kept: bool


@dataclass(frozen=True)
class FitResult:
    """A fit's last state and its figures.

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
        """Weights of the epoch with the lowest validation loss; of the last where `keep` says so."""
        return self.state.best_weights


def fit(
    model: nn.Module,
    train: FeatureSet,
    valid: FeatureSet | None,
    taxonomy: Taxonomy,
    config: FitConfig,
    *,
    seed: int,
    device: str = "cpu",
    start: TrainingState | None = None,
    on_epoch: Callable[[EpochReport, TrainingState], None] | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    shard: tuple[int, int] = (0, 1),
    soft_labels: LabelWeights | None = None,
) -> FitResult:
    """Fit a network's weights in place, and return the best ones seen.

    The same arguments give the same weights, and a fit resumed from a state those of one that never stopped.

    Parameters
    ----------
    model
        As `build_model` makes it. Its weights are where the fit begins unless `start` is given.
    train, valid
        Without a validation split, or without labels in it, all epochs are run and the last weights kept.
    start
        A state of the same fit to resume from.
    on_epoch
        Called after each epoch, on every worker.
    wrap
        Makes the network data-parallel (DistributedDataParallel); given the network on its device.
    shard
        (rank, world size) of this worker; each gets its part of every batch.
    soft_labels
        A teacher's predictions for every window of `train`, to learn from in place of the labels.

    Raises
    ------
    TrainingError
        No track has a label, features are not finite, the loss ceases to be, or `start` is of another fit.
    """
    part = Shard(*shard)
    to_device(model, device)
    if train.of_statistics:
        require_sound(train)
    elif can_cache_statistics(model, train, config):
        train = cache_statistics(model, train, device)
        valid = cache_statistics(model, valid, device) if valid else None
    elif train.features.content == "waveform":
        raise TrainingError(
            "waveforms are trained on as they are, whole, by members whose statistics never change",
            "set training.crop_seconds = none, and gain_db, mask_frames and mask_frequency_bins to 0",
        )
    view = reading(model, train)
    windows = TrainingWindows(train, taxonomy, config, soft_labels)
    validator = make_validator(valid, taxonomy, config, device, part)
    if validator is None and config.keep == "best":
        logger.warning("no labelled validation track: training all %d epochs, keeping the last", config.epochs)
    optimizer = make_optimizer(model, config)
    state = _begin(model, optimizer, config, seed, start)
    average = WeightAverage(config, state.average, state.averaged)
    trainer = Trainer(model, view, wrap(view), optimizer, windows, config, seed, device, part, average)
    reports: list[EpochReport] = []
    while state.epoch < config.epochs and not _out_of_patience(state, config):
        report = _run_epoch(trainer, validator, state)
        state = _next_state(trainer, state, report)
        reports.append(report)
        if on_epoch:
            on_epoch(report, state)
    return FitResult(state, reports, state.epoch < config.epochs)


@dataclass(frozen=True)
class TrainedEpoch:
    """What an epoch of steps gave: see `EpochReport`."""

    loss: float
    accuracy: float | None
    seconds: float
    busy_share: float


@dataclass(frozen=True)
class Trainer:
    """Trains epochs of a fit.

    Parameters
    ----------
    model, view, parallel
        The network; what takes a batch, which is the network or a `CachedStatisticsNetwork` of it; and the view as
        the caller wrapped it.
    shard
        This worker's part of each batch.
    average
        Of the network's weights along the fit.
    """

    model: nn.Module
    view: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    windows: TrainingWindows
    config: FitConfig
    seed: int
    device: str
    shard: Shard
    average: WeightAverage

    def run(self, finished: int) -> TrainedEpoch:
        """Train the epoch after `finished` ones.

        Raises
        ------
        TrainingError
            The loss is not finite.
        """
        started, busy = time.perf_counter(), BusyTime(self.device)
        steps = self.windows.steps_per_epoch
        read: list[list[float]] = []
        unread: list[Tensor] = []
        self.parallel.train()
        with _seeded(self.device, [self.seed, finished, self.shard.rank]):
            # On a CPU the network has every core already: a thread beside it would only take turns.
            batches = self.windows.epoch_ahead if is_gpu(self.device) else self.windows.epoch
            for step, batch in enumerate(batches(self.seed, finished, self.shard)):
                rate = learning_rate_at(finished * steps + step, steps, self.config)
                set_learning_rate(self.optimizer, rate)
                with busy.step():
                    unread.append(self._step(batch))
                if len(unread) == STEPS_UNREAD or step + 1 == steps:
                    read += self._figures(unread, finished)
                    busy.add_up()
                    unread.clear()
        self.average.after_epoch(self.model, finished + 1)
        losses, right, known = zip(*read, strict=True)
        seconds = time.perf_counter() - started
        accuracy = sum(right) / sum(known) if sum(known) else None
        return TrainedEpoch(float(np.mean(losses)), accuracy, seconds, min(1.0, busy.seconds / seconds))

    def _figures(self, steps: list[Tensor], finished: int) -> list[list[float]]:
        """Return the loss of each step, and how many windows of known genre were right, and are there."""
        figures: list[list[float]] = torch.stack(steps).tolist()
        for value, _, _ in figures:
            if not math.isfinite(value):
                raise TrainingError(
                    f"the training loss became {value} in epoch {finished + 1}",
                    "lower training.learning_rate, or train anew with another training.seed",
                )
        return figures

    def _step(self, batch: Batch) -> Tensor:
        """Make a step; return what `_figures` reads, on the device."""
        loss, *counts = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.average.after_step(self.model)
        return torch.stack([loss.detach(), *counts])

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        batch = batch.to(self.device)
        config = self.config
        with forward_precision(self.device, config.precision):
            half: ModelOutput = self.parallel(batch.log_mel)
        output = ModelOutput(*(part.float() for part in half))
        genre = genre_loss(
            output.genre_logits, batch.genre_weight, batch.genre_total, config.label_smoothing, config.loss
        )
        tag = tag_loss(output.tag_logits, batch.tag_positive, batch.tag_negative, batch.tag_total, config.loss)
        known = batch.genre_weight.sum(dim=1) > 0
        right = known
        if batch.genre_weight.shape[1]:
            right = known & (output.genre_logits.argmax(dim=1) == batch.genre_weight.argmax(dim=1))
        return genre + config.tag_loss_weight * tag, right.sum().to(genre), known.sum().to(genre)


def _begin(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    seed: int,
    start: TrainingState | None,
) -> TrainingState:
    if start is None:
        weights = copy_weights(model)
        return TrainingState(0, seed, weights, weights, None, 0, {}, weights if config.averaging != "none" else {})
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
    return start


def _run_epoch(trainer: Trainer, validator: Validator | None, before: TrainingState) -> EpochReport:
    started = time.perf_counter()
    trained = trainer.run(before.epoch)
    with averaged_weights(trainer.model, trainer.average.weights):
        scores = validator.score(trainer.view) if validator else None
    return EpochReport(
        epoch=before.epoch + 1,
        train_loss=trained.loss,
        train_accuracy=trained.accuracy,
        valid_loss=scores.loss if scores else None,
        valid_accuracy=scores.accuracy if scores else None,
        valid_tag_macro_average_precision=scores.tag_macro_average_precision if scores else None,
        valid_rmse=scores.rmse if scores else None,
        learning_rate=trainer.optimizer.param_groups[0]["lr"],
        seconds=time.perf_counter() - started,
        windows_per_second=len(trainer.windows) / trained.seconds,
        busy_share=trained.busy_share,
        kept=trainer.config.keep == "last" or _is_better(scores.loss if scores else None, before.best_score),
    )


def _is_better(loss: float | None, best: float | None) -> bool:
    return loss is None or best is None or loss < best


def _next_state(trainer: Trainer, before: TrainingState, report: EpochReport) -> TrainingState:
    weights = copy_weights(trainer.model)
    average = {name: tensor.cpu().clone() for name, tensor in trainer.average.weights.items()}
    state = replace(
        before,
        epoch=report.epoch,
        weights=weights,
        optimizer=copy_optimizer(trainer.optimizer),
        average=average,
        averaged=trainer.average.count,
    )
    if not report.kept:
        return state
    return replace(state, best_weights=average or weights, best_score=report.valid_loss, best_epoch=report.epoch)


def _out_of_patience(state: TrainingState, config: FitConfig) -> bool:
    return state.best_score is not None and state.epoch - state.best_epoch >= config.patience


@contextmanager
def _seeded(device: str, entropy: list[int]) -> Iterator[None]:
    """Seed dropout inside, and leave the caller's generators as they were."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        yield
