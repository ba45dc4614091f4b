"""The average of a network's weights along its way: flatter, and often better, than where it stops.

Over steps, exponentially (Polyak & Juditsky 1992; Tarvainen & Valpola 2017), or over the epochs of the later part
of a fit (SWA, Izmailov et al. 2018). Batch norm's running statistics are averaged as the weights are.
"""

from __future__ import annotations

import torch
from torch import nn

from mgc.config import FitConfig
from mgc.training.state import Tensors, copy_weights


class WeightAverage:
    """An average of weights and running statistics, on the CPU.

    Parameters
    ----------
    config
        Kind and pace.
    weights, count
        An average of so many weights to go on from.
    """

    def __init__(self, config: FitConfig, weights: Tensors, count: int) -> None:
        self._config = config
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        self.count = count

    def after_step(self, model: nn.Module) -> None:
        """Take a step's weights in."""
        if self.weights and self._config.averaging == "ema":
            # In the first steps the mean of all, so that the random beginning is soon forgotten.
            decay = min(self._config.ema_decay, self.count / (self.count + 1))
            self._take(model.state_dict(), 1.0 - decay)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Take an epoch's weights in; `epoch` is counted from 1."""
        if not self.weights or self._config.averaging != "swa":
            return
        if epoch <= self._config.swa_start * self._config.epochs:
            self.weights = copy_weights(model)
        else:
            self._take(model.state_dict(), 1.0 / (self.count + 1))

    def _take(self, weights: Tensors, part: float) -> None:
        self.count += 1
        for name, tensor in weights.items():
            here = tensor.detach().cpu()
            if here.is_floating_point():
                self.weights[name].lerp_(here, part)
            else:
                self.weights[name].copy_(here)


class Averaged:
    """Puts averaged weights, if there are any, into a network for as long as a `with` lasts."""

    def __init__(self, model: nn.Module, weights: Tensors) -> None:
        self._model = model
        self._weights = weights
        self._own: Tensors = {}

    def __enter__(self) -> nn.Module:
        if self._weights:
            self._own = copy_weights(self._model)
            self._load(self._weights)
        return self._model

    def __exit__(self, *_: object) -> None:
        if self._weights:
            self._load(self._own)

    def _load(self, weights: Tensors) -> None:
        with torch.no_grad():
            self._model.load_state_dict(weights)
