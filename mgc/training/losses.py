"""Label weights and the losses that are linear in them.

A known label weighs 1 (times its class weight), an unknown one 0. The mixture of two tracks (mixup) is the mixture of
their weights, and whatever is not known drops out by itself.

Each loss is a sum over what is known, divided by a total that the caller gives: the weight of the whole batch, also
where a data-parallel worker holds only a part of it, so that the mean of the workers' gradients is the gradient of
the whole. A batch that knows nothing gives 0, with a gradient of 0.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mgc.arrays import Float32Array, IntArray
from mgc.config.taxonomy import UNKNOWN, Taxonomy
from mgc.tables.feature_shards import FeatureSet

logger = logging.getLogger(__name__)

MAX_CLASS_WEIGHT = 10.0
"""A genre's weight lies within this factor of 1: a handful of tracks must not drown all others."""


@dataclass(frozen=True)
class LabelArrays:
    """The labels of tracks by a taxonomy.

    Parameters
    ----------
    genres
        Genre index, `UNKNOWN` where it is not known, shape (n_tracks,).
    tags
        Multi-hot, of any type, shape (n_tracks, n_tags).
    tags_known
        Shape (n_tracks,); where False the row of `tags` is unknown.
    """

    genres: IntArray
    tags: npt.NDArray[Any]
    tags_known: npt.NDArray[np.bool_]

    @property
    def genre_known(self) -> npt.NDArray[np.bool_]:
        """Shape (n_tracks,)."""
        known: npt.NDArray[np.bool_] = self.genres != UNKNOWN
        return known

    def rows(self, rows: IntArray) -> LabelArrays:
        """Return those of some tracks, in their order."""
        return LabelArrays(self.genres[rows], self.tags[rows], self.tags_known[rows])

    def weighted(self, genre_weights: Float32Array) -> LabelWeights:
        """Return what the labels weigh in the losses, each genre's by its own weight, shape (n_genres,)."""
        known = np.flatnonzero(self.genre_known)
        genre = np.zeros((len(self.genres), len(genre_weights)), np.float32)
        genre[known, self.genres[known]] = genre_weights[self.genres[known]]
        tags, tags_known = (part.astype(np.float32) for part in (self.tags, self.tags_known[:, np.newaxis]))
        return LabelWeights(genre, tags * tags_known, (1.0 - tags) * tags_known)

    def useful(self) -> npt.NDArray[np.bool_]:
        """Return which tracks have anything to learn from, shape (n_tracks,)."""
        tagged: npt.NDArray[np.bool_] = self.tags_known & (self.tags.shape[1] > 0)
        return self.genre_known | tagged


@dataclass(frozen=True)
class LabelWeights:
    """Weights of each track's labels in the losses; all float32.

    Parameters
    ----------
    genre
        Shape (n_tracks, n_genres).
    tag_positive, tag_negative
        Shape (n_tracks, n_tags).
    """

    genre: Float32Array
    tag_positive: Float32Array
    tag_negative: Float32Array

    @property
    def genre_total(self) -> float:
        """Label weight of all genres."""
        return float(self.genre.sum())

    @property
    def tag_total(self) -> float:
        """Label weight of all tags, positive and negative."""
        return float(self.tag_positive.sum() + self.tag_negative.sum())

    def rows(self, rows: IntArray) -> LabelWeights:
        """Return those of some rows, in their order."""
        return LabelWeights(self.genre[rows], self.tag_positive[rows], self.tag_negative[rows])

    def mixed(self, partner: IntArray, own_part: Float32Array) -> LabelWeights:
        """Return `own_part` of each row's weight and the rest of its partner's."""
        part = own_part[:, np.newaxis]
        return mix(self, self.rows(partner), part, part)

    def overlaid(self, partners: LabelWeights) -> LabelWeights:
        """Return the label weights where `partners` sound at the same time; a row's partner may be itself.

        A tag that either has is there, one that both lack is not, and of others nothing is known. The genre is
        the same by choice.
        """
        positive = np.maximum(self.tag_positive, partners.tag_positive)
        return LabelWeights(self.genre, positive, np.minimum(self.tag_negative, partners.tag_negative))

    def blended(self, rows: npt.NDArray[np.bool_], unclear: npt.NDArray[np.bool_]) -> LabelWeights:
        """Return the label weights where `rows` are sums of any two tracks: nothing is known of their genre.

        Nor of the tags marked in `unclear`, shape (n_tags,), which are not of the kind 'is audible in it'.
        """
        known = ~rows[:, np.newaxis]
        tags_known = known | ~unclear
        return LabelWeights(self.genre * known, self.tag_positive * tags_known, self.tag_negative * tags_known)


def mix(own: LabelWeights, other: LabelWeights, genre_part: Float32Array, tag_part: Float32Array) -> LabelWeights:
    """Return a part of `own` in each row and the rest of `other`; parts of shape (n_rows, 1)."""
    return LabelWeights(
        genre_part * own.genre + (1.0 - genre_part) * other.genre,
        tag_part * own.tag_positive + (1.0 - tag_part) * other.tag_positive,
        tag_part * own.tag_negative + (1.0 - tag_part) * other.tag_negative,
    )


def encode_labels(features: FeatureSet, taxonomy: Taxonomy, tag_type: type = np.float32) -> LabelArrays:
    """Return the labels of a feature set; a genre that the taxonomy lacks counts as unknown, with a warning."""
    strange = sorted({genre for genre in features.genres if genre and genre not in taxonomy.genres})
    if strange:
        logger.warning("genre(s) not in split 'train' are left out: %s", ", ".join(strange))
    genres = [taxonomy.genre_index(None if genre in strange else genre) for genre in features.genres]
    tags: npt.NDArray[Any] = np.zeros((len(features), len(taxonomy.tags)), tag_type)
    for row, names in enumerate(features.tags):
        tags[row] = taxonomy.tag_vector(names)
    return LabelArrays(np.array(genres, dtype=np.int64), tags, np.array(features.tags_known, dtype=bool))


def weigh_labels(labels: LabelArrays, n_genres: int, class_weights: bool) -> LabelWeights:
    """Return the label weights of labels; `class_weights` makes every genre count alike in sum."""
    return labels.weighted(genre_weights(labels.genres[labels.genre_known & class_weights], n_genres))


def genre_weights(genres: IntArray, n_genres: int) -> Float32Array:
    """Return weights inverse to frequency, 1 for balanced genres and for one never seen, shape (n_genres,)."""
    counts = np.bincount(genres, minlength=n_genres)
    present = max(1, np.count_nonzero(counts))
    weights = np.where(counts, genres.size / (present * np.maximum(counts, 1)), 1.0)
    return np.clip(weights, 1.0 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT).astype(np.float32)


Kind = Literal["cross_entropy", "squared_error"]


def genre_loss(
    logits: Tensor, weight: Tensor, total: float, label_smoothing: float = 0.0, kind: Kind = "cross_entropy"
) -> Tensor:
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
    kind
        "squared_error": ½ ‖d − y‖² with the label's vector d and the probabilities y (He & Li 2024, eq. 3); of a
        mixture of labels their mean.
    """
    if not logits.shape[1]:
        return logits.sum()
    spread = weight.sum(dim=1, keepdim=True) / weight.shape[1]
    smoothed = (1.0 - label_smoothing) * weight + label_smoothing * spread
    if kind == "cross_entropy":
        return -(smoothed * F.log_softmax(logits, dim=1)).sum() / (total or 1.0)
    probabilities = logits.softmax(dim=1)
    to_nothing = 0.5 * smoothed.sum(dim=1) * (1.0 + probabilities.square().sum(dim=1))
    return (to_nothing.sum() - (smoothed * probabilities).sum()) / (total or 1.0)


def tag_loss(
    logits: Tensor, positive: Tensor, negative: Tensor, total: float, kind: Kind = "cross_entropy"
) -> Tensor:
    """Return the binary cross-entropy, or half the squared error, a mean over the known (row, tag) pairs.

    Parameters
    ----------
    logits
        Shape (batch, n_tags).
    positive, negative
        Weight of each tag's being so, and of its not being so, both 0 where unknown, shape (batch, n_tags).
    total
        What the sum is divided by; 0 where nothing is known.
    """
    if kind == "cross_entropy":
        return (positive * F.softplus(-logits) + negative * F.softplus(logits)).sum() / (total or 1.0)
    squares = positive * torch.sigmoid(-logits).square() + negative * torch.sigmoid(logits).square()
    return 0.5 * squares.sum() / (total or 1.0)
