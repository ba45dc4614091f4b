"""Statistics computed once for a whole fit, where every epoch would compute the same.

A network of fixed statistics (`StatisticsNetwork`) maps a window to the same values in every epoch unless
augmentation changes the window. Where nothing does, its statistics take the window's place in the training set: an
epoch then costs what the perceptron costs, and the weights are the same but for rounding.

Those of a frozen published network begin with its batch norms, brought to the tracks trained on (`adapted_norms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mgc.config import FitConfig, ModelConfig
from mgc.config.network_settings import TransferConfig
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import CLEAN
from mgc.models.layers import ModelOutput, StatisticsNetwork
from mgc.models.published_weights import start_model
from mgc.models.transfer import ADAPTED_ON, LayerStatistics, Norms
from mgc.tables.feature_cache import LogMels, spilled
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import require_sound, window_shape

BATCH_WINDOWS = 32


def adapts_norms(config: ModelConfig) -> bool:
    """Return whether a member builds on a frozen network whose batch norms are brought to the tracks trained on."""
    return isinstance(config, TransferConfig) and config.adapt_norms and config.network != "onnx"


def adapted_norms(
    config: ModelConfig, tracks: FeatureSet, published: Mapping[str, str] | None = None
) -> Norms | None:
    """Return a frozen network's batch norms, brought to tracks (`LayerStatistics.adapt`), for `start_model`.

    Parameters
    ----------
    config
        Of the member; None is returned where `adapts_norms` is not so.
    tracks
        To be trained on; a window each of up to `ADAPTED_ON` of them is read, the same ones whenever it is called.
        Views made by augmentation are left out.
    published
        As for `start_model`.

    Raises
    ------
    ConfigError, BundleError, FingerprintError
        See `published_of`.
    TrainingError
        A track's features are of another shape than the others', or not finite.
    """
    if not adapts_norms(config) or tracks.features.content == "waveform":
        return None
    with torch.random.fork_rng([]):
        model = start_model(config, tracks.features, Taxonomy((), ()), published)
    clean = [row for row, view in enumerate(tracks.views) if view == CLEAN]
    chosen = tracks.at([clean[row] for row in np.random.default_rng(0).permutation(len(clean))[:ADAPTED_ON]])
    require_sound(chosen)
    windows = [log_mel[len(log_mel) // 2].astype(np.float32) for log_mel in chosen.log_mels]
    statistics = model.statistics
    assert isinstance(statistics, LayerStatistics)
    return statistics.adapt(torch.from_numpy(np.stack(windows))) if windows else {}


class CachedStatisticsNetwork(nn.Module):
    """A network of statistics whose input is the statistics in place of the window.

    Parameters
    ----------
    network
        Shares its weights with this.
    """

    def __init__(self, network: StatisticsNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, statistics: Tensor) -> ModelOutput:
        """Map statistics, shape (batch, 1, size)."""
        return self.network.forward_statistics(statistics[:, 0])


def reading(model: nn.Module, tracks: FeatureSet) -> nn.Module:
    """Return what maps the arrays of tracks: the network itself, or where they are statistics the rest of it."""
    if not tracks.of_statistics:
        return model
    assert isinstance(model, StatisticsNetwork), "no other network has statistics"
    return CachedStatisticsNetwork(model)


def can_cache_statistics(model: nn.Module, train: FeatureSet, config: FitConfig) -> TypeGuard[StatisticsNetwork]:
    """Return whether a fit may compute a network's statistics once: windows are whole, and nothing augments them."""
    if not isinstance(model, StatisticsNetwork) or not train.log_mels:
        return False
    shape = window_shape(train, config)
    changes = (
        config.mask_frequency_bins,
        config.mask_frames,
        config.gain_db,
        config.equaliser_db,
        config.shift_mel_bins,
        config.mixup_alpha,
        config.overlay_probability,
        config.blend_probability,
    )
    return shape.crop_frames == shape.n_frames and not any(changes)


def cache_statistics(network: StatisticsNetwork, tracks: FeatureSet, device: str) -> FeatureSet:
    """Return tracks with the statistics of each window in its place, arrays of shape (n_windows, 1, size), float32.

    They lie on disk, as the windows do.

    Raises
    ------
    TrainingError
        The windows of a track are not finite, or of another shape than the others.
    """
    require_sound(tracks)
    network.eval()
    statistics = (window_statistics(network, log_mel, device) for log_mel in tracks.log_mels)
    rows = spilled(statistics, (1, sum(network.statistics.sizes)))
    counts = np.array([len(log_mel) for log_mel in tracks.log_mels], dtype=np.int64)
    ends = np.cumsum(counts)
    log_mels = LogMels(lambda track: rows[ends[track] - counts[track] : ends[track]], np.arange(len(tracks)))
    return replace(tracks, log_mels=log_mels, finite=None, of_statistics=True)


def window_statistics(
    network: StatisticsNetwork, log_mel: npt.NDArray[np.float16], device: str
) -> npt.NDArray[np.float32]:
    """Return the statistics of a track's windows, shape (n_windows, 1, size); the network is on `device`."""
    parts = [
        network.statistics(torch.from_numpy(log_mel[start : start + BATCH_WINDOWS].astype(np.float32)).to(device))
        for start in range(0, len(log_mel), BATCH_WINDOWS)
    ]
    return torch.cat(parts).cpu().numpy()[:, np.newaxis]
