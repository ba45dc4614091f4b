"""Transfer learning: a perceptron on all layers of a frozen network with published weights, a member for few tracks.

Choi, Fazekas, Sandler & Cho (2017), "Transfer learning for music classification and regression tasks", found that not
the last layer alone works best, which is of another task, but every layer's activations, joined. Here each channel of
each layer gives its mean, maximum and deviation over all places; of a network that was imported from an ONNX file,
whose layers are not known, its embedding alone. The published network is frozen, and lies in the
bundle with the perceptron: tagging needs no other file.

What is frozen are its filters. Its batch norms scale by means and variances of the music and the spectrograms it was
trained on, and ours differ, so they are brought to ours first, without a label: adaptive batch normalisation (Li,
Wang, Shi, Hou & Liu 2018, "Adaptive Batch Normalization for practical domain adaptation").

The published networks take 96 HTK mel bands at 16 kHz, 62.5 frames a second. `MelBridge` brings any of our log-mels
there, bands by their centre frequencies, linearly, and frames by time, so that such a member sits in one ensemble
with others, on one feature path. What ours do not hold, such as fast changes at a slow frame rate, is lost; the
figures in docs/results.md are of such spectrograms.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, cat, nn

from mgc.arrays import Float32Array
from mgc.audio.features.filter_banks import filter_banks
from mgc.config import FeatureConfig
from mgc.config.network_settings import ChoiCrnnConfig, ChoiFcnConfig, MusicnnConfig, TransferConfig, Upsampling
from mgc.errors import ConfigError
from mgc.models.layers import Statistics, StatisticsNetwork, in_segments, mean_over_segments
from mgc.models.onnx_network import OnnxNetwork
from mgc.models.published_networks import LAYER_CHANNELS, ChoiCrnn, ChoiFcn, Musicnn, PublishedNetwork

PUBLISHED_MELS = 96
SEGMENT_FRAMES = {"musicnn": 187}
"""Frames that a network was given at once in training, where that is less than a window of some 30 s."""
STATISTICS_A_CHANNEL = 3
ADAPTED_ON = 64
"""Windows, each of another track, whose means and variances the batch norms are brought to."""
ADAPTED_AT_ONCE = 4
FEWEST_TO_ADAPT = 16
"""Fewer windows say less of the music to come than what the network was trained on."""

Norms = dict[str, Float32Array]
"""Means and variances of a network's batch norms, by their names in its state dict."""


class MelBridge(nn.Module):
    """Log-mels of one kind to those of another, both in dB relative to the maximum, of filters of equal area.

    Parameters
    ----------
    n_mels, wanted_mels
        Bands of what comes in and goes out.
    upsampling
        To a higher frame rate; to a lower one it is linear.
    """

    bands: Tensor
    pace: Tensor

    def __init__(self, n_mels: int, wanted_mels: int, upsampling: Upsampling = "nearest") -> None:
        super().__init__()
        self._upsampling = upsampling
        # Until `join` is called: bands spread evenly over those that come in.
        spread = F.interpolate(torch.eye(n_mels)[None], size=wanted_mels, mode="linear", align_corners=True)[0]
        self.register_buffer("bands", spread)
        self.register_buffer("pace", torch.ones(()))

    def join(self, ours: FeatureConfig, theirs: FeatureConfig) -> None:
        """Set how frames of `ours` become frames of `theirs`."""
        from_hz, to_hz = (filter_banks(features).mel_hz[1:-1] for features in (ours, theirs))
        shares = np.stack([np.interp(to_hz, from_hz, one) for one in np.eye(len(from_hz))])
        self.bands.copy_(torch.from_numpy(shares))
        self.pace.fill_(theirs.frames_per_second / ours.frames_per_second)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) to (batch, about n_frames * pace, wanted_mels)."""
        resampled = (log_mel @ self.bands).transpose(1, 2)
        n_frames = max(1, round(resampled.shape[2] * float(self.pace)))
        if n_frames > resampled.shape[2] and self._upsampling == "nearest":
            resampled = F.interpolate(resampled, size=n_frames, mode="nearest-exact")
        elif n_frames != resampled.shape[2]:
            resampled = F.interpolate(resampled, size=n_frames, mode="linear", align_corners=False)
        return resampled.transpose(1, 2)


class LayerStatistics(Statistics):
    """Mean, maximum and deviation of every channel of a frozen network's layers.

    Parameters
    ----------
    n_mels
        Bands of the windows.
    config
        Names the network.
    """

    def __init__(self, config: TransferConfig, n_mels: int) -> None:
        super().__init__()
        self.network: PublishedNetwork | OnnxNetwork = _published(config)
        if config.onnx:
            self.bridge = MelBridge(n_mels, config.onnx.n_columns, config.upsampling)
            self.segment_frames = None if config.onnx.waveform else config.onnx.frames
            self.sizes: tuple[int, ...] = (config.onnx.embedding_size,)
        else:
            self.bridge = MelBridge(n_mels, PUBLISHED_MELS, config.upsampling)
            self.segment_frames = SEGMENT_FRAMES.get(config.network)
            self.sizes = tuple(STATISTICS_A_CHANNEL * channels for channels in LAYER_CHANNELS[config.network])
        self.network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LayerStatistics:
        """Stay as in evaluation: a frozen network's batch norms do not move either."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, sum(sizes)); of segments, the mean over them."""
        frames = self.bridge(log_mel)
        # The first layers of a window of 30 s take 100 MB. On a CPU nothing is gained by many at once.
        at_once = len(frames) if frames.is_cuda else 1
        return cat([self._window_statistics(part) for part in frames.split(at_once)])

    @torch.no_grad()
    def adapt(self, windows: Tensor) -> Norms:
        """Bring each batch norm to what comes to it from windows, (n, n_frames, n_mels) in dB; return them all.

        A norm's mean and variance are means over batches of `ADAPTED_AT_ONCE` windows, each scaled by its own in the
        layers before. Nothing is changed by fewer than `FEWEST_TO_ADAPT` windows, nor in an ONNX network.
        """
        if isinstance(self.network, OnnxNetwork) or len(windows) < FEWEST_TO_ADAPT:
            return {}
        norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in norms]
        hooks = [
            norm.register_forward_pre_hook(partial(_scale_by_own, into))
            for norm, into in zip(norms, seen, strict=True)
        ]
        n_batches = -(-len(windows) // ADAPTED_AT_ONCE)
        for first in range(n_batches):
            self.network.layer_outputs(self._segments(self.bridge(windows[first::n_batches])).flatten(0, 1))
        for hook in hooks:
            hook.remove()
        for norm, batches in zip(norms, seen, strict=True):
            if batches:  # musicnn's dense layer has no part in the statistics
                means, variances = zip(*batches, strict=True)
                _set(norm, torch.stack(means).mean(0), torch.stack(variances).mean(0))
        return self.norms()

    def norms(self) -> Norms:
        """Return the means and variances of all batch norms."""
        state = self.network.state_dict()
        return {name: state[name].numpy().copy() for name in state if name.endswith(("running_mean", "running_var"))}

    def set_norms(self, norms: Norms) -> None:
        """Set what `adapt` returned."""
        self.network.load_state_dict({name: torch.from_numpy(values) for name, values in norms.items()}, strict=False)

    def _window_statistics(self, frames: Tensor) -> Tensor:
        if self.segment_frames is None:
            return self._layer_statistics(frames)
        segments = self._segments(frames)
        return mean_over_segments(self._layer_statistics(segments.flatten(0, 1)), segments.shape[1])

    def _segments(self, frames: Tensor) -> Tensor:
        """Cut windows, (batch, n_frames, mels), into (batch, n_segments, …) of what the network is given at once."""
        return in_segments(frames, self.segment_frames or frames.shape[1])

    def _layer_statistics(self, frames: Tensor) -> Tensor:
        if isinstance(self.network, OnnxNetwork):
            return self.network.values_of(frames)[1]
        layers = [layer.flatten(2) for layer in self.network.layer_outputs(frames)]
        groups = [cat([layer.mean(2), layer.amax(2), layer.std(2, correction=0)], dim=1) for layer in layers]
        return cat(groups, dim=1)


def _scale_by_own(into: list[tuple[Tensor, Tensor]], norm: nn.BatchNorm1d | nn.BatchNorm2d, inputs: Any) -> None:
    """Give a batch norm the mean and variance of each channel of what comes to it, and note them."""
    places = [dim for dim in range(inputs[0].ndim) if dim != 1]
    variance, mean = torch.var_mean(inputs[0], dim=places, correction=0)
    into.append((mean, variance))
    _set(norm, *into[-1])


def _set(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _published(config: TransferConfig) -> PublishedNetwork | OnnxNetwork:
    """Return the network in its published size, without heads."""
    if config.onnx:
        return OnnxNetwork(config.onnx, config.onnx.n_columns, 0, 0)
    if config.network == "onnx":
        raise ConfigError("a member of network 'onnx' needs a bundle of `mgc import-onnx`", 'published = "BUNDLE"')
    if config.network == "musicnn":
        return Musicnn(MusicnnConfig(), PUBLISHED_MELS, 0, 0)
    if config.network == "choi_crnn":
        return ChoiCrnn(ChoiCrnnConfig(), PUBLISHED_MELS, 0, 0)
    return ChoiFcn(ChoiFcnConfig(), PUBLISHED_MELS, 0, 0)


class Transfer(StatisticsNetwork):
    """Log-mel windows to genre logits, tag logits and an embedding: the hidden layer.

    0.4 (FCN, CRNN) or 0.6 million parameters that training may change, and 0.4 to 0.8 that it may not.
    """

    statistics: LayerStatistics

    def __init__(self, config: TransferConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(LayerStatistics(config, n_mels), config, n_genres, n_tags)
