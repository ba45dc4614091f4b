"""A perceptron on statistics of a window in which nothing is learnt: one hidden layer is what training fits.

What is fixed can be computed once for a whole fit, where chance changes nothing about the windows: see
`mgc.training.cached_statistics`.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, cat, nn

from mgc.config.network_settings import Activation
from mgc.models.network import Heads, activation
from mgc.models.types import ModelOutput

MOST_DEVIATIONS = 5.0
"""A statistic farther from its mean than so many standard deviations counts as that far."""


class PerceptronConfig(Protocol):
    """Settings of the perceptron, as `BlockLevelConfig` and `TransferConfig` have them."""

    @property
    def input_dropout(self) -> float:
        """Of the statistics."""

    @property
    def dropout(self) -> float:
        """Of the embedding."""

    @property
    def activation(self) -> Activation:
        """Of the hidden layer."""

    @property
    def embedding_size(self) -> int:
        """Units of the hidden layer."""


class Statistics(nn.Module):
    """What maps windows, (batch, n_frames, n_mels) in dB, to (batch, sum(sizes)); nothing in it is learnt.

    `sizes` are those of its groups, side by side.
    """

    sizes: tuple[int, ...]


class RunningScaling(nn.Module):
    """Each value by its mean and deviation over all that was seen in training, so far.

    Not a batch norm: a window's answer does not depend on its batch, and a batch of one is enough.
    """

    mean: Tensor
    variance: Tensor
    heard: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("heard", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, size) to the same shape."""
        if self.training:
            self._take_in(values)
        scaled = (values - self.mean) / (self.variance + 1e-5).sqrt()
        return scaled.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _take_in(self, values: Tensor) -> None:
        """Join the batch's mean and variance to those before (Chan, Golub & LeVeque 1983)."""
        count = len(values)
        every = self.heard + count
        delta = values.mean(dim=0) - self.mean
        spread = self.heard * self.variance + count * values.var(dim=0, correction=0)
        self.variance.copy_((spread + delta.square() * self.heard * count / every) / every)
        self.mean.add_(delta * count / every)
        self.heard.copy_(every)


class StatisticsNetwork(nn.Module):
    """Log-mel windows to genre logits, tag logits and an embedding: the hidden layer.

    Every group of statistics weighs alike, however many values it has.

    Parameters
    ----------
    statistics
        Of a window.
    config
        Of the perceptron on them.
    n_genres, n_tags
        Outputs of the heads; either may be 0.
    """

    weights: Tensor

    def __init__(self, statistics: Statistics, config: PerceptronConfig, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.statistics = statistics
        sizes = statistics.sizes
        self.scaling = RunningScaling(sum(sizes))
        alike = [torch.full((size,), math.sqrt(sum(sizes) / (len(sizes) * size))) for size in sizes]
        self.register_buffer("weights", cat(alike), persistent=False)
        self.hidden = nn.Sequential(
            nn.Dropout(config.input_dropout),
            nn.Linear(sum(sizes), config.embedding_size),
            nn.LayerNorm(config.embedding_size),
            activation(config.activation),
        )
        self.heads = Heads(config.embedding_size, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        return self.forward_statistics(self.statistics(log_mel))

    def forward_statistics(self, statistics: Tensor) -> ModelOutput:
        """Answer for windows of which the statistics are known, shape (batch, sum(sizes))."""
        output: ModelOutput = self.heads(self.hidden(self.scaling(statistics) * self.weights))
        return output
