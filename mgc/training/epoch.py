"""One pass over the training windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mgc.config import FitConfig
from mgc.errors import TrainingError
from mgc.models.layers import ModelOutput
from mgc.training.average import WeightAverage
from mgc.training.batches import Batch, Shard, TrainingWindows
from mgc.training.losses_part import genre_loss, tag_loss
from mgc.training.optim import learning_rate_at, set_learning_rate

MAX_GRADIENT_NORM = 5.0
"""Longer gradients are shortened: recurrent networks have cliffs (Pascanu et al. 2013)."""


@dataclass(frozen=True)
class Trainer:
    """What an epoch works with.

    Parameters
    ----------
    model, view, parallel
        The network; what is given a batch, which is the network or, where its statistics are kept, what is told them;
        and the same as the caller wrapped it.
    shard
        This worker's part of each batch.
    average
        Of the network's weights along the way.
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

    def run(self, finished: int) -> float:
        """Train the epoch after `finished` ones and return the mean loss over its batches.

        Raises
        ------
        TrainingError
            The loss is not finite.
        """
        steps = self.windows.steps_per_epoch
        losses = []
        self.parallel.train()
        with _seeded(self.device, [self.seed, finished, self.shard.rank]):
            for step, batch in enumerate(self.windows.epoch(self.seed, finished, self.shard)):
                rate = learning_rate_at(finished * steps + step, steps, self.config)
                set_learning_rate(self.optimizer, rate)
                losses.append(self._step(batch, finished))
        self.average.after_epoch(self.model, finished + 1)
        return float(np.mean(losses))

    def _step(self, batch: Batch, finished: int) -> float:
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the training loss became {value} in epoch {finished + 1}",
                "lower training.learning_rate, or train anew with another training.seed",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.average.after_step(self.model)
        return value

    def _loss(self, batch: Batch) -> Tensor:
        batch = batch.to(self.device)
        output: ModelOutput = self.parallel(batch.log_mel)
        genre = genre_loss(output.genre_logits, batch.genre_weight, batch.genre_total, self.config.label_smoothing)
        tag = tag_loss(output.tag_logits, batch.tag_positive, batch.tag_negative, batch.tag_total)
        return genre + self.config.tag_loss_weight * tag


@contextmanager
def _seeded(device: str, entropy: list[int]) -> Iterator[None]:
    """Seed dropout inside, and leave the caller's generators as they were."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        yield
