"""Networks of others as ONNX files: the graph's bytes as a network of ours.

onnxruntime computes it, imported when the first window comes; `onnx` reads the graph before. A graph may be data
alone: no operators but those of the standard (`ai.onnx`, `ai.onnx.ml`, or functions of such in the file itself), no
tensors in other files, no more than `MAX_BYTES` and `MAX_NODES`. That is looked at when a file is imported
(`mgc.models.onnx_import`) and each time that a bundle is loaded, which may come from anywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgc.audio.features.analysis import REST_SCALE
from mgc.config.feature_settings import WAVEFORM_ROW
from mgc.config.network_settings import OnnxConfig
from mgc.errors import BundleError, ConfigError
from mgc.logs import log
from mgc.models.layers import ModelOutput

MAX_BYTES = 512 * 2**20
MAX_NODES = 100_000
STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
GRAPH = "graph"
"""The tensor of `OnnxNetwork` that holds the file; in a bundle it is a file of its own (`mgc.models.bundle`)."""
LEAST_SHARE = 1e-7
"""A probability nearer to 0 or 1 than this counts as this far away: its logit is finite."""
ROUNDING = 1e-3
"""By how much a probability may lie outside of 0 to 1."""
CPU_WINDOWS, GPU_WINDOWS = 8, 512
"""Windows a pass at most: `mgc.models.forward` fills up to a multiple of the first, so that it is always as many."""
DEVICE_SIGNS = ("CUDA failure", "CUDNN failure", "CUBLAS failure", "Failed to allocate memory", "bad allocation")
"""In errors of onnxruntime that say nothing about a track."""


class OnnxNetwork(nn.Module):
    """An ONNX graph as a network of ours: log-mel or waveform rows in, logits and an embedding out.

    The graph's bytes are one of its tensors, so that it travels as weights do.

    Parameters
    ----------
    config
        The contract, with what was read from the file.
    n_mels
        Columns of what comes in.
    n_genres, n_tags
        Labels of the scores: one of the two, or none.
    """

    graph: Tensor
    band_db: Tensor

    def __init__(self, config: OnnxConfig, n_mels: int, n_genres: int, n_tags: int) -> None:
        super().__init__()
        self.config = config
        self._n_genres, self._n_tags = n_genres, n_tags
        self.register_buffer(GRAPH, torch.zeros(config.n_bytes, dtype=torch.uint8))
        self.register_buffer("band_db", torch.zeros(n_mels))
        self._sessions: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what computes it: another process makes its own."""
        return {**self.__dict__, "_sessions": {}}

    def forward(self, log_mel: Tensor) -> ModelOutput:
        """Map windows, shape (batch, n_frames, n_mels), in dB or rows of a waveform; see `values_of`."""
        logits, embedding = self.values_of(log_mel)
        empty = logits[:, :0]
        return ModelOutput(logits if self._n_genres else empty, logits if self._n_tags else empty, embedding)

    def values_of(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embedding, shapes (batch, values); of the one that it lacks, no values or the other's.

        Raises
        ------
        ValueError
            The network fails, or its output is not finite.
        MemoryError
            The device failed, or its memory is short.
        """
        windows = self._input(log_mel.float())
        device, config = windows.device, self.config
        at_once = config.batch or (GPU_WINDOWS if device.type == "cuda" else CPU_WINDOWS)
        parts = [self._run(windows[start : start + at_once]) for start in range(0, len(windows), at_once)]
        found = [torch.cat(one).to(device) for one in zip(*parts, strict=True)]
        if not all(torch.isfinite(one).all() for one in found):
            raise ValueError("the imported network's output is not finite")
        logits = self._logits(found[0]) if config.scores else found[0][:, :0]
        return logits, found[-1] if config.embedding else logits

    def _input(self, rows: Tensor) -> Tensor:
        """Return what the graph takes, its axes in order."""
        config = self.config
        if config.waveform:
            samples = (rows[..., :WAVEFORM_ROW] + rows[..., WAVEFORM_ROW:] / REST_SCALE).flatten(1)
            values = samples[:, : config.frames]
            inner = ["batch", "samples"]
        else:
            values = self._scaled(rows[:, config.first_frame :][:, : config.frames])
            inner = ["batch", "frames", "mels"]
        values = values.permute([inner.index(axis) for axis in config.axes if axis != "channel"])
        return values.unsqueeze(config.axes.index("channel")) if "channel" in config.axes else values

    def _scaled(self, log_mel: Tensor) -> Tensor:
        """Return the logarithm of the power as the network was trained on it."""
        config = self.config
        values = log_mel + self.band_db
        if (config.logarithm, config.multiply, config.add) != ("db", 1.0, 0.0):
            power = 10.0 ** (values / 10.0) * config.multiply + config.add
            values = power.log() if config.logarithm == "ln" else power.log10()
            values = values * 10.0 if config.logarithm == "db" else values
        return (values - config.mean) / config.deviation

    def _run(self, windows: Tensor) -> list[Tensor]:
        """Return scores and embedding, or the one that there is, of some windows, shapes (n, values)."""
        session = self.session(windows.device)
        spare = windows[:1].expand(-len(windows) % (self.config.batch or 1), *windows.shape[1:])
        values = torch.cat([windows, spare]).contiguous().cpu().numpy()
        wanted = [name for name in (self.config.scores, self.config.embedding) if name]
        try:
            found = session.run(wanted, {session.get_inputs()[0].name: values})
        except Exception as error:  # onnxruntime's errors have no base of their own
            first_line = str(error).splitlines()[0]
            kind = MemoryError if any(sign in str(error) for sign in DEVICE_SIGNS) else ValueError
            raise kind(f"onnxruntime: {first_line}") from error
        return [self._pooled(one, len(values))[: len(windows)] for one in found]

    def _pooled(self, values: Any, n_windows: int) -> Tensor:
        """Map (batch, …, values) to (batch, values)."""
        tensor = torch.from_numpy(np.asarray(values, np.float32))
        if tensor.ndim < 2 or len(tensor) != n_windows:
            raise ValueError(
                f"an output of shape {tuple(tensor.shape)} has no values for each of {n_windows} windows"
            )
        if tensor.ndim == 2:
            return tensor
        places = tensor.flatten(1, -2)
        return places.amax(1) if self.config.pooling == "max" else places.mean(1)

    def _logits(self, scores: Tensor) -> Tensor:
        if self.config.activation != "logits" and not all_shares(scores):
            raise ValueError(f"scores are not between 0 and 1, as those of a {self.config.activation} are")
        if self.config.activation == "sigmoid":
            return torch.logit(scores, eps=LEAST_SHARE)
        return scores.clamp(min=LEAST_SHARE).log() if self.config.activation == "softmax" else scores

    def session(self, device: torch.device) -> Any:
        """Return what computes the graph on a device, made once."""
        if device.type not in self._sessions:
            data = self.graph.cpu().numpy().tobytes()
            self._sessions[device.type] = _session(data, device)
        return self._sessions[device.type]


def all_shares(scores: Tensor) -> bool:
    """Return whether scores may be probabilities."""
    return bool(((scores > -ROUNDING) & (scores < 1.0 + ROUNDING)).all())


def _session(data: bytes, device: torch.device) -> Any:
    """Return what computes a graph, on as many threads as torch may use, or on the GPU."""
    runtime = installed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" in runtime.get_available_providers():
            # TensorFloat-32 would give other answers than the CPU; an exhaustive search is made for every shape.
            own = {"device_id": device.index or 0, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
            providers.insert(0, ("CUDAExecutionProvider", own))
        else:
            log.warning("onnxruntime has no CUDA here: the network runs on the CPU (pip install onnxruntime-gpu)")
    try:
        return runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise BundleError(
            f"onnxruntime {runtime.__version__} cannot load the network: {str(error).splitlines()[0]}",
            "export it anew with operators of the ONNX standard and float32",
        ) from error


def installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name}, which an imported network needs, is not installed", "pip install 'mgc-tagger[onnx]'"
        ) from error


# What a file may hold.


def checked_graph(data: bytes, name: str) -> Any:
    """Return an ONNX file as `onnx` reads it, if it is data alone.

    Raises
    ------
    BundleError
        It is larger than what is read, no ONNX file, or has external data or operators of others.
    """
    if len(data) > MAX_BYTES:
        raise BundleError(
            f"'{name}' has {len(data):,} bytes; ONNX files of at most {MAX_BYTES:,} are read", "use a smaller network"
        )
    onnx = installed("onnx")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's, which depends on how it was built
        raise BundleError(f"'{name}' is no ONNX file: {error}", "give a .onnx file") from error
    if not model.graph.node:
        raise BundleError(f"'{name}' is no ONNX file: there is no graph in it", "give a .onnx file")
    domains = STANDARD_DOMAINS | {function.domain for function in model.functions}
    nodes = 0
    for part in _parts(model):
        if isinstance(part, onnx.NodeProto):
            nodes += 1
            if part.domain not in domains:
                raise BundleError(
                    f"'{name}' uses the operator {part.domain}::{part.op_type}, which is not of the ONNX standard",
                    "such operators are code of others: export the network with standard operators alone",
                )
        elif part.data_location == onnx.TensorProto.EXTERNAL or part.external_data:
            raise BundleError(
                f"'{name}' keeps the tensor '{part.name}' in another file",
                'save it whole: onnx.save(model, "whole.onnx", save_as_external_data=False)',
            )
        if nodes > MAX_NODES:
            raise BundleError(f"'{name}' has more than {MAX_NODES:,} operators", "use a smaller network")
    return model


def _parts(model: Any) -> Iterator[Any]:
    """Yield every node and every tensor of a model, those inside of branches, loops and functions too."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                yield from (tensor for tensor in (attribute.t, *attribute.tensors))
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                waiting += [inner for inner in (attribute.g, *attribute.graphs) if inner.node or inner.initializer]
