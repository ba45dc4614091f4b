"""A bundle's files as they are stored, checked by their hashes; torch is not needed to look at them.

Tagging one file must know how to decode it long before torch is imported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from mgc.config import FeatureConfig
from mgc.errors import BundleError
from mgc.models.bundle_files import Manifest, read_files, read_manifest
from mgc.storage.store import Store

DESCRIPTION_FILE = "bundle.json"


@dataclass(frozen=True)
class StoredBundle:
    """A bundle's files.

    Parameters
    ----------
    uri
        Where it lies, absolute.
    manifest
        The list of its files.
    files
        Each file's bytes by name, as the manifest says they are.
    """

    uri: str
    manifest: Manifest
    files: dict[str, bytes]

    @cached_property
    def description(self) -> dict[str, Any]:
        """What `bundle.json` says.

        Raises
        ------
        BundleError
            It is no JSON object.
        """
        try:
            value = json.loads(self.files[DESCRIPTION_FILE])
        except ValueError as error:
            raise self.not_understood(error) from error
        if not isinstance(value, dict):
            raise self.not_understood("it is no object")
        return value

    @property
    def features(self) -> FeatureConfig:
        """Features that the members take.

        Raises
        ------
        BundleError
            `bundle.json` does not say so rightly.
        """
        try:
            return FeatureConfig.model_validate(self.description["features"])
        except (ValidationError, KeyError) as error:
            raise self.not_understood(error) from error

    def not_understood(self, why: object) -> BundleError:
        """Return the error of a `bundle.json` that this mgc cannot read."""
        return BundleError(
            f"'{DESCRIPTION_FILE}' in the bundle at '{self.uri}' is not understood: {str(why).splitlines()[0]}",
            "use the version of mgc that wrote it, or train anew",
        )


def read_bundle_files(uri: str) -> StoredBundle:
    """Return a bundle's files after checking every byte of them.

    Raises
    ------
    BundleError
        A file is missing or was changed, or the format is of another version.
    """
    store = Store.open(uri)
    manifest = read_manifest(store)
    files = read_files(store, manifest)
    if DESCRIPTION_FILE not in files:
        raise BundleError(f"the bundle at '{store.uri()}' lacks its file '{DESCRIPTION_FILE}'", "train it anew")
    return StoredBundle(store.uri(), manifest, files)
