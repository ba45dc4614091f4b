"""The list of a bundle's files with their hashes: written last, read first."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from mgc.errors import BundleError
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store

FORMAT = "mgc-bundle"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DAMAGED = "copy the bundle anew, or train it anew"


@dataclass(frozen=True)
class FileMark:
    """By which a file is known."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, data: bytes) -> FileMark:
        """Return the mark of a file of these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Manifest:
    """A bundle's files and its fingerprint."""

    fingerprint: str
    files: dict[str, FileMark]

    @classmethod
    def of(cls, fingerprint: str, files: dict[str, bytes]) -> Manifest:
        """Return the manifest of files by name."""
        return cls(fingerprint, {name: FileMark.of(data) for name, data in files.items()})

    def to_bytes(self) -> bytes:
        """Return the manifest's file."""
        value = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "files": {name: asdict(mark) for name, mark in self.files.items()},
        }
        return json.dumps(value, indent=2).encode()


def read_manifest(store: Store) -> Manifest:
    """Return the manifest of the bundle at the root of a store.

    Raises
    ------
    BundleError
        There is none, it is no manifest of a bundle, or is of another format version.
    """
    where = store.uri()
    try:
        data = store.read_bytes(MANIFEST_FILE)
    except ObjectNotFoundError as error:
        raise BundleError(
            f"no model bundle at '{where}': {MANIFEST_FILE} is missing",
            "check the path; a bundle whose writing was interrupted has no manifest: train anew",
        ) from error
    value = _json_object(data)
    if value.get("format") != FORMAT:
        raise BundleError(f"'{where}/{MANIFEST_FILE}' is not that of a model bundle", "check the path")
    if value.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"the bundle at '{where}' has format version {value.get('format_version')}, "
            f"this mgc reads {FORMAT_VERSION}",
            "use the version of mgc that wrote it, or train anew",
        )
    try:
        files = {name: FileMark(mark["sha256"], mark["size_bytes"]) for name, mark in value["files"].items()}
        return Manifest(value["fingerprint"], files)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"'{where}/{MANIFEST_FILE}' is damaged", _DAMAGED) from error


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_files(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """Return every file of a manifest by name, after checking its length and hash.

    Raises
    ------
    BundleError
        A file is missing, was changed since, or has a name that leads elsewhere.
    """
    files = {}
    for name, mark in manifest.files.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise BundleError(f"the manifest at '{store.uri()}' names a file '{name}'", _DAMAGED)
        try:
            data = store.read_bytes(name)
        except ObjectNotFoundError as error:
            raise BundleError(f"the bundle at '{store.uri()}' lacks its file '{name}'", _DAMAGED) from error
        if FileMark.of(data) != mark:
            raise BundleError(
                f"'{name}' in the bundle at '{store.uri()}' was changed after it was written: "
                f"its sha256 is not that of the manifest",
                _DAMAGED,
            )
        files[name] = data
    return files
