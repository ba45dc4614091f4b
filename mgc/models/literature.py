"""The networks of four papers on music genres: Guo (2024), Cao (2024), Zhang, Jain et al. (2021); and a Transformer.

Their layers are those of the papers, on mel bins scaled by a batch norm, with two heads on an embedding (`layers`).
Sizes that a paper does not give are stated here. The figures quoted come from random splits of GTZAN, where pieces of
one recording stand on both sides; `mgc.studies` runs these networks under every protocol.

- Guo, "Research on music genre recognition method based on deep learning". Table 2 gives the hidden layers (4, 3 and
  5), the learning rates (0.001, 0.005 and 0.001) and the batches (32, 64 and 32); Figure 1 draws a one-dimensional
  CNN, Figure 2 a recurrent network. Sizes are not given: 128 here. It reports 0.92, 0.75 and 0.85 by ten-fold
  cross-validation over clips.
- Cao, "Music Genre Classification Using Deep Learning", §IV.D. "The network receives 599 [mel] frequency [bin]
  vectors, each containing 128 frequencies … three hidden layers … maximum pooling between them … a fully connected
  layer, followed by softmax": the network of van den Oord, Dieleman & Schrauwen (2013), whose 256 filters of 4 frames
  and pooling by 4 are taken where Cao gives no number. It reports an average F1 of 0.78 on a random split.
- Zhang, "Music Classification Based on Convolutional Neural Networks", §III.B. Convolution, ReLU, max-pooling, batch
  norm and dropout, repeated; flattened; dense. No sizes are given: the filters double from 16. It reports some 0.90
  on an 80/10/10 split.
- Jain et al., "Music Information Retrieval and Classification using Deep Learning", §7.3 to §7.5 and Table 1: three
  networks on 13 MFCC of segments of 3 s (130 frames). It reports 64 % for the LSTM and some 75 % for the CNN, with
  segments of one clip on both sides of the split.
- Zhang, §II, sets CNNs beside Transformers (Vaswani et al. 2017, "Attention Is All You Need") and gives no network.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, cat, nn

from mgc.config.network_settings import (
    Activation,
    CaoCnnConfig,
    GuoCnnConfig,
    GuoHybridConfig,
    GuoRnnConfig,
    JainCnnConfig,
    JainLstmConfig,
    JainMlpConfig,
    TransformerConfig,
    ZhangCnnConfig,
)
from mgc.models.layers import (
    RNN,
    EmbeddingNetwork,
    Heads,
    MelScaling,
    RunningScaling,
    activation,
    in_segments,
    mean_over_segments,
    states,
)

CAO_HIDDEN_LAYERS = 3
CAO_PLACES = 4
"""Places in time that the "reshaping layer" keeps apart before the dense layer, whatever the window's length."""
MLP_UNITS = (512, 256, 128)
LSTM_UNITS = 64
DENSE_UNITS = 64
"""Jain's CNN has a dense layer of 64 neurons; the LSTM's has no number: 64 as well."""
CNN_FILTERS = 32
CNN_KERNELS = (3, 3, 2)


class GuoCnn(EmbeddingNetwork):
    """Table 2, CNN: three convolutions over time, their maximum over time, a dense layer (the embedding).

    0.17 million parameters with 128 mel bins. With `n_mfcc` the dense layer also has the mean and the deviation of so
    many MFCC over time: "combining high-order features from deep learning with traditional features such as MFCC"
    (§2.5).
    """

    def __init__(self, config: GuoCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        self.convolutions = _convolutions(
            n_mels, config.channels, config.kernel_size, config.hidden_layers - 1, config.activation
        )
        self.mfcc = MfccStatistics(n_mels, config.n_mfcc) if config.n_mfcc else None
        joined = config.channels + (self.mfcc.size if self.mfcc else 0)
        self.dense = nn.Sequential(nn.Linear(joined, config.embedding_size), activation(config.activation))
        self.heads = Heads(config.embedding_size, n_genres, n_tags, config.dropout)

    def _embed(self, log_mel: Tensor) -> Tensor:
        joined = self.convolutions(self.scaling(log_mel)).amax(dim=2)
        if self.mfcc is not None:
            joined = cat([joined, self.mfcc(log_mel)], dim=1)
        embedding: Tensor = self.dense(joined)
        return embedding


class GuoRnn(EmbeddingNetwork):
    """Table 2, RNN: three recurrent layers over the frames; the last state is the embedding.

    0.40 million parameters with 128 mel bins and LSTM.
    """

    def __init__(self, config: GuoRnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        between = config.dropout if config.hidden_layers > 1 else 0.0
        self.rnn = RNN[config.rnn](n_mels, config.units, config.hidden_layers, batch_first=True, dropout=between)
        self.heads = Heads(config.units, n_genres, n_tags, config.dropout)

    def _embed(self, log_mel: Tensor) -> Tensor:
        return _last_state(self.rnn, self.scaling(log_mel).transpose(1, 2))


class GuoHybrid(EmbeddingNetwork):
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

    def _embed(self, log_mel: Tensor) -> Tensor:
        return _last_state(self.rnn, self.convolutions(self.scaling(log_mel)).transpose(1, 2))


def _last_state(rnn: nn.Module, frames: Tensor) -> Tensor:
    """Map (batch, n_frames, d) to (batch, units): a recurrent network's output at the last frame."""
    return states(rnn, frames)[:, -1]


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


class CaoCnn(EmbeddingNetwork):
    """Convolutions over time with the mel bins as channels, pooled between; a window's last maps are flattened.

    The flattened maps are the embedding, 4 × channels values; the dense layer is that of each head. 0.67
    million parameters with 128 mel bins.
    """

    def __init__(self, config: CaoCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.scaling = MelScaling(n_mels)
        layers: list[nn.Module] = []
        for layer in range(CAO_HIDDEN_LAYERS):
            before = config.channels if layer else n_mels
            layers += [nn.Conv1d(before, config.channels, config.kernel_size, padding=config.kernel_size // 2)]
            layers += [activation(config.activation)]
            if layer < CAO_HIDDEN_LAYERS - 1:
                layers += [nn.MaxPool1d(config.pool_size, ceil_mode=True)]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(CAO_PLACES), nn.Flatten())
        self.heads = Heads(CAO_PLACES * config.channels, n_genres, n_tags, config.dropout)

    def _embed(self, log_mel: Tensor) -> Tensor:
        embedding: Tensor = self.convolutions(self.scaling(log_mel))
        return embedding


class ZhangCnn(EmbeddingNetwork):
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

    def _embed(self, log_mel: Tensor) -> Tensor:
        maps = self.convolutions(self.scaling(log_mel).unsqueeze(1))
        embedding: Tensor = self.dense(maps.mean(dim=3).flatten(1))
        return embedding


class Transformer(EmbeddingNetwork):
    """Patches of frames as tokens with sinusoidal positions, layers of self-attention, the mean over tokens.

    0.1 million parameters with 128 mel bins. Layers are normalised before, not after (Xiong et al. 2020): that trains
    without a warm-up of its own.
    """

    def __init__(self, config: TransformerConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        size = config.embedding_size
        self.scaling = MelScaling(n_mels)
        self.patches = nn.Conv1d(n_mels, size, config.patch_frames, stride=config.patch_frames)
        layer = nn.TransformerEncoderLayer(
            size, config.heads, 2 * size, config.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(size), enable_nested_tensor=False)
        self.heads = Heads(size, n_genres, n_tags, config.dropout)

    def _embed(self, log_mel: Tensor) -> Tensor:
        step = self.patches.stride[0]
        frames = self.scaling(log_mel)
        whole = nn.functional.pad(frames, (0, -frames.shape[2] % step), mode="replicate")
        tokens = self.patches(whole).transpose(1, 2)
        embedding: Tensor = self.layers(tokens + positions(tokens.shape[1], tokens.shape[2]).to(tokens)).mean(dim=1)
        return embedding


def positions(n_tokens: int, size: int) -> Tensor:
    """Return sin(p / 10000^(2i / size)) and its cosine in turns, shape (n_tokens, size): Vaswani et al., §3.5."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(0, size, 2) / size)
    angles = torch.arange(n_tokens)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class MfccSegmentNetwork(EmbeddingNetwork):
    """Cuts the scaled MFCC of a window into segments, and gives the mean of their embeddings."""

    def __init__(self, config: JainMlpConfig | JainLstmConfig | JainCnnConfig, n_mels: int) -> None:
        super().__init__()
        self.segments = MfccSegments(n_mels, config.n_mfcc, config.segment_frames)

    def _embed(self, log_mel: Tensor) -> Tensor:
        segments = self.segments(log_mel)
        return mean_over_segments(self._embed_segments(segments.flatten(0, 1)), segments.shape[1])

    def _embed_segments(self, segments: Tensor) -> Tensor:
        """Map (batch, segment_frames, n_mfcc) to (batch, embedding_size)."""
        raise NotImplementedError


class JainMlp(MfccSegmentNetwork):
    """§7.3: a segment's coefficients laid end to end, dense layers of 512, 256 and 128, dropout after each.

    1.03 million parameters with 13 coefficients and 130 frames. The last hidden layer is the embedding.
    """

    def __init__(self, config: JainMlpConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(config, n_mels)
        sizes = (self.segments.n_mfcc * config.segment_frames, *MLP_UNITS)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), activation(config.activation), nn.Dropout(config.dropout)]
        self.hidden = nn.Sequential(*layers[:-1])  # the heads have the last dropout
        self.heads = Heads(MLP_UNITS[-1], n_genres, n_tags, config.dropout)

    def _embed_segments(self, segments: Tensor) -> Tensor:
        embedding: Tensor = self.hidden(segments.flatten(1))
        return embedding


class JainLstm(MfccSegmentNetwork):
    """§7.4: two LSTM layers of 64 units over a segment's frames, a dense layer, dropout of 30 %.

    57 thousand parameters with 13 coefficients. The dense layer is the embedding.
    """

    def __init__(self, config: JainLstmConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(config, n_mels)
        self.rnn = nn.LSTM(self.segments.n_mfcc, LSTM_UNITS, num_layers=2, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(LSTM_UNITS, DENSE_UNITS), activation(config.activation))
        self.heads = Heads(DENSE_UNITS, n_genres, n_tags, config.dropout)

    def _embed_segments(self, segments: Tensor) -> Tensor:
        embedding: Tensor = self.dense(_last_state(self.rnn, segments))
        return embedding


class JainCnn(MfccSegmentNetwork):
    """§7.5 and Table 1: 32 filters of 3×3, 3×3 and 2×2 with ReLU, each pooled 3×3 and batch-normalised.

    Pooling steps by 3 and pads the edges; a dense layer of 64 follows, with dropout of 30 %. 25 thousand
    parameters with 13 coefficients and 130 frames. The dense layer is the embedding.
    """

    def __init__(self, config: JainCnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(config, n_mels)
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

    def _embed_segments(self, segments: Tensor) -> Tensor:
        embedding: Tensor = self.dense(self.convolutions(segments.unsqueeze(1)).flatten(1))
        return embedding


class MfccSegments(nn.Module):
    """Log-mel windows to the scaled MFCC of their segments (Jain et al. §7.2)."""

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
        with torch.autocast(log_mel.device.type, enabled=False):  # coefficients of some dB out of 80
            return log_mel @ self.basis.T


class MfccStatistics(nn.Module):
    """Log-mel windows to the scaled mean and deviation of each coefficient over time."""

    def __init__(self, n_mels: int, n_mfcc: int) -> None:
        super().__init__()
        self.mfcc = Mfcc(n_mels, n_mfcc)
        self.size = 2 * self.mfcc.n_mfcc
        self.scaling = RunningScaling(self.size)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) to (batch, size)."""
        mfcc = self.mfcc(log_mel)
        scaled: Tensor = self.scaling(cat([mfcc.mean(dim=1), mfcc.std(dim=1, correction=0)], dim=1))
        return scaled
