"""How good a network is on the validation split, track by track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from sklearn.metrics import f1_score
from torch import Tensor, nn

from mgc.arrays import FloatingArray
from mgc.config import FitConfig
from mgc.config.taxonomy import Taxonomy
from mgc.models.forward import member_outputs
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import Shard, require_sound
from mgc.training.losses import LabelArrays, LabelWeights, encode_labels, genre_loss, tag_loss, weigh_labels

# Figures over tracks that training shows and a bundle carries; the honest report is `evaluation`'s.
#
# Precision averaged over recall levels (scikit-learn's average precision) stands for the area under the
# precision-recall curve; macro means are over the genres or tags that occur.

MOST_BINS, TRACKS_A_BIN = 15, 5


def genre_accuracy(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the part of tracks of known genre whose highest score is theirs; None where no genre is known.

    Parameters
    ----------
    scores
        Logits or probabilities, shape (n_tracks, n_genres).
    """
    known = labels.genre_known
    if not known.any() or not scores.shape[1]:
        return None
    return float(np.mean(scores[known].argmax(axis=1) == labels.genres[known]))


def genre_macro_f1(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean F1 over the genres that occur; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not scores.shape[1]:
        return None
    truth = labels.genres[known]
    predicted = scores[known].argmax(axis=1)
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0))


def tag_macro_average_precision(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean average precision over the tags that some, but not all, known tracks have; else None."""
    truth, known_scores = labels.tags[labels.tags_known], scores[labels.tags_known]
    counts = truth.sum(axis=0)
    usable = np.flatnonzero((counts > 0) & (counts < len(truth)))
    if not usable.size:
        return None
    return float(average_precisions(known_scores[:, usable], truth[:, usable]).mean())


def average_precisions(scores: FloatingArray, truth: FloatingArray) -> npt.NDArray[np.float64]:
    """Return the average precision of each column: scikit-learn's, of all columns at once.

    After every epoch, of two thousand tags, a call for each would take longer than the epoch.

    Parameters
    ----------
    scores, truth
        Shape (n_tracks, n_tags); `truth` is 0 or 1, with a 1 in every column.

    Returns
    -------
    ndarray
        Sum over thresholds of (R_n - R_{n-1}) P_n; equal scores are one threshold. Shape (n_tags,).
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    found = np.take_along_axis(truth, order, axis=0).cumsum(axis=0, dtype=np.float64)
    precision = found / np.arange(1, len(scores) + 1)[:, np.newaxis]
    is_threshold = np.ones(scores.shape, dtype=bool)
    is_threshold[:-1] = ranked[1:] != ranked[:-1]
    reached = np.where(is_threshold, found, 0.0)
    before = np.zeros_like(reached)
    before[1:] = np.maximum.accumulate(reached, axis=0)[:-1]
    gained = np.where(is_threshold, (found - before) * precision, 0.0)
    return np.asarray(gained.sum(axis=0) / found[-1])


def genre_log_loss(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean of −log of the true genre's probability, in nats; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    true = probabilities[known][np.arange(np.count_nonzero(known)), labels.genres[known]]
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())


def genre_calibration_error(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the expected calibration error of the likeliest genre (Naeini et al. 2015), as `mgc evaluate` has it.

    Over at most 15 bins of equally many tracks, 5 or more. None where no genre is known.
    """
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = probabilities[known].argmax(axis=1) == labels.genres[known]
    order = np.argsort(confidence, kind="stable")
    bins = max(1, min(MOST_BINS, len(order) // TRACKS_A_BIN))
    place = np.arange(len(order)) * bins // len(order)
    gaps = np.bincount(place, weights=(right - confidence)[order])
    return float(np.abs(gaps).sum() / len(order))


def genre_rmse(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the root of the mean squared error against 0 and 1 (Jain et al. 2021, Table 2); None as above."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    truth = np.eye(probabilities.shape[1])[labels.genres[known]]
    return float(np.sqrt(np.mean(np.square(probabilities[known] - truth))))


@dataclass(frozen=True)
class ValidationScores:
    """Figures over tracks, from the mean logits of each one's windows.

    Parameters
    ----------
    loss
        Genre cross-entropy plus weighted tag cross-entropy, without smoothing or class weights.
    accuracy, tag_macro_average_precision, rmse
        None where no label is known.
    """

    loss: float
    accuracy: float | None
    tag_macro_average_precision: float | None
    rmse: float | None


def make_validator(
    valid: FeatureSet | None, taxonomy: Taxonomy, config: FitConfig, device: str, shard: Shard
) -> Validator | None:
    """Return what scores a network on the validation split; None where no track there has a label.

    Raises
    ------
    TrainingError
        A track's features are not finite.
    """
    if not valid:
        return None
    labels = encode_labels(valid, taxonomy)
    if not labels.useful().any():
        return None
    require_sound(valid)
    label_weights = weigh_labels(labels, len(taxonomy.genres), class_weights=False)
    spread = shard.world_size > 1 and torch.distributed.is_available() and torch.distributed.is_initialized()
    return Validator(
        valid.log_mels, labels, label_weights, config.tag_loss_weight, device, shard if spread else Shard()
    )


@dataclass(frozen=True)
class Validator:
    """Scores a network on the validation split.

    Parameters
    ----------
    log_mels, labels, label_weights
        Of the tracks.
    shard
        Each worker scores its part of the tracks and all get all scores, the same to the last bit: they must
        not disagree on when to stop.
    """

    log_mels: list[npt.NDArray[np.float16]]
    labels: LabelArrays
    label_weights: LabelWeights
    tag_loss_weight: float
    device: str
    shard: Shard

    def score(self, model: nn.Module) -> ValidationScores:
        """Return the figures; leaves the network in evaluation mode."""
        genre_logits, tag_logits = self._logits(model)
        label_weights = self.label_weights
        positive, negative = (
            torch.from_numpy(label_weights.tag_positive),
            torch.from_numpy(label_weights.tag_negative),
        )
        loss = genre_loss(genre_logits, torch.from_numpy(label_weights.genre), label_weights.genre_total)
        tags = tag_loss(tag_logits, positive, negative, label_weights.tag_total)
        return ValidationScores(
            loss=float(loss + self.tag_loss_weight * tags),
            accuracy=genre_accuracy(genre_logits.numpy(), self.labels),
            tag_macro_average_precision=tag_macro_average_precision(tag_logits.numpy(), self.labels),
            rmse=genre_rmse(torch.softmax(genre_logits, dim=1).numpy(), self.labels),
        )

    def _logits(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        rank, world_size = self.shard.rank, self.shard.world_size
        outputs = member_outputs(model, self.log_mels[rank::world_size], device=self.device)
        n_genres, n_tags = self.label_weights.genre.shape[1], self.label_weights.tag_positive.shape[1]
        own = np.concatenate([outputs.genre_logits, outputs.tag_logits], axis=1)
        logits = torch.zeros(len(self.log_mels), n_genres + n_tags)
        if own.shape[0]:
            logits[rank::world_size] = torch.from_numpy(own)
        if world_size > 1:
            shared = logits.to(self.device)
            torch.distributed.all_reduce(shared)
            logits = shared.cpu()
        return logits[:, :n_genres], logits[:, n_genres:]
