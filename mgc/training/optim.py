"""Optimizers, the learning rate over time, and the average of weights.

SGD with Nesterov momentum (Sutskever et al. 2013), Adagrad (Duchi et al. 2011), Adadelta (Zeiler 2012), Adam
(Kingma & Ba 2015): the four of Jain et al. (2021, §4.2); and AdamW (Loshchilov & Hutter 2019), the default. A
linear warm-up, then a half cosine to zero (Loshchilov & Hutter 2017), a line to zero, two steps down (He et al.
2016) or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mgc.config import FitConfig
from mgc.training.state import Tensors, copy_weights

STEP_FACTOR = 0.1
STEPS_AT = (0.5, 0.75)


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Return the optimizer; weight decay falls on matrices and filters, not on biases and norms.

    AdamW's decay is decoupled from the gradient, that of the others is an L2 term in the loss (Guo 2024, §4.2).
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0)
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return kinds[config.optimizer](groups, lr=rate)


def learning_rate_at(step: int, steps_per_epoch: int, config: FitConfig) -> float:
    """Return the learning rate of a step, counted from 0 over all epochs.

    It rises linearly over `warmup_epochs`; over the rest of `epochs` it follows `schedule`. Where the warm-up
    would fill all epochs it is cut to half of them.
    """
    warmup = min(config.warmup_epochs, config.epochs // 2) * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    rest = max(1, config.epochs * steps_per_epoch - warmup)
    return config.learning_rate * _share(min(1.0, (step - warmup) / rest), config)


def _share(done: float, config: FitConfig) -> float:
    """Return what is left of the learning rate after a part of the epochs, 0 to 1."""
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "step":
        return STEP_FACTOR ** sum(done >= place for place in STEPS_AT)
    return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


class WeightAverage:
    """An average of a network's weights along the fit, on its device: flatter, and often better, than where it stops.

    Over steps, exponentially (Polyak & Juditsky 1992; Tarvainen & Valpola 2017), or over the epochs of the later part
    of a fit (SWA, Izmailov et al. 2018). Batch norm's running statistics are averaged as the weights are.

    Parameters
    ----------
    config
        Kind and pace.
    weights, count
        An average of so many weights to resume from.
    """

    def __init__(self, config: FitConfig, weights: Tensors, count: int) -> None:
        self._config = config
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        self.count = count

    def after_step(self, model: nn.Module) -> None:
        """Add a step's weights."""
        if self.weights and self._config.averaging == "ema":
            # In the first steps the mean of all, so that the random beginning is soon forgotten.
            decay = min(self._config.ema_decay, self.count / (self.count + 1))
            self._add(model.state_dict(), 1.0 - decay)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Add an epoch's weights; `epoch` is counted from 1."""
        if not self.weights or self._config.averaging != "swa":
            return
        if epoch <= self._config.swa_start * self._config.epochs:
            self.weights = copy_weights(model)
        else:
            self._add(model.state_dict(), 1.0 / (self.count + 1))

    def _add(self, weights: Tensors, part: float) -> None:
        self.count += 1
        for name, tensor in weights.items():
            here = tensor.detach()
            mine = self.weights[name] = self.weights[name].to(here.device)
            if here.is_floating_point():
                mine.lerp_(here, part)
            else:
                mine.copy_(here)


@contextmanager
def averaged_weights(model: nn.Module, average: Tensors) -> Iterator[None]:
    """Put averaged weights, if there are any, into a network for as long as a `with` lasts."""
    if not average:
        yield
        return
    own = copy_weights(model)
    model.load_state_dict(average)
    try:
        yield
    finally:
        model.load_state_dict(own)
