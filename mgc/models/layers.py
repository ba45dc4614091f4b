"""Parts of the CRNN: squeeze-excitation, the residual gated linear unit around it, attention over time.

Sources: gated linear units, Dauphin et al., "Language Modeling with Gated Convolutional Networks" (2017);
squeeze-excitation, Hu et al. (2018), and in 1-D music networks Kim, Lee & Nam (2018); both joined in the
RGLU-SE block and followed by a bidirectional RNN with attention, He & Li (2024) §4.1; additive attention,
Bahdanau, Cho & Bengio (2015).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, cat, nn

from mgc.config.network_settings import Activation


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from all channels' means over time.

    Parameters
    ----------
    channels
        Channels in and out.
    reduction
        The gate's hidden layer has channels // reduction units, at least 4.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, channels, n_frames) to the same shape."""
        return frames * self.gate(frames.mean(dim=2)).unsqueeze(2)

    def gate(self, means: Tensor) -> Tensor:
        """Map the channels' means over time, shape (batch, channels), to a factor for each."""
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class GatedResidual(nn.Module):
    """RGLU-SE: convolution, batch norm, gated linear unit, squeeze-excitation, added to the input, pooled.

    Parameters
    ----------
    channels
        Channels in and out.
    kernel_size
        Frames that the convolution sees.
    se_reduction
        See `SqueezeExcitation`.
    pool_size
        Frames merged by a maximum at the end; a remainder makes a shorter last group.
    dropout
        Part of the channels zeroed for a whole window while training.
    """

    def __init__(self, channels: int, kernel_size: int, se_reduction: int, pool_size: int, dropout: float) -> None:
        super().__init__()
        # The batch norm's own shift makes a bias redundant.
        self.conv = nn.Conv1d(channels, 2 * channels, kernel_size, padding="same", bias=False)
        self.norm = nn.BatchNorm1d(2 * channels)
        self.gate = nn.GLU(dim=1)
        self.squeeze_excitation = SqueezeExcitation(channels, se_reduction)
        self.dropout = nn.Dropout1d(dropout)
        self.pool = nn.MaxPool1d(pool_size, ceil_mode=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, channels, n_frames) to (batch, channels, ceil(n_frames / pool_size))."""
        change = self.squeeze_excitation(self.gate(self.norm(self.conv(frames))))
        pooled: Tensor = self.pool(frames + self.dropout(change))
        return pooled


class AdditiveAttention(nn.Module):
    """A weighted mean over time, the weights a softmax of v·tanh(W h) (Bahdanau et al. 2015, eq. 6).

    Parameters
    ----------
    size
        Of each frame's vector.
    hidden
        Of the scoring layer.
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, n_frames, size) to (batch, size)."""
        weights = torch.softmax(self.score(torch.tanh(self.project(frames))), dim=1)
        return (weights * frames).sum(dim=1)


class ClassificationHead(nn.Module):
    """A linear layer to `n_labels` logits; for 0 labels nothing, of shape (batch, 0)."""

    def __init__(self, size: int, n_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, n_labels) if n_labels else None

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (batch, size) to (batch, n_labels)."""
        if self.linear is None:
            return embedding[:, :0]
        logits: Tensor = self.linear(embedding)
        return logits


# What passes out of a network.


class ModelOutput(NamedTuple):
    """What a network says of a batch of windows; logits, never probabilities.

    Parameters
    ----------
    genre_logits
        Shape (batch, n_genres), before softmax. n_genres may be 0.
    tag_logits
        Shape (batch, n_tags), before the sigmoid of each. n_tags may be 0.
    embedding
        Shape (batch, embedding_size): what both heads read.
    """

    genre_logits: Tensor
    tag_logits: Tensor
    embedding: Tensor


# What the networks of the literature share here: decibels brought to scale, two heads on one embedding.
#
# The papers classify genres with one softmax layer. Here the layer below it is the embedding, with a head for
# the genre and one for the tags, so that every network answers the same questions, and is trained by the same
# loop. The other addition to each is the batch norm of the mel bins at the input, which stands for whatever
# scaling the papers do and do not tell of.

CENTRE_DB = -40.0
SPREAD_DB = 20.0
"""Bring decibels in [-80, 0] to [-2, 2] before the batch norm of each mel bin finds the rest."""


def activation(name: Activation) -> nn.Module:
    """Return a rectifier: ReLU (Nair & Hinton 2010), or leaky with a slope of 0.01 (Maas et al. 2013)."""
    return nn.LeakyReLU(0.01) if name == "leaky_relu" else nn.ReLU()


class MelScaling(nn.Module):
    """Decibels to numbers around 0, each mel bin by its own mean and deviation."""

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_mels)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, n_mels, n_frames)."""
        scaled: Tensor = self.norm((log_mel.transpose(1, 2) - CENTRE_DB) / SPREAD_DB)
        return scaled


class Heads(nn.Module):
    """Dropout of the embedding, then a linear layer to the genres and one to the tags."""

    def __init__(self, embedding_size: int, n_genres: int, n_tags: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.genre = ClassificationHead(embedding_size, n_genres)
        self.tag = ClassificationHead(embedding_size, n_tags)

    def forward(self, embedding: Tensor) -> ModelOutput:
        """Map (batch, embedding_size) to logits."""
        kept = self.dropout(embedding)
        return ModelOutput(self.genre(kept), self.tag(kept), embedding)


# A perceptron on statistics of a window in which nothing is learnt: one hidden layer is what training fits.
#
# What is fixed can be computed once for a whole fit, where chance changes nothing about the windows: see
# `mgc.training.cached_statistics`.

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
    n_seen: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("n_seen", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, size) to the same shape."""
        if self.training:
            self._take_in(values)
        scaled = (values - self.mean) / (self.variance + 1e-5).sqrt()
        return scaled.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _take_in(self, values: Tensor) -> None:
        """Join the batch's mean and variance to those before (Chan, Golub & LeVeque 1983)."""
        count = len(values)
        every = self.n_seen + count
        delta = values.mean(dim=0) - self.mean
        spread = self.n_seen * self.variance + count * values.var(dim=0, correction=0)
        self.variance.copy_((spread + delta.square() * self.n_seen * count / every) / every)
        self.mean.add_(delta * count / every)
        self.n_seen.copy_(every)


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
