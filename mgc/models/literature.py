"""The three networks of Jain et al. (2021), "Music Information Retrieval and Classification using Deep Learning".

On 13 MFCC of segments of 3 s (130 frames), layers as §7.3 to §7.5 and Table 1 give them. The paper reports 64 %
for the LSTM and some 75 % for the CNN on GTZAN with segments of one clip on both sides of the split.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mgc.config.network_settings import JainCnnConfig, JainLstmConfig, JainMlpConfig
from mgc.models.network import Heads, activation
from mgc.models.segments import MfccSegments, mean_over_segments
from mgc.models.types import ModelOutput

MLP_UNITS = (512, 256, 128)
LSTM_UNITS = 64
DENSE_UNITS = 64
"""The paper gives the CNN's dense layer 64 neurons, and the LSTM's no number: 64 as well."""
CNN_FILTERS = 32
CNN_KERNELS = (3, 3, 2)


class JainMlp(nn.Module):
    """§7.3: a segment's coefficients laid end to end, dense layers of 512, 256 and 128, dropout after each.

    1.03 million parameters with 13 coefficients and 130 frames. The last hidden layer is the embedding.
    """

    def __init__(self, config: JainMlpConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.segments = MfccSegments(n_mels, config.n_mfcc, config.segment_frames)
        sizes = (self.segments.n_mfcc * config.segment_frames, *MLP_UNITS)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), activation(config.activation), nn.Dropout(config.dropout)]
        self.hidden = nn.Sequential(*layers[:-1])  # the heads have the last dropout
        self.heads = Heads(MLP_UNITS[-1], n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels)."""
        segments = self.segments(log_mel)
        embedding = mean_over_segments(self.hidden(segments.flatten(0, 1).flatten(1)), segments.shape[1])
        output: ModelOutput = self.heads(embedding)
        return output


class JainLstm(nn.Module):
    """§7.4: two LSTM layers of 64 units over a segment's frames, a dense layer, dropout of 30 %.

    57 thousand parameters with 13 coefficients. The dense layer is the embedding.
    """

    def __init__(self, config: JainLstmConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.segments = MfccSegments(n_mels, config.n_mfcc, config.segment_frames)
        self.rnn = nn.LSTM(self.segments.n_mfcc, LSTM_UNITS, num_layers=2, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(LSTM_UNITS, DENSE_UNITS), activation(config.activation))
        self.heads = Heads(DENSE_UNITS, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels)."""
        segments = self.segments(log_mel)
        unfolded, _ = self.rnn(segments.flatten(0, 1))
        embedding = mean_over_segments(self.dense(unfolded[:, -1]), segments.shape[1])
        output: ModelOutput = self.heads(embedding)
        return output


class JainCnn(nn.Module):
    """§7.5 and Table 1: 32 filters of 3×3, 3×3 and 2×2 with ReLU, each pooled 3×3 and batch-normalised.

    Pooling steps by 3 and pads the edges; a dense layer of 64 follows, with dropout of 30 %. 25 thousand
    parameters with 13 coefficients and 130 frames. The dense layer is the embedding.
    """

    def __init__(self, config: JainCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.segments = MfccSegments(n_mels, config.n_mfcc, config.segment_frames)
        layers: list[nn.Module] = []
        channels, height, width = 1, config.segment_frames, self.segments.n_mfcc
        for kernel in CNN_KERNELS:
            layers += [
                nn.ZeroPad2d(2 * ((kernel - 1) // 2, kernel // 2)),
                nn.Conv2d(channels, CNN_FILTERS, kernel),
                activation(config.activation),
                nn.MaxPool2d(3, stride=3, ceil_mode=True),
                nn.BatchNorm2d(CNN_FILTERS),
            ]
            channels, height, width = CNN_FILTERS, -(-height // 3), -(-width // 3)
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(channels * height * width, DENSE_UNITS), activation(config.activation))
        self.heads = Heads(DENSE_UNITS, n_genres, n_tags, config.dropout)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels)."""
        segments = self.segments(log_mel)
        maps = self.convolutions(segments.flatten(0, 1).unsqueeze(1))
        embedding = mean_over_segments(self.dense(maps.flatten(1)), segments.shape[1])
        output: ModelOutput = self.heads(embedding)
        return output
