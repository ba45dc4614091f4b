"""The convolutional recurrent network with attention of He & Li (2024), on log-mel spectrograms, and its served form.

RGLU-SE blocks learn "the deep local features of the sound spectrum" (§4.1), a bidirectional RNN their order in time,
additive attention which moments count. Beyond the paper: the stem halves the frame rate; the mean and the maximum
over time stand beside the attended mean; and a genre head and a tag head share one embedding.

Sources of the parts: gated linear units, Dauphin et al., "Language Modeling with Gated Convolutional Networks"
(2017); squeeze-excitation, Hu et al. (2018), and in 1-D music networks Kim, Lee & Nam (2018); additive attention,
Bahdanau, Cho & Bengio (2015).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, cat, channels_last, nn

from mgc.config.network_settings import CrnnConfig
from mgc.models.layers import CENTRE_DB, RNN, SPREAD_DB, ClassificationHead, ModelOutput, activation, states

STEM_KERNEL = 4
STEM_STRIDE = 2
"""Frames that the first layer sees, and steps by."""


class Crnn(nn.Module):
    """Log-mel windows of `n_mels` bins to genre logits, tag logits and an embedding."""

    def __init__(self, config: CrnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        channels = config.channels
        self.input_norm = nn.BatchNorm1d(n_mels)
        self.stem = nn.Sequential(
            nn.Conv1d(n_mels, channels, STEM_KERNEL, stride=STEM_STRIDE, padding=STEM_KERNEL // 2, bias=False),
            nn.BatchNorm1d(channels),
            activation(config.activation),
        )
        self.blocks = nn.Sequential(
            *(
                GatedResidual(channels, config.kernel_size, config.se_reduction, config.pool_size, config.dropout / 3)
                for _ in range(config.blocks)
            )
        )
        self.rnn = RNN[config.rnn](channels, config.rnn_units, batch_first=True, bidirectional=True)
        self.attention = AdditiveAttention(2 * config.rnn_units, config.rnn_units)
        self.dropout = nn.Dropout(config.dropout)
        pooled_size = 2 * config.rnn_units + 2 * channels
        self.embed = nn.Sequential(
            nn.Linear(pooled_size, config.embedding_size), nn.LayerNorm(config.embedding_size), nn.GELU()
        )
        self.genre_head = ClassificationHead(config.embedding_size, n_genres)
        self.tag_head = ClassificationHead(config.embedding_size, n_tags)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        bins = (log_mel.transpose(1, 2) - CENTRE_DB) / SPREAD_DB
        frames = self.blocks(self.stem(self.input_norm(bins)))
        unfolded = states(self.rnn, frames.transpose(1, 2))
        pooled = cat([self.attention(unfolded), frames.mean(dim=2), frames.amax(dim=2)], dim=1)
        embedding = self.embed(self.dropout(pooled))
        kept = self.dropout(embedding)
        return ModelOutput(self.genre_head(kept), self.tag_head(kept), embedding)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from all channels' means over time.

    Parameters
    ----------
    channels
        Channels in and out.
    reduction
        The gate's hidden layer has channels // reduction units, at least 4.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, channels, n_frames) to the same shape."""
        return frames * self.gate(frames.mean(dim=2)).unsqueeze(2)

    def gate(self, means: Tensor) -> Tensor:
        """Map the channels' means over time, shape (batch, channels), to a factor for each."""
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class GatedResidual(nn.Module):
    """RGLU-SE: convolution, batch norm, gated linear unit, squeeze-excitation, added to the input, pooled.

    Parameters
    ----------
    channels
        Channels in and out.
    kernel_size
        Frames that the convolution sees.
    se_reduction
        See `SqueezeExcitation`.
    pool_size
        Frames merged by a maximum at the end; a remainder makes a shorter last group.
    dropout
        Part of the channels zeroed for a whole window while training.
    """

    def __init__(self, channels: int, kernel_size: int, se_reduction: int, pool_size: int, dropout: float) -> None:
        super().__init__()
        # The batch norm's own shift makes a bias redundant.
        self.conv = nn.Conv1d(channels, 2 * channels, kernel_size, padding="same", bias=False)
        self.norm = nn.BatchNorm1d(2 * channels)
        self.gate = nn.GLU(dim=1)
        self.squeeze_excitation = SqueezeExcitation(channels, se_reduction)
        self.dropout = nn.Dropout1d(dropout)
        self.pool = nn.MaxPool1d(pool_size, ceil_mode=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, channels, n_frames) to (batch, channels, ceil(n_frames / pool_size))."""
        change = self.squeeze_excitation(self.gate(self.norm(self.conv(frames))))
        pooled: Tensor = self.pool(frames + self.dropout(change))
        return pooled


class AdditiveAttention(nn.Module):
    """A weighted mean over time, the weights a softmax of v·tanh(W h) (Bahdanau et al. 2015, eq. 6).

    Parameters
    ----------
    size
        Of each frame's vector.
    hidden
        Of the scoring layer.
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, n_frames, size) to (batch, size)."""
        weights = torch.softmax(self.score(torch.tanh(self.project(frames))), dim=1)
        return (weights * frames).sum(dim=1)


def served(model: nn.Module) -> nn.Module:
    """Return the form of a trained network that is fastest at inference; one that has no other form as it is.

    Parameters
    ----------
    model
        In evaluation mode. It is not to be trained any more: the two forms share weights.
    """
    return ServedCrnn(model).eval() if isinstance(model, Crnn) else model


class ServedCrnn(nn.Module):
    """A trained `Crnn` for inference alone: no batch norms, channels last in memory.

    Each batch norm becomes part of the convolution before it (Jacob et al. 2018, §3.2), that of the input a scale and
    a shift together with the decibels' own. Logits differ from those of the trained form by some 1e-6 of their spread
    (`tests/unit/models/test_served_crnn.py`), and do not depend on the other windows of a batch.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, crnn: Crnn) -> None:
        super().__init__()
        norm = crnn.input_norm
        gain, mean, bias = _statistics(norm)
        self.register_buffer("scale", (gain / SPREAD_DB).to(norm.weight.dtype))
        self.register_buffer("shift", (bias - (mean + CENTRE_DB / SPREAD_DB) * gain).to(norm.weight.dtype))
        conv, stem_norm, self.rectify = crnn.stem
        self.stem = _folded(cast(nn.Conv1d, conv), cast(nn.BatchNorm1d, stem_norm))
        self.blocks = nn.Sequential(*(ServedBlock(cast(GatedResidual, block)) for block in crnn.blocks))
        self.rnn, self.attention, self.embed = crnn.rnn, crnn.attention, crnn.embed
        self.genre_head, self.tag_head = crnn.genre_head, crnn.tag_head

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows, as `Crnn` does: dB, shape (batch, n_frames, n_mels)."""
        scaled = torch.addcmul(self.shift, log_mel, self.scale)
        # Shape (batch, n_mels, 1, n_frames), the channels last in memory: nothing is moved.
        maps = self.blocks(self.rectify(self.stem(scaled.transpose(1, 2).unsqueeze(2))))
        frames = maps.squeeze(2).transpose(1, 2)
        unfolded = states(self.rnn, frames)
        embedding = self.embed(cat([self.attention(unfolded), frames.mean(dim=1), frames.amax(dim=1)], dim=1))
        return ModelOutput(self.genre_head(embedding), self.tag_head(embedding), embedding)


class ServedBlock(nn.Module):
    """A `GatedResidual` for inference alone."""

    def __init__(self, block: GatedResidual) -> None:
        super().__init__()
        self.conv = _folded(block.conv, block.norm)
        self.squeeze_excitation = block.squeeze_excitation
        self.pool_size = cast(int, block.pool.kernel_size)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, channels, 1, n_frames) to (batch, channels, 1, ceil(n_frames / pool_size))."""
        change = F.glu(self.conv(maps), dim=1)
        gate = self.squeeze_excitation.gate(change.mean(dim=(2, 3)))
        summed = torch.addcmul(maps, change, gate[:, :, None, None])
        return F.max_pool2d(summed, (1, self.pool_size), ceil_mode=True)


def _folded(conv: nn.Conv1d, norm: nn.BatchNorm1d) -> nn.Conv2d:
    """Return a convolution and the batch norm behind it as one, over maps of height 1."""
    gain, mean, bias = _statistics(norm)
    kernel, stride = (1, conv.kernel_size[0]), (1, conv.stride[0])
    padding = conv.padding if isinstance(conv.padding, str) else (0, conv.padding[0])
    both = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, device=mean.device)
    before = 0.0 if conv.bias is None else conv.bias.double()
    with torch.no_grad():
        both.weight.copy_((conv.weight.double() * gain[:, None, None]).unsqueeze(2))
        both.bias.copy_(bias + (before - mean) * gain)  # type: ignore[union-attr]
    return both.to(memory_format=channels_last)  # type: ignore[call-overload,no-any-return]


def _statistics(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor, Tensor]:
    """Return gain, mean and bias of a batch norm: at inference (x - mean) * gain + bias; double precision."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot answer")
    with torch.no_grad():
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        return gain, norm.running_mean.double(), norm.bias.double()
