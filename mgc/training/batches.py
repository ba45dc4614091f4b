"""The training set in memory, and its batches: the same for the same (seed, epoch), whoever asks.

Log-mels stay float16 where they lie; only a batch's crops become float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mgc.config import TrainingConfig
from mgc.data.shards import FeatureSet
from mgc.errors import TrainingError
from mgc.taxonomy import Taxonomy
from mgc.training.augment import Draws, IntArray, apply, band_mask, draw
from mgc.training.labels import Masses, labels_of, masses_of


@dataclass(frozen=True)
class Shard:
    """Which part of each batch is this worker's: rows `rank`, `rank + world_size`, …"""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Batch:
    """One worker's part of a batch.

    Parameters
    ----------
    log_mel
        dB, float32, shape (rows, crop_frames, n_mels).
    genre_mass, tag_positive, tag_negative
        See `Masses`; shapes (rows, n_genres), (rows, n_tags), (rows, n_tags).
    genre_total, tag_total
        Masses of the whole batch over the number of workers: what the losses are divided by.
    """

    log_mel: Tensor
    genre_mass: Tensor
    tag_positive: Tensor
    tag_negative: Tensor
    genre_total: float
    tag_total: float

    def to(self, device: str) -> Batch:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            log_mel=self.log_mel.to(device),
            genre_mass=self.genre_mass.to(device),
            tag_positive=self.tag_positive.to(device),
            tag_negative=self.tag_negative.to(device),
        )


class TrainingWindows:
    """The windows of the tracks that have a label.

    Parameters
    ----------
    features
        Split 'train'.
    taxonomy
        Label ↔ index.
    config
        Batch size, crop and augmentation.

    Raises
    ------
    TrainingError
        No track has a label, or a track's features are not finite.
    """

    def __init__(self, features: FeatureSet, taxonomy: Taxonomy, config: TrainingConfig) -> None:
        labels = labels_of(features, taxonomy)
        useful = np.flatnonzero(labels.useful())
        if not useful.size:
            raise TrainingError(
                f"none of the {len(features)} tracks to train on has a genre or a tag of the taxonomy",
                "join labels when indexing: --manifest, or --labels-from folder",
            )
        require_finite(features)
        self._config = config
        self._masses = masses_of(labels, len(taxonomy.genres), config.class_weights)
        self._log_mels = features.log_mels
        self._windows = [(track, window) for track in useful for window in range(len(features.log_mels[track]))]
        first = features.log_mels[useful[0]]
        self._n_frames, self._n_mels = first.shape[1:]
        self._crop_frames = self._crop(features)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self) / self._config.batch_size)

    def _crop(self, features: FeatureSet) -> int:
        if self._config.crop_seconds is None:
            return self._n_frames
        frames_per_second = features.features.sample_rate / features.features.hop_length
        return min(self._n_frames, max(1, round(self._config.crop_seconds * frames_per_second)))

    def epoch(self, seed: int, epoch: int, shard: Shard) -> Iterator[Batch]:
        """Yield the batches of an epoch: every window once, in batches of about equal size."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        for step, chosen in enumerate(np.array_split(order, self.steps_per_epoch)):
            # Fewer rows than workers: some are heard twice rather than none by somebody.
            whole = np.resize(chosen, max(len(chosen), shard.world_size))
            rng = np.random.default_rng([seed, epoch, 1 + step])
            draws = draw(rng, len(whole), self._n_frames, self._n_mels, self._crop_frames, self._config)
            yield self._batch(whole, draws, shard)

    def _batch(self, whole: IntArray, draws: Draws, shard: Shard) -> Batch:
        rows = np.arange(shard.rank, len(whole), shard.world_size)
        mixed = self._mix_masses(whole, draws)
        return Batch(
            self._log_mel(whole, draws, rows),
            *(torch.from_numpy(mass[rows]) for mass in (mixed.genre, mixed.tag_positive, mixed.tag_negative)),
            genre_total=float(mixed.genre.sum()) / shard.world_size,
            tag_total=float(mixed.tag_positive.sum() + mixed.tag_negative.sum()) / shard.world_size,
        )

    def _mix_masses(self, whole: IntArray, draws: Draws) -> Masses:
        tracks = np.array([self._windows[index][0] for index in whole])
        part = draws.own_part[:, np.newaxis]

        def mix(mass: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            own = mass[tracks]
            return part * own + (1.0 - part) * own[draws.partner]

        return Masses(
            *(mix(mass) for mass in (self._masses.genre, self._masses.tag_positive, self._masses.tag_negative))
        )

    def _log_mel(self, whole: IntArray, draws: Draws, rows: IntArray) -> Tensor:
        log_mel = self._crops(whole, draws, rows)
        if self._config.mixup_alpha:
            others = self._crops(whole, draws, draws.partner[rows])
            part = torch.from_numpy(draws.own_part[rows])[:, None, None]
            log_mel = part * log_mel + (1.0 - part) * others
        return apply(
            log_mel,
            torch.from_numpy(draws.gain_db[rows]),
            band_mask(draws.bins, rows, self._n_mels),
            band_mask(draws.frames, rows, self._crop_frames),
        )

    def _crops(self, whole: IntArray, draws: Draws, rows: IntArray) -> Tensor:
        crops = []
        for row in rows:
            track, window = self._windows[whole[row]]
            start = draws.crop_start[row]
            crops.append(self._log_mels[track][window, start : start + self._crop_frames])
        return torch.from_numpy(np.stack(crops)).float()


def require_finite(features: FeatureSet) -> None:
    """Refuse features that are not finite, naming the track.

    Raises
    ------
    TrainingError
        A log-mel holds NaN or infinity.
    """
    for track_id, log_mel in zip(features.track_ids, features.log_mels, strict=True):
        # The sum of finite float32 values of some dB cannot overflow, and needs no second array.
        if not math.isfinite(float(log_mel.sum(dtype=np.float32))):
            raise TrainingError(
                f"track '{track_id}' has features that are not finite",
                "extract it anew, or leave it out of the catalogue",
            )
