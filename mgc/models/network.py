"""What the networks of the literature share here: decibels brought to scale, two heads on one embedding.

The papers classify genres with one softmax layer. Here the layer below it is the embedding, with a head for
the genre and one for the tags, so that every network answers the same questions, and is trained by the same
loop. The other addition to each is the batch norm of the mel bins at the input, which stands for whatever
scaling the papers do and do not tell of.
"""

from __future__ import annotations

from torch import Tensor, nn

from mgc.config.network_settings import Activation
from mgc.models.layers import ClassificationHead
from mgc.models.types import ModelOutput

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
