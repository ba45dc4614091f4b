"""A model bundle: a directory with all that tagging needs, every byte checked when it is read.

`member-0.safetensors` … the members' weights, `member-0.onnx` an imported network's graph; `bundle.json`
architecture, features, vocabularies, temperatures, figures, and how it was made; `README.md` the model card;
`manifest.json`, written last, the sha256 and size of each. Nothing in it can execute. What needs no torch is in
`bundle_files`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor, nn

from mgc import __version__
from mgc.config import FeatureConfig, FitConfig, ModelConfig, TrainingConfig, fingerprint_of, read_model_config
from mgc.config.network_settings import OnnxConfig, TransferConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError, FingerprintError, LabelError
from mgc.models.bundle_files import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    FileMark,
    Manifest,
    StoredBundle,
    read_bundle_files,
    read_files,
    read_manifest,
)
from mgc.models.crnn import served
from mgc.models.ensemble import Decision, TemperatureScaling
from mgc.models.model_card import model_card
from mgc.models.network_registry import build_model
from mgc.models.onnx_network import GRAPH, OnnxNetwork, checked_graph
from mgc.storage.store import Store

Weights = dict[str, Tensor]

CARD_FILE = "README.md"
FIT_SETTINGS = set(FitConfig.model_fields)
FIRST_TRANSFER: dict[str, Any] = {"adapt_norms": False, "upsampling": "linear"}
"""What the first bundles of `transfer` members do not name, and how it was then."""
_PICKLE_MARKS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of what `torch.save` and `pickle.dump` write."""


@dataclass(frozen=True)
class Member:
    """One network of the ensemble: architecture, weights and temperatures."""

    config: ModelConfig | OnnxConfig
    weights: Weights
    calibration: TemperatureScaling


@dataclass(frozen=True)
class BundleContents:
    """What a bundle holds.

    Parameters
    ----------
    members
        At least one.
    features
        Features that the members take.
    taxonomy
        What they answer.
    training
        How they were fitted.
    metrics
        Validation figures: `members`, a list, and `ensemble`, each name → number or None.
    facts
        What is known of the training data; JSON-ready.
    decision
        How the members' predictions become answers.
    """

    members: tuple[Member, ...]
    features: FeatureConfig
    taxonomy: Taxonomy
    training: TrainingConfig
    metrics: dict[str, Any]
    facts: dict[str, Any]
    decision: Decision = field(default_factory=Decision, kw_only=True)

    def __post_init__(self) -> None:
        if not self.members:
            raise BundleError("a model bundle needs at least one member", "train it anew")


@dataclass(frozen=True)
class Bundle(BundleContents):
    """A bundle as it was read.

    Parameters
    ----------
    uri
        Where it lies.
    fingerprint
        16 hex digits of all that decides its answers.
    mgc_version, created_at
        What wrote it, and when (ISO 8601, UTC).
    """

    uri: str
    fingerprint: str
    mgc_version: str
    created_at: str

    def build_members(self, device: str = "cpu") -> list[nn.Module]:
        """Return the networks with their weights, ready to answer."""
        return [served(build_member(member, self.features, self.taxonomy, device)) for member in self.members]


def build_member(member: Member, features: FeatureConfig, taxonomy: Taxonomy, device: str = "cpu") -> nn.Module:
    """Return a member's network with its weights, in evaluation mode."""
    model = build_model(member.config, features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    model.load_state_dict(member.weights)
    model.to(device).eval()
    for network in model.modules():
        if isinstance(network, OnnxNetwork):
            network.session(torch.device(device))  # what is wrong with it is said now, and not of a track
    return model


def write_bundle(store_uri: str, contents: BundleContents, overwrite: bool = False) -> str:
    """Write a bundle; readers see it once its manifest is there, and not before.

    Parameters
    ----------
    store_uri
        A directory of its own, a path or `s3://bucket/prefix`.
    overwrite
        Replace a bundle that gives other answers. One that gives the same is left as it is.

    Returns
    -------
    str
        The fingerprint.

    Raises
    ------
    BundleError
        Another bundle is there, or the weights do not fit the architecture.
    """
    store = Store.open(store_uri)
    _check_members(contents)
    weights = {
        name: data for number, one in enumerate(contents.members) for name, data in _files_of(number, one).items()
    }
    fingerprint = answer_fingerprint(contents, [FileMark.of(data).sha256 for data in weights.values()])
    if not overwrite and _is_there(store, fingerprint):
        return fingerprint
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    description = describe(contents, fingerprint, created_at)
    files = {
        **weights,
        DESCRIPTION_FILE: json.dumps(description, indent=2, allow_nan=False).encode(),
        CARD_FILE: model_card(description).encode(),
    }
    _clear(store)
    for name, data in files.items():
        store.write_atomic(name, data)
    store.write_atomic(MANIFEST_FILE, Manifest.of(fingerprint, files).to_bytes())
    return fingerprint


def _is_there(store: Store, fingerprint: str) -> bool:
    """Return whether this very bundle is there, whole; raise where another or a damaged one is."""
    if not store.exists(MANIFEST_FILE):
        return False
    found = read_manifest(store)
    if found.fingerprint != fingerprint:
        raise BundleError(
            f"'{store.uri()}' holds another bundle ({found.fingerprint}, not {fingerprint})",
            "write to another directory, or --overwrite",
        )
    read_files(store, found)
    return True


def _clear(store: Store) -> None:
    """Delete the manifest first, so that nobody reads a mixture, then the members of a larger ensemble."""
    store.delete(MANIFEST_FILE)
    for info in list(store.list("member-")):
        store.delete(info.key)


def load_bundle(uri: str, fingerprint: str | None = None) -> Bundle:
    """Return a bundle after checking every byte of it.

    Parameters
    ----------
    fingerprint
        Of the bundle that a run began with, where it is read again in another process; None: any is taken.

    Raises
    ------
    BundleError
        A file is missing or was changed, the format is of another version, weights are no safetensors or do
        not fit their architecture.
    FingerprintError
        Another bundle is there now.
    """
    bundle = bundle_of(read_bundle_files(uri))
    if fingerprint not in (None, bundle.fingerprint):
        raise FingerprintError(
            f"the bundle at '{bundle.uri}' was replaced during the run: it is {bundle.fingerprint} now, "
            f"and the run began with {fingerprint}",
            "start the command again to use the new one; write the next bundle into a directory of its own",
        )
    return bundle


def bundle_of(stored: StoredBundle) -> Bundle:
    """Return the bundle that files make; see `load_bundle`."""
    bundle = _bundle(stored)
    _check_members(bundle)
    hashes = [
        stored.manifest.files[name].sha256
        for number, member in enumerate(bundle.members)
        for name in _file_names(number, member.config)
    ]
    if bundle.fingerprint != answer_fingerprint(bundle, hashes):
        raise BundleError(
            f"the bundle at '{stored.uri}' calls itself {bundle.fingerprint}, but its files give another fingerprint",
            "this version of mgc would give other answers: use the version that wrote it",
        )
    return bundle


def _bundle(stored: StoredBundle) -> Bundle:
    value = stored.description
    try:
        return Bundle(
            members=tuple(_member(number, entry, stored.files) for number, entry in enumerate(value["members"])),
            features=FeatureConfig.model_validate(value["features"]),
            taxonomy=Taxonomy.from_dict(value["taxonomy"]),
            training=TrainingConfig.model_validate(value["training"]),
            metrics=value["metrics"],
            facts=value["facts"],
            decision=TypeAdapter(Decision).validate_python(value["decision"]),
            uri=stored.uri,
            fingerprint=stored.manifest.fingerprint,
            mgc_version=value["mgc_version"],
            created_at=value["created_at"],
        )
    except (ValueError, KeyError, TypeError, LabelError) as error:
        raise stored.not_understood(error) from error


def _member(number: int, entry: dict[str, Any], files: dict[str, bytes]) -> Member:
    model = entry["model"]
    if model["name"] == "transfer":
        model = {**FIRST_TRANSFER, **model}
    config = OnnxConfig.model_validate(model) if model["name"] == "onnx" else read_model_config(model)
    for name in _file_names(number, config):
        if name not in files:
            raise BundleError(f"the bundle's manifest does not list '{name}'", "train it anew")
    weights = weights_from_bytes(files[member_file(number)], member_file(number))
    if key := _graph_key(config):
        checked_graph(files[graph_file(number)], graph_file(number))
        weights[key] = torch.frombuffer(bytearray(files[graph_file(number)]), dtype=torch.uint8)
    return Member(
        config=config,
        weights=weights,
        calibration=TemperatureScaling(**entry["calibration"]),
    )


def _graph_key(config: ModelConfig | OnnxConfig) -> str | None:
    """Return which of a member's tensors is an ONNX file."""
    if isinstance(config, TransferConfig):
        return f"statistics.network.{GRAPH}" if config.onnx else None
    return GRAPH if isinstance(config, OnnxConfig) else None


def _file_names(number: int, config: ModelConfig | OnnxConfig) -> list[str]:
    """Return the names of a member's files in its bundle."""
    return [member_file(number), *([graph_file(number)] if _graph_key(config) else [])]


def _files_of(number: int, member: Member) -> dict[str, bytes]:
    """Return a member's files by name."""
    key = _graph_key(member.config)
    tensors = {name: tensor for name, tensor in member.weights.items() if name != key}
    files = {member_file(number): weights_to_bytes(tensors)}
    return files | {graph_file(number): member.weights[key].cpu().numpy().tobytes()} if key else files


def graph_file(number: int) -> str:
    """Return the name of a member's ONNX file in its bundle."""
    return f"member-{number}.onnx"


def member_file(number: int) -> str:
    """Return the name of a member's weights in its bundle."""
    return f"member-{number}.safetensors"


def describe(contents: BundleContents, fingerprint: str, created_at: str) -> dict[str, Any]:
    """Return the content of `bundle.json`."""
    return {
        "mgc_version": __version__,
        "created_at": created_at,
        "fingerprint": fingerprint,
        "members": [
            {**entry, "training": contents.training.for_member(number).model_dump(mode="json", include=FIT_SETTINGS)}
            for number, entry in enumerate(_describe_members(contents))
        ],
        "decision": contents.decision.to_dict(),
        "features": contents.features.model_dump(mode="json"),
        "feature_fingerprint": contents.features.fingerprint(),
        "taxonomy": contents.taxonomy.to_dict(),
        "training": contents.training.model_dump(mode="json"),
        "metrics": contents.metrics,
        "facts": contents.facts,
    }


def _describe_members(contents: BundleContents) -> list[dict[str, Any]]:
    return [
        {
            "file": member_file(number),
            "model": _described_model(member.config),
            "calibration": asdict(member.calibration),
        }
        for number, member in enumerate(contents.members)
    ]


def _described_model(config: ModelConfig | OnnxConfig) -> dict[str, Any]:
    """Return a network's settings but for what is as in the first `transfer` bundles: their fingerprints stay."""
    found = config.model_dump(mode="json")
    first = FIRST_TRANSFER if isinstance(config, TransferConfig) else {}
    return {key: value for key, value in found.items() if first.get(key, found) != value}


def answer_fingerprint(contents: BundleContents, weight_hashes: list[str]) -> str:
    """Return a hash that changes when, and only when, the answers may: not with the date, the figures or the card."""
    return fingerprint_of(
        {
            "format_version": FORMAT_VERSION,
            "weights": weight_hashes,
            "members": _describe_members(contents),
            "decision": contents.decision.to_dict(),
            "features": contents.features.fingerprint(),
            "taxonomy": contents.taxonomy.to_dict(),
        }
    )


def weights_to_bytes(weights: Weights) -> bytes:
    """Return a safetensors file, the same bytes for the same weights."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    data: bytes = safetensors.torch.save(tensors)
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


def _check_members(contents: BundleContents) -> None:
    for number, member in enumerate(contents.members):
        check_weights(member.weights, member.config, contents.features.n_mels, contents.taxonomy, member_file(number))


def check_weights(
    weights: Weights, config: ModelConfig | OnnxConfig, n_mels: int, taxonomy: Taxonomy, name: str
) -> None:
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
