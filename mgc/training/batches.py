"""The training set and its batches: sampling, crops, augmentation; the same for the same (seed, epoch).

Log-mels stay float16 where they lie, on disk if they come from shards; only a batch's crops are in memory, float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mgc.arrays import IntArray
from mgc.config import FitConfig
from mgc.config.taxonomy import UNKNOWN, Taxonomy
from mgc.errors import TrainingError
from mgc.tables.feature_shards import FeatureSet
from mgc.training.losses import LabelWeights, encode_labels, genre_weights
from mgc.training.window_augment import NO_PARTNER, Draws, Overlay, WindowShape, augment, draw, draw_overlay, overlay

Sampling = Literal["all", "oversample", "undersample"]
"""Which windows an epoch is made of: all, or as many of each genre as of another."""


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
    genre_weight, tag_positive, tag_negative
        See `LabelWeights`; shapes (rows, n_genres), (rows, n_tags), (rows, n_tags).
    genre_total, tag_total
        Label weights of the whole batch over the number of workers: what the losses are divided by.
    """

    log_mel: Tensor
    genre_weight: Tensor
    tag_positive: Tensor
    tag_negative: Tensor
    genre_total: float
    tag_total: float

    def to(self, device: str) -> Batch:
        """Return the batch with its tensors on a device; from pinned memory the copy does not wait for the device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in memory that a GPU reads by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            log_mel=change(self.log_mel),
            genre_weight=change(self.genre_weight),
            tag_positive=change(self.tag_positive),
            tag_negative=change(self.tag_negative),
        )


@dataclass(frozen=True)
class _Whole:
    """A batch before it is shared out: its windows, and the random draws for each."""

    windows: IntArray
    draws: Draws
    overlay: Overlay


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
    soft_labels
        A teacher's predictions for every window of every track, in order (`assemble.distillation_labels`); None: the
        labels alone.

    Raises
    ------
    TrainingError
        No track has a label, or a track's features are of another shape or not finite.
    """

    def __init__(
        self, features: FeatureSet, taxonomy: Taxonomy, config: FitConfig, soft_labels: LabelWeights | None = None
    ) -> None:
        labels = encode_labels(features, taxonomy, np.bool_)
        useful = np.arange(len(features)) if soft_labels else np.flatnonzero(labels.useful())
        if not useful.size:
            raise TrainingError(
                f"none of the {len(features)} tracks to train on has a genre or a tag of the taxonomy",
                "join labels when indexing: --manifest, or --labels-from folder",
            )
        require_sound(features)
        self._config = config
        self._log_mels = features.log_mels
        counts = np.array([len(features.log_mels[int(track)]) for track in useful])
        self._tracks = np.repeat(useful.astype(np.int32), counts)
        self._first = np.zeros(len(features), dtype=np.int64)
        self._first[useful] = np.cumsum(counts) - counts
        self._genres = labels.genres.astype(np.int32)[self._tracks]
        self._soft_labels = soft_labels
        self._labels = labels
        self._genre_weights = genre_weights(
            labels.genres[labels.genre_known & config.class_weights], len(taxonomy.genres)
        )
        self._shape = window_shape(features, config)
        self._unclear = np.array([tag in config.blend_unclear_tags for tag in taxonomy.tags], dtype=bool)

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return math.ceil(epoch_size(self._genres, self._config.sampling) / self._config.batch_size)

    def epoch_ahead(self, seed: int, epoch: int, shard: Shard) -> Iterator[Batch]:
        """Yield the batches of `epoch`, each made while the one before is at work; where there are GPUs, pinned."""
        batches = self.epoch(seed, epoch, shard)
        if torch.cuda.is_available():
            batches = (batch.pinned() for batch in batches)
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as thread:
            coming = thread.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = thread.submit(next, batches, None)
                yield batch

    def epoch(self, seed: int, epoch: int, shard: Shard) -> Iterator[Batch]:
        """Yield the batches of an epoch: every window once, or as `sampling` says, in batches of about equal size."""
        order = draw_order(np.random.default_rng([seed, epoch]), self._genres, self._config.sampling)
        for step, chosen in enumerate(np.array_split(order, self.steps_per_epoch)):
            # Fewer rows than workers: some are used twice rather than none by somebody.
            whole = np.resize(chosen, max(len(chosen), shard.world_size))
            rng = np.random.default_rng([seed, epoch, 1 + step])
            draws = draw(rng, len(whole), self._shape, self._config)
            probabilities = (self._config.overlay_probability, self._config.blend_probability)
            layer = draw_overlay(rng, whole, self._genres, self._tracks, *probabilities)
            yield self._batch(_Whole(whole, draws, layer), shard)

    def _batch(self, whole: _Whole, shard: Shard) -> Batch:
        rows = np.arange(shard.rank, len(whole.windows), shard.world_size)
        draws, layer = whole.draws, whole.overlay
        partners = np.where(layer.partner == NO_PARTNER, whole.windows, layer.partner)
        overlaid = self._label_weights(whole.windows).overlaid(self._label_weights(partners))
        mixed = overlaid.blended(layer.blended, self._unclear).mixed(draws.partner, draws.own_part)
        own = mixed.rows(rows)
        return Batch(
            log_mel=self._log_mel(whole, rows),
            genre_weight=torch.from_numpy(own.genre),
            tag_positive=torch.from_numpy(own.tag_positive),
            tag_negative=torch.from_numpy(own.tag_negative),
            genre_total=mixed.genre_total / shard.world_size,
            tag_total=mixed.tag_total / shard.world_size,
        )

    def _label_weights(self, windows: IntArray) -> LabelWeights:
        if self._soft_labels:
            return self._soft_labels.rows(windows)
        return self._labels.rows(self._tracks[windows]).weighted(self._genre_weights)

    def _log_mel(self, whole: _Whole, rows: IntArray) -> Tensor:
        draws = whole.draws
        log_mel = self._laid(whole, rows)
        if self._config.mixup_alpha:
            others = self._laid(whole, draws.partner[rows])
            part = torch.from_numpy(draws.own_part[rows])[:, None, None]
            log_mel = part * log_mel + (1.0 - part) * others
        return augment(log_mel, draws, rows)

    def _laid(self, whole: _Whole, rows: IntArray) -> Tensor:
        """Return the crops of rows, each with the window that is laid over it."""
        log_mel = self._crops(whole.windows[rows], whole.draws.crop_start[rows])
        layer = whole.overlay
        laid = np.flatnonzero(layer.partner[rows] != NO_PARTNER)
        if laid.size:
            chosen = rows[laid]
            n_starts = self._shape.n_frames - self._shape.crop_frames + 1
            starts = (layer.start_part[chosen] * n_starts).astype(np.int64)
            others = self._crops(layer.partner[chosen], starts)
            log_mel[laid] = overlay(log_mel[laid], others, torch.from_numpy(layer.own_part[chosen]))
        return log_mel

    def _crops(self, windows: IntArray, starts: IntArray) -> Tensor:
        crops = []
        for window, start in zip(windows, starts, strict=True):
            track = self._tracks[window]
            crops.append(self._log_mels[track][window - self._first[track], start : start + self._shape.crop_frames])
        return torch.from_numpy(np.stack(crops)).float()


def draw_order(rng: np.random.Generator, genres: IntArray, sampling: Sampling) -> IntArray:
    """Return the windows of an epoch in random order.

    Parameters
    ----------
    genres
        Genre index of each window, `UNKNOWN` where it is not known, shape (n_windows,).
    sampling
        `oversample` repeats windows of rare genres until each genre has as many as the most frequent one, a
        window not again before each of its genre has been taken; `undersample` leaves windows of frequent
        genres out, others each epoch. Windows of unknown genre come once.

    Returns
    -------
    IntArray
        Window indices, shape (`epoch_size`,).
    """
    if sampling == "all":
        return rng.permutation(len(genres))
    wanted = _wanted(genres, sampling)
    chosen = [np.flatnonzero(genres == UNKNOWN)]
    for genre in np.unique(genres[genres != UNKNOWN]):
        windows = np.flatnonzero(genres == genre)
        rounds = -(-wanted // len(windows))
        chosen.append(np.concatenate([rng.permutation(windows) for _ in range(rounds)])[:wanted])
    return rng.permutation(np.concatenate(chosen))


def epoch_size(genres: IntArray, sampling: Sampling) -> int:
    """Return how many windows `draw_order` gives."""
    if sampling == "all":
        return len(genres)
    known = genres[genres != UNKNOWN]
    return len(genres) - len(known) + _wanted(genres, sampling) * len(np.unique(known))


def _wanted(genres: IntArray, sampling: Sampling) -> int:
    counts = np.unique(genres[genres != UNKNOWN], return_counts=True)[1]
    if not counts.size:
        return 0
    return int(counts.max() if sampling == "oversample" else counts.min())


def window_shape(features: FeatureSet, config: FitConfig) -> WindowShape:
    """Return the shape of the windows of tracks, of which there is one at least, and of a fit's crops."""
    _, n_frames, n_mels = features.log_mels[0].shape
    crop_frames = n_frames
    if config.crop_seconds is not None:
        crop_frames = min(n_frames, max(1, round(config.crop_seconds * features.features.frames_per_second)))
    return WindowShape(n_frames, n_mels, crop_frames)


def require_sound(features: FeatureSet) -> None:
    """Refuse features that are not finite or not alike in shape, naming the track.

    Raises
    ------
    TrainingError
        A log-mel holds NaN or infinity, has no window, or windows of another shape than the first track's.
    """
    first = features.log_mels[0].shape if len(features) else ()
    for row, log_mel in enumerate(features.log_mels):
        if log_mel.ndim != 3 or not len(log_mel) or log_mel.shape[1:] != first[1:]:
            raise TrainingError(
                f"track '{features.track_ids[row]}' has features of shape {log_mel.shape}, "
                f"the first track of {first}",
                "extract all tracks with one setting",
            )
        # The sum of values of some dB cannot overflow float32, and needs no second array.
        finite = math.isfinite(log_mel.sum(dtype=np.float32)) if features.finite is None else features.finite[row]
        if not finite:
            raise TrainingError(
                f"track '{features.track_ids[row]}' has features that are not finite",
                "extract it anew, or leave it out of the catalogue",
            )
