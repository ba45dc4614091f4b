"""A model bundle: a directory with all that tagging needs, safe to read and proof against a flipped bit.

`member-0.safetensors` … the members' weights; `bundle.json` architecture, features, vocabularies,
temperatures, figures, and how it was made; `README.md` the model card; `manifest.json`, written last, the
sha256 and size of each. Nothing in it can execute.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from mgc.config import FeatureConfig, TrainingConfig, read_model_config
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError, LabelError
from mgc.models.bundle_files import MANIFEST_FILE, FileMark, Manifest, read_files, read_manifest
from mgc.models.calibration import TemperatureScaling
from mgc.models.contents import (
    Bundle,
    BundleContents,
    Member,
    answer_fingerprint,
    build_member,
    describe,
    member_file,
)
from mgc.models.ensemble import Decision
from mgc.models.model_card import model_card
from mgc.models.stored import DESCRIPTION_FILE, StoredBundle, read_bundle_files
from mgc.models.weights import check_weights, weights_from_bytes, weights_to_bytes
from mgc.storage.store import Store

__all__ = ["Bundle", "BundleContents", "Member", "build_member", "load_bundle", "write_bundle"]

CARD_FILE = "README.md"


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
    weights = {member_file(number): _checked_bytes(contents, number) for number in range(len(contents.members))}
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


def load_bundle(uri: str) -> Bundle:
    """Return a bundle after checking every byte of it.

    Raises
    ------
    BundleError
        A file is missing or was changed, the format is of another version, weights are no safetensors or do
        not fit their architecture.
    """
    return bundle_of(read_bundle_files(uri))


def bundle_of(stored: StoredBundle) -> Bundle:
    """Return the bundle that files make; see `load_bundle`."""
    bundle = _bundle(stored)
    for number, member in enumerate(bundle.members):
        check_weights(member.weights, member.config, bundle.features.n_mels, bundle.taxonomy, member_file(number))
    hashes = [stored.manifest.files[member_file(number)].sha256 for number in range(len(bundle.members))]
    if bundle.fingerprint != answer_fingerprint(bundle, hashes):
        raise BundleError(
            f"the bundle at '{stored.uri}' calls itself {bundle.fingerprint}, but its files say otherwise",
            "this version of mgc would not give the answers it was made for: use the version that wrote it",
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
            decision=Decision.from_dict(value["decision"]) if "decision" in value else Decision(),
            uri=stored.uri,
            fingerprint=stored.manifest.fingerprint,
            mgc_version=value["mgc_version"],
            created_at=value["created_at"],
        )
    except (ValidationError, ValueError, KeyError, TypeError, LabelError) as error:
        raise stored.not_understood(error) from error


def _member(number: int, entry: dict[str, Any], files: dict[str, bytes]) -> Member:
    name = member_file(number)
    if name not in files:
        raise BundleError(f"the bundle's manifest does not list '{name}'", "train it anew")
    return Member(
        config=read_model_config(entry["model"]),
        weights=weights_from_bytes(files[name], name),
        calibration=TemperatureScaling(**entry["calibration"]),
    )


def _checked_bytes(contents: BundleContents, number: int) -> bytes:
    member = contents.members[number]
    check_weights(member.weights, member.config, contents.features.n_mels, contents.taxonomy, member_file(number))
    return weights_to_bytes(member.weights)
