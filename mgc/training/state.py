"""The training state, a checkpoint: all that a fit needs to resume exactly, as bytes that execute nothing.

Tensors as safetensors, the rest as JSON in its header. There is no generator state: every draw follows from
(seed, epoch).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mgc.config.section import json_object
from mgc.errors import TrainingError

FORMAT = "mgc-training-state-3"
_TENSOR_FIELDS = ("weights", "best_weights", "optimizer", "average")
_FACT_FIELDS = ("epoch", "seed", "best_score", "best_epoch", "averaged")
_HEADER_KEY = "mgc.training_state"
_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, an unsigned 64-bit little-endian number."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class TrainingState:
    """Where a fit stands after `epoch` epochs. Tensors are on the CPU and shared with nobody.

    Parameters
    ----------
    epoch
        Epochs finished.
    seed
        Of the fit.
    weights
        The network's parameters and buffers now.
    best_weights
        Those of the best epoch so far.
    best_score
        Its validation loss; None where there is no validation split.
    best_epoch
        Its number, counted from 1; patience counts from it.
    optimizer
        Moments and step counts, named `<parameter>.<moment>`.
    average, averaged
        Mean of so many weights; empty where `training.averaging` is none.
    """

    epoch: int
    seed: int
    weights: Tensors
    best_weights: Tensors
    best_score: float | None
    best_epoch: int
    optimizer: Tensors
    average: Tensors = field(default_factory=dict)
    averaged: int = 0

    def to_bytes(self) -> bytes:
        """Return a form that `from_bytes` reads."""
        tensors = {
            # safetensors refuses names that share memory, as the best weights do with the present ones.
            f"{part}/{name}": tensor.clone()
            for part in _TENSOR_FIELDS
            for name, tensor in getattr(self, part).items()
        }
        facts = {"format": FORMAT, **{name: getattr(self, name) for name in _FACT_FIELDS}}
        data: bytes = safetensors.torch.save(tensors, {_HEADER_KEY: json.dumps(facts)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingState:
        """Return the state that `to_bytes` wrote.

        Raises
        ------
        TrainingError
            The bytes are cut short or no training state of this version.
        """
        try:
            facts = _facts(data)
            if facts.pop("format", None) != FORMAT:
                raise TrainingError("a checkpoint is of another version of mgc", "train anew")
            tensors = safetensors.torch.load(data)
            parts: dict[str, Any] = {part: _part(tensors, part) for part in _TENSOR_FIELDS}
            return cls(**parts, **facts)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"a checkpoint cannot be read: {error}",
                "delete the training directory beside the bundle to start anew",
            ) from error


def _facts(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json_object(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return json_object(header["__metadata__"][_HEADER_KEY])


def _part(tensors: Tensors, part: str) -> Tensors:
    prefix = f"{part}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def copy_weights(model: nn.Module) -> Tensors:
    """Return a copy of a network's parameters and buffers on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def copy_optimizer(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return a copy of an optimizer's moments and step counts on the CPU."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": tensor.detach().cpu().clone().contiguous()
        for number, moments in state.items()
        for name, tensor in moments.items()
        if tensor is not None  # SGD without momentum
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Tensors) -> None:
    """Put the moments that `copy_optimizer` took back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, moments in optimizer.state.items():
        for name, tensor in moments.items():
            if tensor.shape == parameter.shape:  # laid out as the parameter is, channels-last or not
                moments[name] = torch.empty_like(parameter).copy_(tensor)
