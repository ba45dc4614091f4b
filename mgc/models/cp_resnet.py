"""A frequency-aware residual CNN of small receptive field: the member that learns most from few tracks.

CP-ResNet of Koutini, Eghbal-zadeh & Widmer (2021), "Receptive Field Regularization Techniques for Audio
Classification and Tagging with Deep CNNs": a ResNet whose receptive field is kept small by turning later 3×3
convolutions into 1×1 (Table II there; `rho` says how many stay 3×3), and whose convolutions have one more
input channel, the height in the spectrum (Koutini et al. 2019, frequency-aware CNN). Slimmer than
theirs by a factor of four in channels, and with a stem that steps by four instead of two, to fit a CPU: with
rho = 4 a place of the last maps covers some 75 frames and 75 mel bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, cat, channels_last, nn

from mgc.config.network_settings import Activation, CpResnetConfig
from mgc.models.layers import EmbeddingNetwork, Heads, MelScaling, activation

STEM_KERNEL = 7
STEM_STRIDE = 4
STAGES = (1, 2, 3)
"""Channels of each stage over those of the first."""
BLOCKS_A_STAGE = 2
CONVOLUTIONS_A_BLOCK = 2


class FrequencyAware(nn.Module):
    """A convolution that also sees how high each place lies: one more channel, −1 at the bottom to 1 at the top."""

    def __init__(self, before: int, after: int, kernel: int, aware: bool) -> None:
        super().__init__()
        self.aware = aware
        self.conv = nn.Conv2d(before + aware, after, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, before, bins, frames) to (batch, after, bins, frames)."""
        if self.aware:
            batch, _, bins, frames = maps.shape
            height = torch.linspace(-1.0, 1.0, bins, device=maps.device, dtype=maps.dtype)
            maps = cat([maps, height[None, None, :, None].expand(batch, 1, bins, frames)], dim=1)
        output: Tensor = self.norm(self.conv(maps))
        return output


class Residual(nn.Module):
    """Two convolutions, added to what came in; a 1×1 convolution where the channels change."""

    def __init__(self, before: int, after: int, kernels: tuple[int, int], aware: bool, rectifier: Activation) -> None:
        super().__init__()
        self.first = FrequencyAware(before, after, kernels[0], aware)
        self.second = FrequencyAware(after, after, kernels[1], aware)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()
        self.activation = activation(rectifier)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, before, bins, frames) to (batch, after, bins, frames)."""
        change = self.second(self.activation(self.first(maps)))
        summed: Tensor = self.activation(self.shortcut(maps) + change)
        return summed


class CpResnet(EmbeddingNetwork):
    """Log-mel windows to genre logits, tag logits and an embedding.

    A 7×7 stem that leaves a quarter of the bins and frames, three stages of two residual blocks with max-pooling
    before each, the mean and the maximum over what is left, a dense layer to the embedding. 0.13 million parameters.
    """

    def __init__(self, config: CpResnetConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.channels, STEM_KERNEL, stride=STEM_STRIDE, padding=STEM_KERNEL // 2, bias=False),
            nn.BatchNorm2d(config.channels),
            activation(config.activation),
        )
        self.stages = nn.Sequential(*_stages(config))
        widest = config.channels * STAGES[-1]
        self.embed = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(2 * widest, config.embedding_size),
            nn.LayerNorm(config.embedding_size),
            nn.GELU(),
        )
        self.heads = Heads(config.embedding_size, n_genres, n_tags, config.dropout)
        # On a CPU the convolutions take a quarter less time where channels come last in memory.
        self.stem.to(memory_format=channels_last)  # type: ignore[call-overload]
        self.stages.to(memory_format=channels_last)  # type: ignore[call-overload]

    def _embed(self, log_mel: Tensor) -> Tensor:
        image = self.scaling(log_mel).unsqueeze(1).contiguous(memory_format=channels_last)
        maps = self.stages(self.stem(image))
        over_time = maps.mean(dim=2)
        pooled = cat([over_time.mean(dim=2), over_time.amax(dim=2)], dim=1)
        embedding: Tensor = self.embed(pooled)
        return embedding


def _stages(config: CpResnetConfig) -> list[nn.Module]:
    """Return pooling and residual blocks; of all their convolutions, in order, the first `rho` are 3×3."""
    parts: list[nn.Module] = []
    before, built = config.channels, 0
    for stage in STAGES:
        after = config.channels * stage
        parts.append(nn.MaxPool2d(2, ceil_mode=True))
        for _ in range(BLOCKS_A_STAGE):
            kernels = (3 if built < config.rho else 1, 3 if built + 1 < config.rho else 1)
            parts.append(Residual(before, after, kernels, config.frequency_aware, config.activation))
            before, built = after, built + CONVOLUTIONS_A_BLOCK
    return parts
