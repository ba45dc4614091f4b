"""`mgc import-onnx`: an ONNX file and a contract, which says what it takes and gives, to a model bundle.

The file is read as data (`checked_graph`), held against its contract, and tried on noise and on silence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, ValidationError

from mgc.audio.features.filter_banks import filter_banks
from mgc.config import FeatureConfig, Section, TrainingConfig
from mgc.config.feature_settings import WAVEFORM_ROW
from mgc.config.network_settings import OnnxConfig
from mgc.config.settings import explained
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError, ConfigError, LabelError
from mgc.logs import log
from mgc.models.bundle import BundleContents, Member
from mgc.models.ensemble import TemperatureScaling
from mgc.models.onnx_network import GRAPH, OnnxNetwork, all_shares, checked_graph

TRIED_WINDOWS = 2
"""Of noise and of silence."""
FLOAT32 = 1
"""In the ONNX standard's list of types."""


class OnnxLabels(Section):
    """What the scores are of, in their order: genres, of which a track has one, or tags."""

    section_kind: ClassVar[str] = "onnx_labels"
    genres: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class OnnxOrigin(Section):
    """Where a file is from, and which it is."""

    section_kind: ClassVar[str] = "onnx_origin"
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    source: str | None = None


class OnnxContract(Section):
    """What a `contract.toml` says: `docs/models.md` has examples."""

    section_kind: ClassVar[str] = "onnx_contract"
    features: FeatureConfig
    network: OnnxConfig
    labels: OnnxLabels = OnnxLabels()
    origin: OnnxOrigin


def read_contract(values: dict[str, Any], path: str) -> OnnxContract:
    """Return the contract that TOML values are.

    Levels are relative to full scale, and kept 100 dB down where nothing else is said.

    Raises
    ------
    ConfigError
        A key is missing, unknown, or out of range.
    """
    features = values.get("features")
    network = values.get("network")
    if isinstance(features, dict) and isinstance(network, dict):
        own: dict[str, Any] = {"reference": "full_scale", "top_db": 100.0}
        if "samples" in str(network.get("axes")):
            own = {"content": "waveform", "hop_length": WAVEFORM_ROW, "n_mels": 2 * WAVEFORM_ROW, "n_fft": 512}
        values = values | {"features": own | features}
    try:
        return OnnxContract.model_validate(values)
    except ValidationError as error:
        raise explained(error, f" in {path}", OnnxContract, "docs/models.md has contracts to begin with") from error


def onnx_bundle(data: bytes, contract: OnnxContract, name: str) -> BundleContents:
    """Return a bundle of one network from an ONNX file, after trying it on noise and on silence.

    Parameters
    ----------
    data
        Content of the file.
    name
        Of the file, for messages and the card.

    Raises
    ------
    BundleError
        It is not the file of the contract, may not be read, or does not fit the contract.
    ConfigError
        onnx or onnxruntime is not installed.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest != contract.origin.sha256:
        raise BundleError(
            f"'{name}' is not the file of the contract: its SHA-256 is {digest}, not {contract.origin.sha256}",
            "fetch it anew; or correct origin.sha256, if this is the file that is meant",
        )
    features, labels = contract.features, contract.labels
    try:
        taxonomy = Taxonomy(labels.genres, labels.tags)
    except LabelError as error:
        raise ConfigError(f"labels: {error.message}", "name each once, in the order of the scores") from error
    if labels.genres and labels.tags:
        raise ConfigError("labels has genres and tags", "the scores are of genres, or of tags")
    given = _Interface.of(data, name)
    config = given.completed(contract.network, features, len(data), name)
    weights = {
        GRAPH: torch.frombuffer(bytearray(data), dtype=torch.uint8),
        "band_db": torch.from_numpy(_band_db(features, config)),
    }
    network = OnnxNetwork(config, features.n_mels, len(labels.genres), len(labels.tags))
    network.load_state_dict(weights)
    size = _tried(network, features, len(labels.genres) + len(labels.tags), name)
    config = config.model_copy(update={"embedding_size": size})
    facts = {"published": name, **contract.origin.model_dump(mode="json", exclude_none=True)}
    member = Member(config, weights, TemperatureScaling())
    return BundleContents((member,), features, taxonomy, TrainingConfig(members=1), {}, facts)


@dataclass(frozen=True)
class _Interface:
    """A graph's one input and its outputs: name, and length of each axis, None where it may be any."""

    axes: tuple[int | None, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, data: bytes, name: str) -> _Interface:
        model = checked_graph(data, name)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [one for one in model.graph.input if one.name not in constants]
        if len(inputs) != 1:
            names = ", ".join(f"'{one.name}'" for one in inputs) or "none"
            raise BundleError(
                f"'{name}' takes {len(inputs)} inputs ({names}), not one", "export it with the sound alone"
            )
        tensor = inputs[0].type.tensor_type
        if tensor.elem_type != FLOAT32:
            raise BundleError(f"the input of '{name}' is not float32", "export it in float32")
        axes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
        return cls(axes, tuple(one.name for one in model.graph.output))

    def completed(self, config: OnnxConfig, features: FeatureConfig, n_bytes: int, name: str) -> OnnxConfig:
        """Return the contract with what the file says, or refuse one that does not fit it."""

        def misfit(what: str) -> BundleError:
            return BundleError(f"'{name}' does not fit its contract: {what}", "correct the contract (docs/models.md)")

        for output in (config.scores, config.embedding):
            if output is not None and output not in self.outputs:
                raise misfit(f"it has no output '{output}', but {', '.join(self.outputs)}")
        if len(self.axes) != len(config.axes):
            raise misfit(f"its input has {len(self.axes)} axes, network.axes {len(config.axes)}")
        if config.waveform != (features.content == "waveform"):
            raise misfit("features.content and network.axes disagree on whether it takes a waveform")
        given: dict[str, int | None] = dict(zip(config.axes, self.axes, strict=True))
        along = "samples" if config.waveform else "frames"
        there = features.window_samples if config.waveform else features.n_frames - config.first_frame
        length = config.frames or given[along] or (there if config.waveform else None)
        if given[along] not in (None, length) or (length or 0) > there:
            raise misfit(
                f"it takes {given[along] or length} {along}, network.frames is {config.frames or 'not given'}, and a "
                f"window has {there}"
            )
        for axis, wanted in (("mels", features.n_mels), ("channel", 1), ("batch", config.batch)):
            if given.get(axis) is not None and wanted is not None and given[axis] != wanted:
                raise misfit(f"its {axis} axis has {given[axis]}, and not {wanted}")
        return config.model_copy(
            update={
                "frames": length,
                "batch": config.batch or given["batch"],
                "n_columns": features.n_mels,
                "n_bytes": n_bytes,
            }
        )


def _band_db(features: FeatureConfig, config: OnnxConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what is added to our levels, dB, shape (n_mels,): the width of each filter where theirs are as high."""
    if config.waveform or config.filters == "area":
        return np.zeros(features.n_mels, np.float32)
    corners = filter_banks(features).mel_hz
    return np.asarray(10.0 * np.log10((corners[2:] - corners[:-2]) / 2.0), np.float32)


def _tried(network: OnnxNetwork, features: FeatureConfig, n_labels: int, name: str) -> int:
    """Return the length of the embedding of a network that answers noise and silence as its contract says."""
    shape = (TRIED_WINDOWS, features.n_frames, features.n_mels)
    noise = np.random.default_rng(0).uniform(features.silence, 0.0, shape)
    if network.config.waveform:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, shape)
    tried = torch.from_numpy(np.concatenate([noise, np.full(shape, features.silence)])).float()
    try:
        logits, embedding = network.values_of(tried)
    except (ValueError, MemoryError) as error:
        raise BundleError(
            f"'{name}' does not fit its contract: {error}", "correct the contract (docs/models.md), or the export"
        ) from error
    found = logits.shape[1]
    if found != n_labels:
        raise BundleError(
            f"'{name}' does not fit its contract: {found} scores for {n_labels} labels",
            "name the labels in the order of the scores; none, and no network.scores, for an embedding alone",
        )
    if found and network.config.activation == "logits" and all_shares(logits):
        log.warning(
            "the scores of '%s' for noise and silence lie between 0 and 1: should network.activation be sigmoid or "
            "softmax?",
            name,
        )
    return int(embedding.shape[1])
