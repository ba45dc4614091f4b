"""Networks that take a fixed number of frames, on windows of any length: segment by segment, then the mean.

Jain et al. (2021, §7.2) cut a clip into ten segments and learn from each. Here a window is cut into as many
whole segments as it holds, and its embedding is the mean of theirs; the heads are linear, so the logits are
the mean of the segments' logits too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def in_segments(frames: Tensor, segment_frames: int) -> Tensor:
    """Cut (batch, n_frames, d) into (batch, n_segments, segment_frames, d), leaving the remainder out.

    A window shorter than a segment is one segment, its last frame repeated.
    """
    missing = segment_frames - frames.shape[1]
    if missing > 0:
        frames = F.pad(frames.transpose(1, 2), (0, missing), mode="replicate").transpose(1, 2)
    n_segments = frames.shape[1] // segment_frames
    kept = frames[:, : n_segments * segment_frames]
    return kept.reshape(len(frames), n_segments, segment_frames, frames.shape[2])


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients of log-mels: the orthonormal DCT-II over mel bands.

    Exact, not an approximation: `librosa.feature.mfcc` is this very transform of the log-mel in dB, so that
    networks on MFCC (Jain et al. 2021) and on log-mels can learn from the same shards.

    Parameters
    ----------
    n_mels
        Mel bins of the input.
    n_mfcc
        Coefficients kept, at most `n_mels`.
    """

    basis: Tensor

    def __init__(self, n_mels: int, n_mfcc: int) -> None:
        super().__init__()
        self.n_mfcc = min(n_mfcc, n_mels)
        order = torch.arange(self.n_mfcc, dtype=torch.float64)[:, None]
        band = torch.arange(n_mels, dtype=torch.float64)
        basis = torch.cos(math.pi * order * (2 * band + 1) / (2 * n_mels)) * math.sqrt(2.0 / n_mels)
        basis[0] /= math.sqrt(2.0)
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (…, n_mels) to (…, n_mfcc)."""
        return log_mel @ self.basis.T


class MfccSegments(nn.Module):
    """Log-mel windows to the scaled MFCC of their segments."""

    def __init__(self, n_mels: int, n_mfcc: int, segment_frames: int) -> None:
        super().__init__()
        self.mfcc = Mfcc(n_mels, n_mfcc)
        self.norm = nn.BatchNorm1d(self.mfcc.n_mfcc)
        self.segment_frames = segment_frames

    @property
    def n_mfcc(self) -> int:
        """Coefficients a frame."""
        return self.mfcc.n_mfcc

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) to (batch, n_segments, segment_frames, n_mfcc)."""
        scaled = self.norm(self.mfcc(log_mel).transpose(1, 2)).transpose(1, 2)
        return in_segments(scaled, self.segment_frames)


def mean_over_segments(embeddings: Tensor, n_segments: int) -> Tensor:
    """Map (batch * n_segments, d) to (batch, d)."""
    return embeddings.reshape(-1, n_segments, embeddings.shape[1]).mean(dim=1)
