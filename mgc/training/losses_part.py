"""Masked losses on logits, linear in the label weights of `training.labels`.

Each is a sum over what is known, divided by a total that the caller gives: the weight of the whole batch, also
where a data-parallel worker holds only a part of it, so that the mean of the workers' gradients is the
gradient of the whole. A batch that knows nothing gives 0, with a gradient of 0.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def genre_loss(logits: Tensor, weight: Tensor, total: float, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy over what weight there is.

    Parameters
    ----------
    logits
        Shape (batch, n_genres).
    weight
        Weight of each genre in each row, 0 throughout where the genre is unknown, shape (batch, n_genres).
    total
        What the sum is divided by; 0 where nothing is known.
    label_smoothing
        Part of a row's weight spread over all genres alike (Szegedy et al. 2016).
    """
    if not logits.shape[1]:
        return logits.sum()
    spread = weight.sum(dim=1, keepdim=True) / weight.shape[1]
    smoothed = (1.0 - label_smoothing) * weight + label_smoothing * spread
    return -(smoothed * F.log_softmax(logits, dim=1)).sum() / (total or 1.0)


def tag_loss(logits: Tensor, positive: Tensor, negative: Tensor, total: float) -> Tensor:
    """Return the binary cross-entropy, a mean over the known (row, tag) pairs.

    Parameters
    ----------
    logits
        Shape (batch, n_tags).
    positive, negative
        Weight of each tag's being so, and of its not being so, both 0 where unknown, shape (batch, n_tags).
    total
        What the sum is divided by; 0 where nothing is known.
    """
    return (positive * F.softplus(-logits) + negative * F.softplus(logits)).sum() / (total or 1.0)
