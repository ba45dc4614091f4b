"""A model bundle: a directory with all that tagging needs, safe to read and proof against a flipped bit.

`member-0.safetensors` … the members' weights; `bundle.json` architecture, features, vocabularies,
temperatures, figures, and how it was made; `README.md` the model card; `manifest.json`, written last, the
sha256 and size of each. Nothing in it can execute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from torch import nn

from mgc import __version__
from mgc.config import FeatureConfig, ModelConfig, TrainingConfig, fingerprint_of
from mgc.data.storage import Store
from mgc.errors import BundleError, LabelError
from mgc.models.calibration import Calibration
from mgc.models.card import model_card
from mgc.models.manifest import FORMAT_VERSION, MANIFEST_FILE, FileMark, Manifest, read_files, read_manifest
from mgc.models.registry import build_model
from mgc.models.weights import Weights, check_weights, weights_from_bytes, weights_to_bytes
from mgc.taxonomy import Taxonomy

DESCRIPTION_FILE = "bundle.json"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Member:
    """One network of the ensemble: architecture, weights and temperatures."""

    config: ModelConfig
    weights: Weights
    calibration: Calibration


@dataclass(frozen=True)
class BundleContents:
    """What a bundle holds.

    Parameters
    ----------
    members
        At least one.
    features
        What the members hear.
    taxonomy
        What they answer.
    training
        How they were fitted.
    metrics
        Validation figures: `members`, a list, and `ensemble`, each name → number or None.
    facts
        What is known of the training data; JSON-ready.
    """

    members: tuple[Member, ...]
    features: FeatureConfig
    taxonomy: Taxonomy
    training: TrainingConfig
    metrics: dict[str, Any]
    facts: dict[str, Any]


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
        """Return the networks with their weights, in evaluation mode."""
        return [build_member(member, self.features, self.taxonomy, device) for member in self.members]


def build_member(member: Member, features: FeatureConfig, taxonomy: Taxonomy, device: str = "cpu") -> nn.Module:
    """Return a member's network with its weights, in evaluation mode."""
    model = build_model(member.config, features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    model.load_state_dict(member.weights)
    return model.to(device).eval()


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
    weights = {_member_file(number): _checked_bytes(contents, number) for number in range(len(contents.members))}
    fingerprint = _fingerprint(contents, [FileMark.of(data).sha256 for data in weights.values()])
    if not overwrite and _is_there(store, fingerprint):
        return fingerprint
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    description = _description(contents, fingerprint, created_at)
    files = {
        **weights,
        DESCRIPTION_FILE: json.dumps(description, indent=2, allow_nan=False).encode(),
        CARD_FILE: model_card(description).encode(),
    }
    store.delete(MANIFEST_FILE)
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


def load_bundle(uri: str) -> Bundle:
    """Return a bundle after checking every byte of it.

    Raises
    ------
    BundleError
        A file is missing or was changed, the format is of another version, weights are no safetensors or do
        not fit their architecture.
    """
    store = Store.open(uri)
    manifest = read_manifest(store)
    files = read_files(store, manifest)
    if DESCRIPTION_FILE not in files:
        raise BundleError(f"the bundle at '{store.uri()}' lacks its file '{DESCRIPTION_FILE}'", "train it anew")
    bundle = _bundle(store.uri(), manifest, files)
    for number, member in enumerate(bundle.members):
        check_weights(member.weights, member.config, bundle.features.n_mels, bundle.taxonomy, _member_file(number))
    hashes = [manifest.files[_member_file(number)].sha256 for number in range(len(bundle.members))]
    if bundle.fingerprint != _fingerprint(bundle, hashes):
        raise BundleError(
            f"the bundle at '{store.uri()}' calls itself {bundle.fingerprint}, but its files say otherwise",
            "this version of mgc would not give the answers it was made for: use the version that wrote it",
        )
    return bundle


def _bundle(uri: str, manifest: Manifest, files: dict[str, bytes]) -> Bundle:
    try:
        value = json.loads(files[DESCRIPTION_FILE])
        return Bundle(
            members=tuple(_member(number, entry, files) for number, entry in enumerate(value["members"])),
            features=FeatureConfig.model_validate(value["features"]),
            taxonomy=Taxonomy.from_dict(value["taxonomy"]),
            training=TrainingConfig.model_validate(value["training"]),
            metrics=value["metrics"],
            facts=value["facts"],
            uri=uri,
            fingerprint=manifest.fingerprint,
            mgc_version=value["mgc_version"],
            created_at=value["created_at"],
        )
    except (ValidationError, ValueError, KeyError, TypeError, LabelError) as error:
        what = str(error).splitlines()[0]
        raise BundleError(
            f"'{DESCRIPTION_FILE}' in the bundle at '{uri}' is not understood: {what}",
            "use the version of mgc that wrote it, or train anew",
        ) from error


def _member(number: int, entry: dict[str, Any], files: dict[str, bytes]) -> Member:
    name = _member_file(number)
    if name not in files:
        raise BundleError(f"the bundle's manifest does not list '{name}'", "train it anew")
    return Member(
        config=ModelConfig.model_validate(entry["model"]),
        weights=weights_from_bytes(files[name], name),
        calibration=Calibration(**entry["calibration"]),
    )


def _member_file(number: int) -> str:
    return f"member-{number}.safetensors"


def _checked_bytes(contents: BundleContents, number: int) -> bytes:
    member = contents.members[number]
    check_weights(member.weights, member.config, contents.features.n_mels, contents.taxonomy, _member_file(number))
    return weights_to_bytes(member.weights)


def _description(contents: BundleContents, fingerprint: str, created_at: str) -> dict[str, Any]:
    return {
        "mgc_version": __version__,
        "created_at": created_at,
        "fingerprint": fingerprint,
        "members": _members(contents),
        "features": contents.features.model_dump(mode="json"),
        "feature_fingerprint": contents.features.fingerprint(),
        "taxonomy": contents.taxonomy.to_dict(),
        "training": contents.training.model_dump(mode="json"),
        "metrics": contents.metrics,
        "facts": contents.facts,
    }


def _members(contents: BundleContents) -> list[dict[str, Any]]:
    return [
        {
            "file": _member_file(number),
            "model": member.config.model_dump(mode="json"),
            "calibration": member.calibration.to_dict(),
        }
        for number, member in enumerate(contents.members)
    ]


def _fingerprint(contents: BundleContents, weight_hashes: list[str]) -> str:
    """Return what changes when, and only when, the answers may: not with the date, the figures or the card."""
    return fingerprint_of(
        {
            "format_version": FORMAT_VERSION,
            "weights": weight_hashes,
            "members": _members(contents),
            "features": contents.features.fingerprint(),
            "taxonomy": contents.taxonomy.to_dict(),
        }
    )
