"""CNN, RNN and their hybrid of Guo (2024), "Research on music genre recognition method based on deep learning".

Table 2 gives the hidden layers (4, 3 and 5), the learning rates (0.001, 0.005 and 0.001) and the batches (32, 64
and 32); Figure 1 draws a one-dimensional CNN, Figure 2 a recurrent network. Sizes are not given: 128 here. The
paper reports 0.92, 0.75 and 0.85 by ten-fold cross-validation over clips.
"""

from __future__ import annotations

from torch import Tensor, nn

from mgc.config.network_settings import Activation, GuoCnnConfig, GuoHybridConfig, GuoRnnConfig
from mgc.models.network import Heads, MelScaling, activation
from mgc.models.types import ModelOutput

RNN = {"gru": nn.GRU, "lstm": nn.LSTM}


def _convolutions(n_mels: int, channels: int, kernel_size: int, layers: int, rectifier: Activation) -> nn.Sequential:
    """Return convolutions over time, each followed by a rectifier and max-pooling by 2."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [
            nn.Conv1d(channels if layer else n_mels, channels, kernel_size, padding="same"),
            activation(rectifier),
            nn.MaxPool1d(2, ceil_mode=True),
        ]
    return nn.Sequential(*parts)


class GuoCnn(nn.Module):
    """Table 2, CNN: three convolutions over time, their maximum over time, a dense layer (the embedding).

    0.17 million parameters with 128 mel bins.
    """

    def __init__(self, config: GuoCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        self.convolutions = _convolutions(
            n_mels, config.channels, config.kernel_size, config.hidden_layers - 1, config.activation
        )
        self.dense = nn.Sequential(nn.Linear(config.channels, config.embedding_size), activation(config.activation))
        self.heads = Heads(config.embedding_size, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        output: ModelOutput = self.heads(self.dense(self.convolutions(self.scaling(log_mel)).amax(dim=2)))
        return output


class GuoRnn(nn.Module):
    """Table 2, RNN: three recurrent layers over the frames; the last state is the embedding.

    0.40 million parameters with 128 mel bins and LSTM.
    """

    def __init__(self, config: GuoRnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        between = config.dropout if config.hidden_layers > 1 else 0.0
        self.rnn = RNN[config.rnn](n_mels, config.units, config.hidden_layers, batch_first=True, dropout=between)
        self.heads = Heads(config.units, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        unfolded, _ = self.rnn(self.scaling(log_mel).transpose(1, 2))
        output: ModelOutput = self.heads(unfolded[:, -1])
        return output


class GuoHybrid(nn.Module):
    """Table 2, hybrid: three convolutions over time, then two recurrent layers; the last state is the embedding.

    0.35 million parameters with 128 mel bins and GRU.
    """

    def __init__(self, config: GuoHybridConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        self.convolutions = _convolutions(
            n_mels, config.channels, config.kernel_size, config.hidden_layers - 2, config.activation
        )
        self.rnn = RNN[config.rnn](config.channels, config.units, num_layers=2, batch_first=True)
        self.heads = Heads(config.units, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        unfolded, _ = self.rnn(self.convolutions(self.scaling(log_mel)).transpose(1, 2))
        output: ModelOutput = self.heads(unfolded[:, -1])
        return output
