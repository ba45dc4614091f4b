"""The CNN of Cao (2024), "Music Genre Classification Using Deep Learning", §IV.D.

"The network receives 599 [mel] frequency [bin] vectors, each containing 128 frequencies … three hidden layers …
maximum pooling between them … a fully connected layer, followed by softmax": the network of van den Oord,
Dieleman & Schrauwen (2013), whose 256 filters of 4 frames and pooling by 4 are taken where Cao gives no number.
The paper reports an average F1 of 0.78 on a random split of GTZAN.
"""

from __future__ import annotations

from torch import Tensor, nn

from mgc.config.network_settings import CaoCnnConfig
from mgc.models.network import Heads, MelScaling, activation
from mgc.models.types import ModelOutput

HIDDEN_LAYERS = 3
PLACES = 4
"""Places in time that the "reshaping layer" keeps apart before the dense layer, whatever the window's length."""


class CaoCnn(nn.Module):
    """Convolutions over time with the mel bins as channels, pooled between; a window's last maps are flattened.

    The flattened maps are the embedding, 4 × channels values; the dense layer is that of each head. 0.67
    million parameters with 128 mel bins.
    """

    def __init__(self, config: CaoCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        layers: list[nn.Module] = []
        for layer in range(HIDDEN_LAYERS):
            before = config.channels if layer else n_mels
            layers += [nn.Conv1d(before, config.channels, config.kernel_size, padding=config.kernel_size // 2)]
            layers += [activation(config.activation)]
            if layer < HIDDEN_LAYERS - 1:
                layers += [nn.MaxPool1d(config.pool_size, ceil_mode=True)]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(PLACES), nn.Flatten())
        self.heads = Heads(PLACES * config.channels, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        output: ModelOutput = self.heads(self.convolutions(self.scaling(log_mel)))
        return output
