"""FCN, CRNN and musicnn as their authors published them, able to take the published weights.

Layer by layer the networks that Won et al. (2020), "Evaluation of CNN-based Automatic Music Tagging Models",
trained and shared: the same tensors under the same names, so that `mgc.models.published_weights` need only leave out
the spectrogram. They take dB relative to full scale of mel bands that are not scaled by their width (torchaudio's
`MelSpectrogram` and `AmplitudeToDB`); `band_db` brings ours there: see `PublishedScaling`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, cat, nn

from mgc.config.network_settings import ChoiCrnnConfig, ChoiFcnConfig, MusicnnConfig
from mgc.models.layers import ClassificationHead, ModelOutput, states

FCN_CHANNELS = (64, 128, 128, 128, 64)
FCN_POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
CRNN_CHANNELS = (64, 128, 128, 128)
CRNN_POOLS = ((2, 2), (3, 3), (4, 4), (4, 4))
CRNN_UNITS = 32
TIMBRE_SHARES = (0.7, 0.4)
TIMBRE_FRAMES = 7
TIMBRE_CHANNELS = 204
TEMPORAL_FRAMES = (129, 65, 33)
TEMPORAL_CHANNELS = 51
BACKEND_LAYERS = 3
FLOOR_DB = -100.0
"""Of their `AmplitudeToDB`: no power counts as less than 1e-10."""

LAYER_CHANNELS = {
    "choi_fcn": FCN_CHANNELS,
    "choi_crnn": (*CRNN_CHANNELS, CRNN_UNITS),
    "musicnn": (
        *(TIMBRE_CHANNELS for _ in TIMBRE_SHARES),
        *(TEMPORAL_CHANNELS for _ in TEMPORAL_FRAMES),
        *(MusicnnConfig().backend_channels for _ in range(BACKEND_LAYERS)),
    ),
}
"""Channels of each of `layer_outputs`, of the networks in their published sizes."""


class PublishedScaling(nn.Module):
    """Our log-mels to theirs, then one batch norm over all bins.

    Ours are of filters scaled to equal area (librosa's, Slaney's norm), theirs of filters of equal height:
    `band_db`, added to each bin, is 0 in a network trained here, and 10 log10 of the width ratio of each filter
    with published weights (`mgc.models.published_weights`). It is no parameter, and is never trained.
    """

    band_db: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("band_db", torch.zeros(n_mels))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (batch, n_frames, n_mels) in dB to (batch, 1, n_mels, n_frames)."""
        decibels = (log_mel + self.band_db).clamp(min=FLOOR_DB)
        image: Tensor = self.norm(decibels.transpose(1, 2).unsqueeze(1))
        return image


class PublishedNetwork(nn.Module):
    """The input scaling, and the heads, of the three; a subclass has the layers between."""

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.spec_bn = PublishedScaling(n_mels)

    def _add_heads(self, embedding_size: int, n_genres: int, n_tags: int, dropout: float) -> None:
        self.dropout = nn.Dropout(dropout)
        self.genre_head = ClassificationHead(embedding_size, n_genres)
        self.tag_head = ClassificationHead(embedding_size, n_tags)

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows in dB, shape (batch, n_frames, n_mels); any n_frames from 1."""
        embedding = self._embed(self.layer_outputs(log_mel))
        kept = self.dropout(embedding)
        return ModelOutput(self.genre_head(kept), self.tag_head(kept), embedding)

    def layer_outputs(self, log_mel: Tensor) -> list[Tensor]:
        """Return each layer's output, shapes (batch, channels, …, frames)."""
        raise NotImplementedError

    def _embed(self, layers: list[Tensor]) -> Tensor:
        """Map the layers' outputs to the embedding, shape (batch, embedding_size)."""
        raise NotImplementedError


class ChoiFcn(PublishedNetwork):
    """Five convolutions and nothing else (Choi, Fazekas & Sandler 2016, "Automatic tagging using deep …").

    0.45 million parameters without the heads, whatever the mel bins. A window of 29 s (1,813 frames at a hop of
    256 and 16 kHz) is pooled to one place, as published; what is left of a longer one is merged by a maximum.
    The 64 values before the dense layer are the embedding.
    """

    def __init__(self, config: ChoiFcnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(n_mels)
        self.layer1, self.layer2, self.layer3, self.layer4, self.layer5 = _layers(FCN_CHANNELS, FCN_POOLS)
        self._add_heads(FCN_CHANNELS[-1], n_genres, n_tags, config.dropout)

    def _embed(self, layers: list[Tensor]) -> Tensor:
        return layers[-1].amax(dim=(2, 3))

    def layer_outputs(self, log_mel: Tensor) -> list[Tensor]:
        """Return each layer's output, shapes (batch, channels, bins, frames)."""
        return _each(self.spec_bn(log_mel), [self.layer1, self.layer2, self.layer3, self.layer4, self.layer5])


class ChoiCrnn(PublishedNetwork):
    """Four convolutions, two GRU layers (Choi et al. 2017, "Convolutional recurrent neural networks for …").

    0.42 million parameters without the heads. The last of the 32 recurrent units' states is the embedding.
    """

    def __init__(self, config: ChoiCrnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(n_mels)
        self.layer1, self.layer2, self.layer3, self.layer4 = _layers(CRNN_CHANNELS, CRNN_POOLS)
        self.layer5 = nn.GRU(CRNN_CHANNELS[-1], CRNN_UNITS, 2, batch_first=True)
        self._add_heads(CRNN_UNITS, n_genres, n_tags, config.dropout)

    def _embed(self, layers: list[Tensor]) -> Tensor:
        return layers[-1][:, :, -1]

    def layer_outputs(self, log_mel: Tensor) -> list[Tensor]:
        """Return each layer's output, shapes (batch, channels, bins, frames); the recurrent one's without bins."""
        maps = _each(self.spec_bn(log_mel), [self.layer1, self.layer2, self.layer3, self.layer4])
        unfolded = states(self.layer5, maps[-1].amax(dim=2).transpose(1, 2))
        return [*maps, unfolded.transpose(1, 2)]


class Musicnn(PublishedNetwork):
    """musicnn (Pons et al. 2018, "End-to-end learning for music audio tagging at scale").

    Timbral and temporal filters side by side, three densely joined convolutions, the maximum and the mean over
    time, a dense layer of 200, which is the embedding. 0.79 million parameters with 96 mel bins, without heads.
    Published weights take windows of 3 s (188 frames).
    """

    def __init__(self, config: MusicnnConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__(n_mels)
        timbre = [Timbre(n_mels, share) for share in TIMBRE_SHARES]
        self.layers = nn.ModuleList([*timbre, *(Temporal(frames) for frames in TEMPORAL_FRAMES)])
        front = len(TIMBRE_SHARES) * TIMBRE_CHANNELS + len(TEMPORAL_FRAMES) * TEMPORAL_CHANNELS
        self.layer1 = MusicnnBackend(front, config.backend_channels)
        self.layer2 = MusicnnBackend(config.backend_channels, config.backend_channels)
        self.layer3 = MusicnnBackend(config.backend_channels, config.backend_channels)
        self.dense1 = nn.Linear(2 * (front + BACKEND_LAYERS * config.backend_channels), config.dense_units)
        self.bn = nn.BatchNorm1d(config.dense_units)
        self._add_heads(config.dense_units, n_genres, n_tags, config.dropout)

    def _embed(self, layers: list[Tensor]) -> Tensor:
        frames = cat(layers, dim=1)
        pooled = cat([frames.amax(dim=2), frames.mean(dim=2)], dim=1)
        return F.relu(self.bn(self.dense1(pooled)))

    def layer_outputs(self, log_mel: Tensor) -> list[Tensor]:
        """Return the output of each front-end filter and each later layer, shapes (batch, channels, n_frames)."""
        image = self.spec_bn(log_mel)
        front = [layer(image) for layer in self.layers]
        first = self.layer1(cat(front, dim=1))
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        return [*front, first, second, third]


class PooledConvolution(nn.Module):
    """3×3 convolution, batch norm, ReLU, max-pooling over (bins, frames), cut to what is there."""

    def __init__(self, before: int, after: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.bn = nn.BatchNorm2d(after)
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, before, bins, frames) to (batch, after, bins // pool, frames // pool), each at least 1."""
        activations = F.relu(self.bn(self.conv(maps)))
        return F.max_pool2d(
            activations, (min(self.pool[0], activations.shape[2]), min(self.pool[1], activations.shape[3]))
        )


def _layers(channels: tuple[int, ...], pools: tuple[tuple[int, int], ...]) -> list[PooledConvolution]:
    return [
        PooledConvolution(before, after, pool)
        for before, after, pool in zip((1, *channels), channels, pools, strict=False)
    ]


def _each(image: Tensor, layers: list[PooledConvolution]) -> list[Tensor]:
    maps = [image]
    for layer in layers:
        maps.append(layer(maps[-1]))
    return maps[1:]


class Timbre(nn.Module):
    """Filters that span a share of the spectrum and 7 frames; the loudest place in frequency counts."""

    def __init__(self, n_mels: int, share: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            1, TIMBRE_CHANNELS, (int(share * n_mels), TIMBRE_FRAMES), padding=(0, TIMBRE_FRAMES // 2)
        )
        self.bn = nn.BatchNorm2d(TIMBRE_CHANNELS)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, 1, n_mels, n_frames) to (batch, 204, n_frames)."""
        return F.relu(self.bn(self.conv(image))).amax(dim=2)


class Temporal(nn.Module):
    """Long filters over the loudness curve: the mean over mel bins."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, TEMPORAL_CHANNELS, frames, padding=frames // 2)
        self.bn = nn.BatchNorm1d(TEMPORAL_CHANNELS)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, 1, n_mels, n_frames) to (batch, 51, n_frames)."""
        return F.relu(self.bn(self.conv(image.mean(dim=2))))


class MusicnnBackend(nn.Module):
    """A convolution of 7 frames over all channels, batch norm, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, after, 7, padding=3)
        self.bn = nn.BatchNorm1d(after)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (batch, before, n_frames) to (batch, after, n_frames)."""
        return F.relu(self.bn(self.conv(frames)))
