"""How good a network is on the validation split, track by track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from mgc.config import TrainingConfig
from mgc.data.shards import FeatureSet
from mgc.models.forward import member_outputs
from mgc.taxonomy import Taxonomy
from mgc.training.batches import Shard, require_finite
from mgc.training.labels import labels_of, masses_of
from mgc.training.losses import genre_loss, tag_loss
from mgc.training.metrics import genre_accuracy, tag_macro_average_precision


@dataclass(frozen=True)
class ValidationScores:
    """Figures over tracks, from the mean logits of each one's windows.

    Parameters
    ----------
    loss
        Genre cross-entropy plus weighted tag cross-entropy, without smoothing or class weights.
    accuracy, tag_macro_average_precision
        None where no label is known.
    """

    loss: float
    accuracy: float | None
    tag_macro_average_precision: float | None


class Validator:
    """Scores a network on the validation split.

    Parameters
    ----------
    valid
        None or empty: there is nothing to score on.
    shard
        Where torch.distributed is up, each worker hears its part of the tracks and all get all scores, the
        same to the last bit: they must not disagree on when to stop.

    Raises
    ------
    TrainingError
        A track's features are not finite.
    """

    def __init__(
        self, valid: FeatureSet | None, taxonomy: Taxonomy, config: TrainingConfig, device: str, shard: Shard
    ) -> None:
        self._config = config
        self._device = device
        spread = shard.world_size > 1 and torch.distributed.is_available() and torch.distributed.is_initialized()
        self._shard = shard if spread else Shard()
        self._log_mels = valid.log_mels if valid else []
        if not valid:
            return
        require_finite(valid)
        self._labels = labels_of(valid, taxonomy)
        masses = masses_of(self._labels, len(taxonomy.genres), class_weights=False)
        self._masses = [torch.from_numpy(mass) for mass in (masses.genre, masses.tag_positive, masses.tag_negative)]
        if not self._labels.useful().any():
            self._log_mels = []

    @property
    def possible(self) -> bool:
        """Whether any track has a label to be scored on."""
        return bool(self._log_mels)

    def score(self, model: nn.Module) -> ValidationScores:
        """Return the figures; leaves the network in evaluation mode."""
        genre_logits, tag_logits = self._logits(model)
        genre_mass, positive, negative = self._masses
        loss = genre_loss(genre_logits, genre_mass, float(genre_mass.sum()))
        tags = tag_loss(tag_logits, positive, negative, float(positive.sum() + negative.sum()))
        return ValidationScores(
            loss=float(loss + self._config.tag_loss_weight * tags),
            accuracy=genre_accuracy(genre_logits.numpy(), self._labels),
            tag_macro_average_precision=tag_macro_average_precision(tag_logits.numpy(), self._labels),
        )

    def _logits(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        rank, world_size = self._shard.rank, self._shard.world_size
        outputs = member_outputs(model, self._log_mels[rank::world_size], device=self._device)
        n_genres = self._masses[0].shape[1]
        own = np.concatenate([outputs.genre_logits, outputs.tag_logits], axis=1)
        logits = torch.zeros(len(self._log_mels), n_genres + self._masses[1].shape[1])
        if own.shape[0]:
            logits[rank::world_size] = torch.from_numpy(own)
        if world_size > 1:
            shared = logits.to(self._device)
            torch.distributed.all_reduce(shared)
            logits = shared.cpu()
        return logits[:, :n_genres], logits[:, n_genres:]
