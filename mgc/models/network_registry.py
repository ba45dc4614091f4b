"""From settings to a network. To add one: a section in `mgc.config.network_settings`, a class, a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mgc.config import ModelConfig
from mgc.config.network_settings import OnnxConfig
from mgc.models.block_level import BlockLevel
from mgc.models.cp_resnet import CpResnet
from mgc.models.crnn import Crnn
from mgc.models.literature import CaoCnn, GuoCnn, GuoHybrid, GuoRnn, JainCnn, JainLstm, JainMlp, Transformer, ZhangCnn
from mgc.models.onnx_network import OnnxNetwork
from mgc.models.published_networks import ChoiCrnn, ChoiFcn, Musicnn
from mgc.models.transfer import Transfer

MODELS: dict[str, Callable[[Any, int, int, int], nn.Module]] = {
    "crnn": Crnn,
    "cp_resnet": CpResnet,
    "block_level": BlockLevel,
    "cao_cnn": CaoCnn,
    "guo_cnn": GuoCnn,
    "guo_rnn": GuoRnn,
    "guo_hybrid": GuoHybrid,
    "jain_mlp": JainMlp,
    "jain_lstm": JainLstm,
    "jain_cnn": JainCnn,
    "zhang_cnn": ZhangCnn,
    "transformer": Transformer,
    "choi_fcn": ChoiFcn,
    "choi_crnn": ChoiCrnn,
    "musicnn": Musicnn,
    "transfer": Transfer,
}
"""Every architecture by its name in `ModelConfig`."""


def build_model(config: ModelConfig | OnnxConfig, n_mels: int, n_genres: int, n_tags: int) -> nn.Module:
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
        Gives a `ModelOutput` of logits and embedding when called.
    """
    if isinstance(config, OnnxConfig):
        return OnnxNetwork(config, n_mels, n_genres, n_tags)
    return MODELS[config.name](config, n_mels, n_genres, n_tags)


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers training may change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
