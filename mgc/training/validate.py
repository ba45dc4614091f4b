"""How good a network is on the validation split, track by track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from mgc.config import FitConfig
from mgc.config.taxonomy import Taxonomy
from mgc.evaluation.metrics import genre_accuracy, genre_rmse, tag_macro_average_precision
from mgc.models.forward import LogMel, member_outputs
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import Shard, require_sound
from mgc.training.losses import LabelArrays, LabelWeights, encode_labels, genre_loss, tag_loss, weigh_labels


@dataclass(frozen=True)
class ValidationScores:
    """Figures over tracks, from the mean logits of each one's windows.

    Parameters
    ----------
    loss
        Genre loss plus weighted tag loss, as `training.loss` says, without smoothing or class weights.
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
    return Validator(valid.log_mels, labels, label_weights, config, device, shard if spread else Shard())


@dataclass(frozen=True)
class Validator:
    """Scores a network on the validation split.

    Parameters
    ----------
    log_mels, labels, label_weights
        Of the tracks.
    config
        Which loss, and what the tags weigh in it.
    shard
        Each worker scores its part of the tracks and all get all scores, the same to the last bit: they must
        not disagree on when to stop.
    """

    log_mels: Sequence[LogMel]
    labels: LabelArrays
    label_weights: LabelWeights
    config: FitConfig
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
        genre_weight, kind = torch.from_numpy(label_weights.genre), self.config.loss
        loss = genre_loss(genre_logits, genre_weight, label_weights.genre_total, kind=kind)
        tags = tag_loss(tag_logits, positive, negative, label_weights.tag_total, kind)
        return ValidationScores(
            loss=float(loss + self.config.tag_loss_weight * tags),
            accuracy=genre_accuracy(genre_logits.numpy(), self.labels.genres),
            tag_macro_average_precision=tag_macro_average_precision(
                tag_logits.numpy(), self.labels.tags, self.labels.tags_known
            ),
            rmse=genre_rmse(torch.softmax(genre_logits, dim=1).numpy(), self.labels.genres),
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
