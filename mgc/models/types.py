"""What passes out of a network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
