"""The log-mel CNN of Zhang, "Music Classification Based on Convolutional Neural Networks", §III.B.

Convolution, ReLU, max-pooling, batch norm and dropout, repeated; flattened; dense. The paper gives no sizes: the
filters double from 16. It reports some 0.90 on an 80/10/10 split of GTZAN.
"""

from __future__ import annotations

from torch import Tensor, nn

from mgc.config.network_settings import ZhangCnnConfig
from mgc.models.network import Heads, MelScaling, activation
from mgc.models.types import ModelOutput


class ZhangCnn(nn.Module):
    """3×3 convolutions of the log-mel as an image; bands are flattened, time is averaged, so that any length goes.

    0.23 million parameters with 128 mel bins.
    """

    def __init__(self, config: ZhangCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        parts: list[nn.Module] = []
        channels, bands = 1, n_mels
        for block in range(config.blocks):
            wider = config.channels * 2**block
            parts += [
                nn.Conv2d(channels, wider, 3, padding="same", bias=False),
                nn.BatchNorm2d(wider),
                activation(config.activation),
                nn.MaxPool2d(2, ceil_mode=True),
                nn.Dropout2d(config.dropout / 3),
            ]
            channels, bands = wider, -(-bands // 2)
        self.convolutions = nn.Sequential(*parts)
        self.dense = nn.Sequential(nn.Linear(channels * bands, config.embedding_size), activation(config.activation))
        self.heads = Heads(config.embedding_size, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        maps = self.convolutions(self.scaling(log_mel).unsqueeze(1))
        output: ModelOutput = self.heads(self.dense(maps.mean(dim=3).flatten(1)))
        return output
