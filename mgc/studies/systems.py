"""A network's cell: fit on one side of a fold, answer the other. The tracks asked about decide nothing.

Every network runs all its epochs and keeps its last weights (or their moving average): to stop at the epoch that
does best on the tracks asked about is to have chosen by them. They are only watched, for the learning curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mgc.arrays import Float32Array
from mgc.config import FitConfig, ModelConfig
from mgc.config.taxonomy import Taxonomy
from mgc.models.ensemble import TemperatureScaling, combine, unit_length
from mgc.models.forward import TrackOutputs, outputs_by_track, window_outputs
from mgc.models.network_registry import count_parameters
from mgc.models.published_weights import start_model
from mgc.studies.study_settings import SystemSettings
from mgc.tables.feature_shards import FeatureSet
from mgc.training.loop import EpochReport, fit

MEMBER_STEP = 1_000
"""Between the seeds of an ensemble's members, as in `mgc train`."""

OnEpoch = Callable[[int, int], None]
"""Told epochs done and epochs in all."""


@dataclass(frozen=True)
class NetworkPredictions:
    """What a network or an ensemble says of windows, those of a track next to each other; float32.

    Parameters
    ----------
    genre, tags
        Probabilities of each track, shape (n_tracks, …), and `window_genre` of each window.
    embeddings
        Of each track, of length 1.
    """

    genre: Float32Array
    tags: Float32Array
    window_genre: Float32Array
    embeddings: Float32Array


@dataclass(frozen=True)
class Fitted:
    """The members of a system after training.

    Parameters
    ----------
    members
        On their device, in evaluation mode.
    curves
        Epochs of each.
    """

    members: list[nn.Module]
    device: str
    curves: list[list[dict[str, Any]]]
    seconds: float

    @property
    def parameters(self) -> int:
        """Numbers that training may change, over all members."""
        return sum(count_parameters(member) for member in self.members)

    def predict(self, tracks: FeatureSet) -> NetworkPredictions:
        """Return what the members say together: the mean of their probabilities."""
        by_window = [window_outputs(member, tracks.log_mels, device=self.device) for member in self.members]
        whole = combine(
            [outputs_by_track(one, tracks.log_mels) for one in by_window], [TemperatureScaling()] * len(by_window)
        )
        windows = np.mean([TemperatureScaling().genre_probabilities(one.genre_logits) for one in by_window], axis=0)
        return NetworkPredictions(whole.genre_probabilities, whole.tag_probabilities, windows, whole.embeddings)

    def window_embeddings(self, tracks: FeatureSet) -> Float32Array:
        """Return the embedding of each window, of length 1, those of the members side by side."""
        by_window: list[TrackOutputs] = [
            window_outputs(member, tracks.log_mels, device=self.device) for member in self.members
        ]
        return unit_length(np.concatenate([unit_length(one.embeddings) for one in by_window], axis=1))


def fit_network(
    system: SystemSettings,
    train: FeatureSet,
    held_out: FeatureSet,
    taxonomy: Taxonomy,
    seed: int,
    device: str,
    on_epoch: OnEpoch,
) -> Fitted:
    """Fit a system's members one after the other.

    Raises
    ------
    TrainingError
        No track has a label, features are not finite, or the loss ceases to be.
    """
    started = time.perf_counter()
    models = system.models
    fits = [system.fit_of(member) for member in range(len(models))]
    total = sum(how.epochs for how in fits)
    members, curves = [], []
    for member, (config, how) in enumerate(zip(models, fits, strict=True)):
        before = sum(earlier.epochs for earlier in fits[:member])
        network, reports = _fit_one(
            config,
            train,
            held_out,
            taxonomy,
            how,
            seed + MEMBER_STEP * member,
            device,
            _counting(on_epoch, before, total),
        )
        members.append(network)
        curves.append([asdict(report) for report in reports])
    return Fitted(members, device, curves, time.perf_counter() - started)


def _counting(on_epoch: OnEpoch, before: int, total: int) -> Callable[[int], None]:
    return lambda epoch: on_epoch(before + epoch, total)


def _fit_one(
    config: ModelConfig,
    train: FeatureSet,
    held_out: FeatureSet,
    taxonomy: Taxonomy,
    training: FitConfig,
    seed: int,
    device: str,
    on_epoch: Callable[[int], None],
) -> tuple[nn.Module, list[EpochReport]]:
    torch.manual_seed(seed)
    model = start_model(config, train.features, taxonomy)
    fitted = fit(
        model,
        train,
        held_out,
        taxonomy,
        training,
        seed=seed,
        device=device,
        on_epoch=lambda report, state: on_epoch(report.epoch),
    )
    model.load_state_dict(fitted.state.average or fitted.state.weights)
    return model.eval(), fitted.reports
