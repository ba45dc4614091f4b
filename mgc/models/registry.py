"""From settings to a network."""

from __future__ import annotations

from torch import nn

from mgc.config import ModelConfig
from mgc.models.crnn import Crnn

MODELS: dict[str, type[Crnn]] = {"crnn": Crnn}
"""Every architecture by its name in `ModelConfig`."""


def build_model(config: ModelConfig, n_mels: int, n_genres: int, n_tags: int) -> nn.Module:
    """Return a network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    config
        Architecture and sizes.
    n_mels
        Mel bins of the input, of shape (batch, n_frames, n_mels).
    n_genres, n_tags
        Outputs; either may be 0.

    Returns
    -------
    nn.Module
        Returns a `ModelOutput` of logits and embedding when called.
    """
    return MODELS[config.name](config, n_mels, n_genres, n_tags)
