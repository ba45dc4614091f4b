"""Parts that the networks share: the output, heads, input scaling, segments, the perceptron on fixed statistics.

The papers classify genres with one softmax layer. Here the layer below it is the embedding, with a linear head for
the genre and one for the tags, so that one training loop serves every network.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, cat, nn

from mgc.config.network_settings import Activation, BlockLevelConfig, TransferConfig

CENTRE_DB = -40.0
SPREAD_DB = 20.0
"""Bring decibels in [-80, 0] to [-2, 2] before the batch norm of each mel bin finds the rest."""
MOST_DEVIATIONS = 5.0
"""A statistic farther from its mean than so many standard deviations counts as that far."""
# cuDNN would compute float32 convolutions with ten bits, and a GPU's answers would not be a CPU's.
torch.backends.cudnn.allow_tf32 = False
RNN = {"gru": nn.GRU, "lstm": nn.LSTM, "elman": nn.RNN}
"""By the name of the cell; Elman's (1990) is h = tanh(W x + U h before + b), without gates."""


def states(rnn: nn.Module, frames: Tensor) -> Tensor:
    """Return a recurrent layer's states, shape (batch, n_frames, units), in single precision always.

    Under autocast cuDNN's recurrent layers are float16, whatever is asked for, and small gradients vanish in it.
    """
    with torch.autocast(frames.device.type, enabled=False):
        found: Tensor = rnn(frames.float())[0]
    return found


class ModelOutput(NamedTuple):
    """A network's output for a batch of windows; logits, never probabilities.

    Parameters
    ----------
    genre_logits
        Shape (batch, n_genres), before softmax. n_genres may be 0.
    tag_logits
        Shape (batch, n_tags), before the sigmoid of each. n_tags may be 0.
    embedding
        Shape (batch, embedding_size): the input of both heads.
    """

    genre_logits: Tensor
    tag_logits: Tensor
    embedding: Tensor


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


class EmbeddingNetwork(nn.Module):
    """A network whose subclass maps windows to the embedding, and whose heads do the rest."""

    heads: Heads

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        output: ModelOutput = self.heads(self._embed(log_mel))
        return output

    def _embed(self, log_mel: Tensor) -> Tensor:
        """Map windows to embeddings, shape (batch, embedding_size)."""
        raise NotImplementedError


def activation(name: Activation) -> nn.Module:
    """Return a rectifier: ReLU (Nair & Hinton 2010), or leaky with a slope of 0.01 (Maas et al. 2013)."""
    return nn.LeakyReLU(0.01) if name == "leaky_relu" else nn.ReLU()


class MelScaling(nn.Module):
    """Decibels to numbers around 0, each mel bin by its own mean and deviation.

    The batch norm stands for whatever scaling the papers do, whether or not they describe it.
    """

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_mels)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, n_mels, n_frames)."""
        scaled: Tensor = self.norm((log_mel.transpose(1, 2) - CENTRE_DB) / SPREAD_DB)
        return scaled


def in_segments(frames: Tensor, segment_frames: int) -> Tensor:
    """Cut (batch, n_frames, d) into (batch, n_segments, segment_frames, d), leaving the remainder out.

    A window shorter than a segment is one segment, its last frame repeated. For networks that take a fixed number of
    frames (Jain et al. 2021, §7.2): a window's embedding is the mean of its segments', and, the heads being linear,
    its logits are the mean of theirs.
    """
    missing = segment_frames - frames.shape[1]
    if missing > 0:
        frames = F.pad(frames.transpose(1, 2), (0, missing), mode="replicate").transpose(1, 2)
    n_segments = frames.shape[1] // segment_frames
    kept = frames[:, : n_segments * segment_frames]
    return kept.reshape(len(frames), n_segments, segment_frames, frames.shape[2])


def mean_over_segments(embeddings: Tensor, n_segments: int) -> Tensor:
    """Map (batch * n_segments, d) to (batch, d)."""
    return embeddings.reshape(-1, n_segments, embeddings.shape[1]).mean(dim=1)


class Statistics(nn.Module):
    """Maps windows, (batch, n_frames, n_mels) in dB, to (batch, sum(sizes)); nothing in it is learnt.

    `sizes` are those of its groups, side by side.
    """

    sizes: tuple[int, ...]


class RunningScaling(nn.Module):
    """Each value by its mean and deviation over the `n_seen` windows of training so far.

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
            self._update(values)
        scaled = (values - self.mean) / (self.variance + 1e-5).sqrt()
        return scaled.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _update(self, values: Tensor) -> None:
        """Join the batch's mean and variance to those before (Chan, Golub & LeVeque 1983)."""
        count = len(values)
        every = self.n_seen + count
        delta = values.mean(dim=0) - self.mean
        spread = self.n_seen * self.variance + count * values.var(dim=0, correction=0)
        self.variance.copy_((spread + delta.square() * self.n_seen * count / every) / every)
        self.mean.add_(delta * count / every)
        self.n_seen.copy_(every)


class StatisticsNetwork(nn.Module):
    """A perceptron on fixed statistics of a window: one hidden layer, the embedding, is what training fits.

    Every group of statistics weighs alike, however many values it has. Where training changes no window, the
    statistics can be computed once for a whole fit: see `mgc.training.cached_statistics`.

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

    def __init__(
        self, statistics: Statistics, config: BlockLevelConfig | TransferConfig, n_genres: int, n_tags: int
    ) -> None:
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
        # Sums of squares and quantiles need more than bfloat16's eight bits.
        with torch.autocast(log_mel.device.type, enabled=False):
            statistics = self.statistics(log_mel)
        return self.forward_statistics(statistics)

    def forward_statistics(self, statistics: Tensor) -> ModelOutput:
        """Map statistics of windows, shape (batch, sum(sizes))."""
        output: ModelOutput = self.heads(self.hidden(self.scaling(statistics) * self.weights))
        return output
