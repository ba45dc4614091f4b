"""Statistics of a window and a perceptron on them: the member that gets most out of few tracks.

Block-level features of Seyerlehner, Widmer & Pohle (2010), "Fusing block-level features for music similarity
estimation", which with a support vector machine led MIREX's genre tasks, computed on our log-mel: how loud each
band is and how much that varies (spectral pattern: percentiles over time), how fast it changes (delta pattern),
at which rates it does so (logarithmic fluctuation pattern, after Pampalk, Rauber & Merkl 2002), which bands move
together (correlation pattern), how far peaks stand out of their surroundings (spectral contrast). No convolution
learns them anew; what is learnt is one hidden layer.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, cat

from mgc.config.network_settings import BlockLevelConfig
from mgc.models.network import CENTRE_DB, SPREAD_DB
from mgc.models.statistics_network import Statistics, StatisticsNetwork
from mgc.models.timbre_statistics import FINE_BANDS, TimbreStatistics, bands, correlations, quantiles

COARSE_BANDS, CONTRAST_BANDS = 32, 16
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FLUCTUATION_BANDS = 14
"""Bands of the modulation spectrum at most, of equal width on a logarithmic scale."""
LEAST_POWER = 1e-4
LEAST_DEVIATION = 0.05
"""In units of `SPREAD_DB`, so that bands that hardly move (1 dB) have no correlation to speak of."""


class BlockStatistics(Statistics):
    """Log-mel windows to groups of statistics, side by side.

    Parameters
    ----------
    n_mels
        Mel bins of the input.
    block_frames
        Frames of a block, of which the fluctuation pattern takes the spectrum.
    timbre
        Add those of `TimbreStatistics`.
    """

    def __init__(self, n_mels: int, block_frames: int, timbre: bool = False) -> None:
        super().__init__()
        self.timbre = TimbreStatistics(n_mels) if timbre else None
        self.fine, self.coarse = min(FINE_BANDS, n_mels), min(COARSE_BANDS, n_mels)
        self.contrast = min(CONTRAST_BANDS, max(1, n_mels // 2))
        self.block_frames = block_frames
        edges = np.geomspace(1, block_frames // 2 + 1, FLUCTUATION_BANDS + 1).round().astype(int)
        self.edges = [int(edge) for edge in np.unique(edges)]
        self.register_buffer("window", torch.hann_window(block_frames), persistent=False)
        rows, columns = np.triu_indices(self.coarse, 1)
        self.pairs = (torch.from_numpy(rows), torch.from_numpy(columns))
        self.sizes = (
            len(QUANTILES) * self.fine,
            3 * self.fine,
            (len(self.edges) - 1) * self.coarse,
            len(rows),
            self.contrast,
            n_mels,
            *(self.timbre.sizes if self.timbre else ()),
        )

    window: Tensor

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, sum(sizes)); nothing in it is learnt."""
        with torch.no_grad():
            frames = (log_mel - CENTRE_DB) / SPREAD_DB
            fine, coarse = bands(frames, self.fine), bands(frames, self.coarse)
            groups = [
                quantiles(fine, QUANTILES).flatten(1),
                _deltas(fine),
                self._fluctuation(coarse),
                self._correlation(coarse),
                self._contrast(frames),
                (frames - (frames.roll(1, 2) + frames.roll(-1, 2)) / 2).mean(dim=1),
                *(self.timbre(frames) if self.timbre else ()),
            ]
            return cat(groups, dim=1)

    def _fluctuation(self, frames: Tensor) -> Tensor:
        """Return the log power of each band's loudness at each rate, shape (batch, rates * bands)."""
        moving = frames - frames.mean(dim=1, keepdim=True)
        missing = self.block_frames - moving.shape[1]
        moving = F.pad(moving, (0, 0, 0, max(0, missing)))
        blocks = moving.unfold(1, self.block_frames, max(1, self.block_frames // 2))
        power = torch.fft.rfft(blocks * self.window, dim=3).abs().square().mean(dim=1)
        level = torch.log(power / self.window.square().sum() + LEAST_POWER)
        rates = [level[:, :, low:high].mean(dim=2) for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return cat(rates, dim=1)

    def _correlation(self, frames: Tensor) -> Tensor:
        """Return the correlation of each pair of bands over time, shape (batch, pairs)."""
        return correlations(frames, LEAST_DEVIATION)[:, self.pairs[0], self.pairs[1]]

    def _contrast(self, frames: Tensor) -> Tensor:
        """Return how far the loudest bin of each group of bins stands above the softest, shape (batch, groups)."""
        groups = frames.tensor_split(self.contrast, dim=2)
        return torch.stack([(group.amax(dim=2) - group.amin(dim=2)).mean(dim=1) for group in groups], dim=1)


class BlockLevel(StatisticsNetwork):
    """Log-mel windows to genre logits, tag logits and an embedding: the hidden layer.

    0.4 million parameters with 128 mel bins, 1.0 with the statistics of timbre.
    """

    def __init__(self, config: BlockLevelConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(BlockStatistics(n_mels, config.block_frames, config.timbre), config, n_genres, n_tags)


def _deltas(frames: Tensor) -> Tensor:
    """Return each band's change from frame to frame: deviation, mean size, 95th percentile."""
    change = frames.diff(dim=1) if frames.shape[1] > 1 else torch.zeros_like(frames)
    loud = quantiles(change, (0.95,)).flatten(1)
    return cat([change.std(dim=1, correction=0), change.abs().mean(dim=1), loud], dim=1)
