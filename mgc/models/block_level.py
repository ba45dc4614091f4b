"""Block-level features of a window and a perceptron on them: the member that gets most out of few tracks.

Seyerlehner, Widmer & Pohle (2010), "Fusing block-level features for music similarity estimation", led MIREX's genre
tasks with them and a support vector machine. Here they are computed on our log-mel: how loud each band is and how
much that varies (spectral pattern: percentiles over time), how fast it changes (delta pattern), at which rates it
does so (logarithmic fluctuation pattern, after Pampalk, Rauber & Merkl 2002), which bands move together (correlation
pattern), how far peaks stand out of their surroundings (spectral contrast). No convolution learns them anew; what is
learnt is one hidden layer.

`TimbreStatistics` adds statistics of what sounds rather than of how the whole moves, for tags of instruments.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, cat, nn

from mgc.config.network_settings import BlockLevelConfig
from mgc.models.layers import CENTRE_DB, SPREAD_DB, Statistics, StatisticsNetwork

FINE_BANDS = 64
COARSE_BANDS, CONTRAST_BANDS = 32, 16
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FLUCTUATION_BANDS = 14
"""Bands of the modulation spectrum at most, of equal width on a logarithmic scale."""
LEAST_POWER = 1e-4
LEAST_DEVIATION = 0.05
"""In units of `SPREAD_DB`, so that bands that hardly move (1 dB) have no correlation to speak of."""
ONSET_LAG = 2
ONSET_SHARE = 0.1
"""Part of the frames that count as onsets: those into which most comes anew."""
PROMINENCE_BINS = 2
"""How far up and down a partial's surroundings lie."""
PROMINENCE_QUANTILES = (0.5, 0.9, 0.98)
CEPSTRAL_COEFFICIENTS = 40
CEPSTRAL_QUANTILES = (0.1, 0.9)
CEPSTRAL_LAG = 3
ENVELOPE_LAGS = (2, 6, 16, 40)
"""Frames."""
ENVELOPE_QUANTILES = (0.02, 0.2, 0.8, 0.98)
RECURRENCE_FROM = 36
"""Mel bin from which a distance in bins is an interval: Slaney's scale is logarithmic from 1 kHz, bin 38 of 128."""
RECURRENCES = 49
CHANGE_BANDS = 32
LEAST_CHANGE = 0.02
"""Of a band from frame to frame, so that one that hardly moves has no correlation to speak of."""


class BlockLevel(StatisticsNetwork):
    """Log-mel windows to genre logits, tag logits and an embedding: the hidden layer.

    0.4 million parameters with 128 mel bins, 1.0 with the statistics of timbre.
    """

    def __init__(self, config: BlockLevelConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(BlockStatistics(n_mels, config.block_frames, config.timbre), config, n_genres, n_tags)


class BlockStatistics(Statistics):
    """Log-mel windows to groups of statistics, side by side; nothing in them is learnt.

    Parameters
    ----------
    n_mels
        Mel bins of the input.
    block_frames
        Frames of a block, of which the fluctuation pattern takes the spectrum.
    timbre
        Add those of `TimbreStatistics`.
    """

    window: Tensor

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

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, sum(sizes))."""
        with torch.no_grad():
            frames = (log_mel - CENTRE_DB) / SPREAD_DB
            fine, coarse = bands(frames, self.fine), bands(frames, self.coarse)
            groups = [
                quantiles(fine, QUANTILES).flatten(1),
                _deltas(fine),
                self._fluctuation(coarse),
                self._correlation(coarse),
                self._contrast(frames),
                _prominence(frames, 1).mean(dim=1),
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


class TimbreStatistics(nn.Module):
    """Frames of `n_mels` bins to groups of statistics; nothing in them is learnt.

    What onsets look like, how far and how often partials stand out of their surroundings, the cepstrum (Davis &
    Mermelstein 1980) and its pace, how loudness rises and decays over several spans of time, at which distances
    partials recur, which bands change together. Quantiles near the ends describe a sound that is there now and then,
    which the rest of the music hides in a mean.
    """

    cosines: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.fine = min(FINE_BANDS, n_mels)
        coefficients = min(CEPSTRAL_COEFFICIENTS, n_mels - 1)
        bins, orders = torch.arange(n_mels) + 0.5, torch.arange(1, coefficients + 1)
        cosines = torch.cos(math.pi / n_mels * bins[:, None] * orders) * math.sqrt(2 / n_mels)
        self.register_buffer("cosines", cosines, persistent=False)
        self.first = RECURRENCE_FROM * n_mels // 128
        rows, columns = np.triu_indices(min(CHANGE_BANDS, n_mels), 1)
        self.pairs = (torch.from_numpy(rows), torch.from_numpy(columns))
        self.recurrences = min(RECURRENCES, n_mels - self.first - 1)
        self.sizes = (
            2 * self.fine,
            (len(PROMINENCE_QUANTILES) + 1) * n_mels,
            (len(CEPSTRAL_QUANTILES) + 3) * coefficients,
            len(ENVELOPE_LAGS) * len(ENVELOPE_QUANTILES) * self.fine,
            self.recurrences,
            len(rows),
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map (batch, n_frames, n_mels), any n_frames from 1, to groups of shapes (batch, size)."""
        fine = bands(frames, self.fine)
        prominence = _prominence(frames, PROMINENCE_BINS)
        return [
            _onsets(fine),
            cat([quantiles(prominence, PROMINENCE_QUANTILES).flatten(1), _deviation(prominence.clamp(min=0))], dim=1),
            self._cepstrum(frames),
            cat([quantiles(_change(fine, lag), ENVELOPE_QUANTILES).flatten(1) for lag in ENVELOPE_LAGS], dim=1),
            self._recurrence(prominence),
            self._together(fine),
        ]

    def _cepstrum(self, frames: Tensor) -> Tensor:
        cepstrum = frames @ self.cosines
        ends = quantiles(cepstrum, CEPSTRAL_QUANTILES).flatten(1)
        pace = _deviation(_change(cepstrum, CEPSTRAL_LAG))
        return cat([cepstrum.mean(dim=1), _deviation(cepstrum), ends, pace], dim=1)

    def _recurrence(self, prominence: Tensor) -> Tensor:
        """Return the autocorrelation of the peaks of spectra over distances in bins, shape (batch, recurrences)."""
        peaks = prominence[:, :, self.first :].clamp(min=0)
        peaks = peaks - peaks.mean(dim=2, keepdim=True)
        # Mean over frames of the products of all pairs of bins at once: its diagonals are the lags.
        products = peaks.transpose(1, 2) @ peaks / peaks.shape[1]
        power = products.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-3
        lags = [products.diagonal(lag, dim1=1, dim2=2).mean(dim=1) for lag in range(1, self.recurrences + 1)]
        return torch.stack(lags, dim=1) / power[:, None]

    def _together(self, fine: Tensor) -> Tensor:
        """Return the correlation of each pair of bands' changes from frame to frame, shape (batch, pairs)."""
        change = bands(_change(fine, 1), min(CHANGE_BANDS, fine.shape[2]))
        return correlations(change, LEAST_CHANGE)[:, self.pairs[0], self.pairs[1]]


def bands(frames: Tensor, count: int) -> Tensor:
    """Return the means of neighbouring bins, shape (batch, n_frames, count)."""
    return F.adaptive_avg_pool1d(frames, count)


def quantiles(frames: Tensor, wanted: tuple[float, ...]) -> Tensor:
    """Return quantiles over time (the nearest frame's), shape (batch, len(wanted), bins)."""
    places = [round(quantile * (frames.shape[1] - 1)) for quantile in wanted]
    if frames.device.type != "cpu":
        return frames.sort(dim=1).values[:, places]
    # NumPy sorts float32 with vector instructions: a tenth to a twentieth of torch's time.
    rows = frames.detach().transpose(1, 2).contiguous().numpy()
    return torch.from_numpy(np.sort(rows, axis=2)[:, :, places]).transpose(1, 2)


def correlations(frames: Tensor, least_deviation: float) -> Tensor:
    """Return the correlation of each pair of bands over time, shape (batch, bands, bands)."""
    moving = frames - frames.mean(dim=1, keepdim=True)
    covariance = moving.transpose(1, 2) @ moving / frames.shape[1]
    deviation = covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt() + least_deviation
    return covariance / (deviation[:, :, None] * deviation[:, None, :])


def _prominence(frames: Tensor, distance: int) -> Tensor:
    """Return how far each bin stands above the mean of those so far around it; the spectrum is taken as a ring."""
    return frames - (frames.roll(distance, 2) + frames.roll(-distance, 2)) / 2


def _change(frames: Tensor, lag: int) -> Tensor:
    """Return the change over so many frames, or as many as there are; 0 of a single frame."""
    lag = min(lag, frames.shape[1] - 1)
    return frames[:, lag:] - frames[:, : frames.shape[1] - lag] if lag else torch.zeros_like(frames)


def _deviation(frames: Tensor) -> Tensor:
    return frames.std(dim=1, correction=0)


def _onsets(frames: Tensor) -> Tensor:
    """Return the mean of what comes anew at onsets and of what sounds then, shape (batch, 2 * bands)."""
    anew = _change(frames, ONSET_LAG).clamp(min=0)
    count = max(1, int(ONSET_SHARE * anew.shape[1]))
    places = anew.sum(dim=2).topk(count, dim=1).indices[:, :, None].expand(-1, -1, frames.shape[2])
    sounding = frames[:, frames.shape[1] - anew.shape[1] :]
    return cat([anew.gather(1, places).mean(dim=1), sounding.gather(1, places).mean(dim=1)], dim=1)


def _deltas(frames: Tensor) -> Tensor:
    """Return each band's change from frame to frame: deviation, mean size, 95th percentile."""
    change = _change(frames, 1)
    return cat([_deviation(change), change.abs().mean(dim=1), quantiles(change, (0.95,)).flatten(1)], dim=1)
