"""A member's weights as bytes: safetensors, and nothing else."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mgc.config import ModelConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError
from mgc.models.network_registry import build_model

Weights = dict[str, Tensor]

_PICKLE_MARKS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of what `torch.save` and `pickle.dump` write."""


def weights_to_bytes(weights: Weights) -> bytes:
    """Return the same bytes for the same weights."""
    data: bytes = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    )
    return data


def weights_from_bytes(data: bytes, name: str) -> Weights:
    """Return the tensors of a file named `name`.

    Raises
    ------
    BundleError
        It is a pickle, which is never read, or no safetensors file.
    """
    # A safetensors file has its header's length in the first eight bytes, and "{" in the ninth.
    if data[8:9] != b"{" and data.startswith(_PICKLE_MARKS):
        raise BundleError(
            f"'{name}' is a pickle, which can execute code and is never read",
            "convert the weights to safetensors where you trust them",
        )
    try:
        weights: Weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise BundleError(f"'{name}' is no safetensors file: {error}", "fetch or train the bundle anew") from error
    return weights


def check_weights(weights: Weights, config: ModelConfig, n_mels: int, taxonomy: Taxonomy, name: str) -> None:
    """Refuse tensors that are not those of the architecture, or are not finite.

    Raises
    ------
    BundleError
        Naming the first tensor that is missing, unknown, of another shape or type, or not finite.
    """
    with torch.device("meta"):
        expected = build_model(config, n_mels, len(taxonomy.genres), len(taxonomy.tags)).state_dict()
    for key in sorted(expected.keys() | weights.keys()):
        problem = _problem(expected.get(key), weights.get(key))
        if problem:
            raise BundleError(
                f"'{name}' does not fit its architecture: tensor '{key}' {problem}",
                "the settings in bundle.json and the weights are of different networks: train anew",
            )


def _problem(expected: Tensor | None, found: Tensor | None) -> str | None:
    if expected is None:
        return "is not part of it"
    if found is None:
        return "is missing"
    if found.shape != expected.shape:
        return f"has shape {tuple(found.shape)}, not {tuple(expected.shape)}"
    if found.dtype != expected.dtype:
        return f"holds {found.dtype}, not {expected.dtype}"
    if not torch.isfinite(found).all():
        return "holds values that are not finite"
    return None
