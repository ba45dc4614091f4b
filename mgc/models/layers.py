"""Parts of the CRNN: squeeze-excitation, the residual gated linear unit around it, attention over time.

Sources: gated linear units, Dauphin et al., "Language Modeling with Gated Convolutional Networks" (2017);
squeeze-excitation, Hu et al. (2018), and in 1-D music networks Kim, Lee & Nam (2018); both joined in the
RGLU-SE block and followed by a bidirectional RNN with attention, He & Li (2024) §4.1; additive attention,
Bahdanau, Cho & Bengio (2015).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


class ClassificationHead(nn.Module):
    """A linear layer to `n_labels` logits; for 0 labels nothing, of shape (batch, 0)."""

    def __init__(self, size: int, n_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, n_labels) if n_labels else None

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (batch, size) to (batch, n_labels)."""
        if self.linear is None:
            return embedding[:, :0]
        logits: Tensor = self.linear(embedding)
        return logits
