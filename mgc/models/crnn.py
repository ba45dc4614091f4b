"""The convolutional recurrent network with attention of He & Li (2024), on log-mel spectrograms.

RGLU-SE blocks learn what sounds (§4.1: "the deep local features of the sound spectrum"), a bidirectional RNN
how it unfolds, additive attention which moments count. Beyond the paper: the stem halves the frame rate; the
mean and the maximum over time stand beside what attention chose; and one embedding is shared by a genre head
and a tag head, so that similarity, genre and tags speak of the same thing.
"""

from __future__ import annotations

from torch import Tensor, cat, nn

from mgc.config.network_settings import CrnnConfig
from mgc.models.layers import AdditiveAttention, ClassificationHead, GatedResidual
from mgc.models.network import CENTRE_DB, SPREAD_DB, activation
from mgc.models.types import ModelOutput

STEM_KERNEL = 4
STEM_STRIDE = 2
"""Frames that the first layer sees, and steps by."""


class Crnn(nn.Module):
    """Log-mel windows to genre logits, tag logits and an embedding.

    Parameters
    ----------
    config
        Sizes.
    n_mels
        Mel bins of the input.
    n_genres, n_tags
        Outputs of the heads; either may be 0.
    """

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
        rnn = {"gru": nn.GRU, "lstm": nn.LSTM}[config.rnn]
        self.rnn = rnn(channels, config.rnn_units, batch_first=True, bidirectional=True)
        self.attention = AdditiveAttention(2 * config.rnn_units, config.rnn_units)
        self.dropout = nn.Dropout(config.dropout)
        pooled_size = 2 * config.rnn_units + 2 * channels
        self.embed = nn.Sequential(
            nn.Linear(pooled_size, config.embedding_size), nn.LayerNorm(config.embedding_size), nn.GELU()
        )
        self.genre_head = ClassificationHead(config.embedding_size, n_genres)
        self.tag_head = ClassificationHead(config.embedding_size, n_tags)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows.

        Parameters
        ----------
        log_mel
            dB, float32, shape (batch, n_frames, n_mels); any n_frames from 1.
        """
        bins = (log_mel.transpose(1, 2) - CENTRE_DB) / SPREAD_DB
        frames = self.blocks(self.stem(self.input_norm(bins)))
        unfolded, _ = self.rnn(frames.transpose(1, 2))
        pooled = cat([self.attention(unfolded), frames.mean(dim=2), frames.amax(dim=2)], dim=1)
        embedding = self.embed(self.dropout(pooled))
        kept = self.dropout(embedding)
        return ModelOutput(self.genre_head(kept), self.tag_head(kept), embedding)
