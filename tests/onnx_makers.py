"""Small torch networks as ONNX files, and their contracts."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mgc.models.bundle import BundleContents
from mgc.models.onnx_import import onnx_bundle, read_contract

RATE, SECONDS, N_MELS = 16_000, 3.0, 96
MEL = {"sample_rate": RATE, "n_fft": 512, "hop_length": 256, "n_mels": N_MELS, "window_seconds": SECONDS}
WAVEFORM = {"sample_rate": RATE, "window_seconds": SECONDS}


class OfMels(nn.Module):
    """Frames of mel bands to the probabilities of three tags, and an embedding."""

    def __init__(self, n_mels: int = N_MELS) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv1d(n_mels, 12, 5)
        self.tags = nn.Linear(12, 3)

    def forward(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.convolution(mels.transpose(1, 2)).relu().mean(2)
        return self.tags(embedding).sigmoid(), embedding


class OfSound(nn.Module):
    """Samples to the logits of three genres, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.convolution = nn.Conv1d(1, 10, 64, stride=32)
        self.genres = nn.Linear(10, 3)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        embedding = 10.0 * self.convolution(samples.unsqueeze(1)).relu().mean(2)
        return self.genres(embedding), embedding


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Any:
        return self.function(values)


def exported(network: nn.Module, example: Tensor, *, any_batch: bool = True) -> bytes:
    """Return a network as an ONNX file."""
    buffer = io.BytesIO()
    outputs = network(example)
    names = ["scores", "embedding"][: len(outputs) if isinstance(outputs, tuple) else 1]
    axes = {"sound": {0: "batch"}} if any_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (example,),
            buffer,
            input_names=["sound"],
            output_names=names,
            dynamic_axes=axes,
            dynamo=False,  # the other one wants onnxscript
        )
    return buffer.getvalue()


def contract_of(data: bytes, features: Any, network: Any, **labels: list[str]) -> dict[str, Any]:
    origin = {"sha256": hashlib.sha256(data).hexdigest(), "licence": "MIT"}
    return {"features": features, "network": network, "labels": labels, "origin": origin}


def imported(data: bytes, values: dict[str, Any]) -> BundleContents:
    return onnx_bundle(data, read_contract(values, "contract.toml"), "model.onnx")


MEL_NETWORK = {
    "axes": ["batch", "frames", "mels"],
    "scores": "scores",
    "embedding": "embedding",
    "activation": "sigmoid",
    "logarithm": "log10",
    "multiply": 10_000.0,
    "add": 1.0,
}
SOUND_NETWORK = {"axes": ["batch", "samples"], "scores": "scores", "embedding": "embedding"}
TAGS = ["fast", "loud", "solo"]
