"""AdamW (Loshchilov & Hutter 2019) with a linear warm-up and a cosine to zero."""

from __future__ import annotations

import math

import torch
from torch import nn

from mgc.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW; weight decay falls on matrices and filters, not on biases and norms."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate_at(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step, counted from 0 over all epochs.

    It rises linearly over `warmup_epochs` and falls along a half cosine over the rest of `epochs`. Where the
    warm-up would fill all epochs it is cut to half of them.
    """
    warmup = min(config.warmup_epochs, config.epochs // 2) * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    rest = max(1, config.epochs * steps_per_epoch - warmup)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warmup) / rest)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
