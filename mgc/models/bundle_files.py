"""A bundle's files: the manifest with their hashes, the description, the student beside them; read without torch.

Tagging one file must know how to decode it long before torch is imported, so this module imports none of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from mgc.config import AUDIO_SOURCE, FeatureConfig
from mgc.config.section import json_object
from mgc.errors import BundleError, FingerprintError
from mgc.models.published_files import bundle_place
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store

FORMAT = "mgc-bundle"
FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
DESCRIPTION_FILE = "bundle.json"
STUDENT_FOLDER = "student"
TEACHER_FACT = "teacher"
"""Under which a student's facts keep its teacher's fingerprint."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DAMAGED = "copy the bundle anew, or train it anew"


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
        """Content of `bundle.json`.

        Raises
        ------
        BundleError
            It is no JSON object.
        """
        try:
            return json_object(self.files[DESCRIPTION_FILE])
        except ValueError as error:
            raise self.not_understood(error) from error

    @property
    def features(self) -> FeatureConfig:
        """Features that the members take.

        Raises
        ------
        BundleError
            `bundle.json` has none, or no valid ones.
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
    """Return a bundle's files after checking every byte of them; a published network's name will do for its URI.

    Raises
    ------
    BundleError
        A file is missing or was changed, or the format is of another version.
    """
    store = Store.open(bundle_place(uri))
    manifest = read_manifest(store)
    files = read_files(store, manifest)
    if DESCRIPTION_FILE not in files:
        raise BundleError(f"the bundle at '{store.uri()}' lacks its file '{DESCRIPTION_FILE}'", "train it anew")
    return StoredBundle(store.uri(), manifest, files)


def read_bundle_for_audio(uri: str) -> StoredBundle:
    """Return a bundle's files, checked, if it may be given audio.

    Raises
    ------
    BundleError
        See `read_bundle_files`.
    FingerprintError
        See `require_audio`.
    """
    stored = read_bundle_files(uri)
    require_audio(stored.features, stored.uri)
    return stored


def require_audio(features: FeatureConfig, bundle_uri: str) -> None:
    """Refuse audio where a bundle was trained on features that others computed.

    Parameters
    ----------
    features
        The bundle's.
    bundle_uri
        Where it lies, for the message.

    Raises
    ------
    FingerprintError
        Naming both fingerprints.
    """
    if features.from_audio:
        return
    from_mgc_audio = features.model_copy(update={"source": AUDIO_SOURCE})
    raise FingerprintError(
        f"bundle '{bundle_uri}' was trained on features {features.fingerprint()} ({features.source}), which are "
        f"not those that mgc computes from audio with these frames and bands, {from_mgc_audio.fingerprint()}",
        "give imported shards (`mgc tag CATALOGUE --features`), or a bundle trained on features of `mgc extract`",
    )


def student_uri(bundle_uri: str) -> str:
    """Return where a bundle's student belongs, the small network that `mgc distill` fits to its answers for `--fast`.

    It is a bundle of its own in a directory of its teacher's, so that one copy takes both along.
    """
    return Store.open(bundle_place(bundle_uri)).uri(STUDENT_FOLDER)


def student_of(bundle_uri: str) -> str:
    """Return the URI of a bundle's student; of a bundle that is a student itself, its own.

    Raises
    ------
    BundleError
        There is no such bundle, it has no student, or its student learnt from another.
    """
    bundle = Store.open(bundle_place(bundle_uri))
    fingerprint = read_manifest(bundle).fingerprint
    place = student_uri(bundle_uri)
    if not Store.open(place).exists(MANIFEST_FILE):
        if _teacher_fingerprint(bundle_uri) is not None:
            return bundle_uri
        raise BundleError(
            f"the bundle at '{bundle.uri()}' has no student, which --fast would use: '{place}' holds no bundle",
            f"mgc distill {bundle_uri} CATALOGUE -f FEATURES",
        )
    teacher = _teacher_fingerprint(place)
    if teacher != fingerprint:
        raise BundleError(
            f"the student at '{place}' learnt from {teacher or 'no bundle'}, not from {fingerprint} beside it",
            f"mgc distill {bundle_uri} CATALOGUE -f FEATURES --overwrite",
        )
    return place


def _teacher_fingerprint(bundle_uri: str) -> str | None:
    """Return the fingerprint of the bundle that a student learnt from; None for what is no student."""
    stored = read_bundle_files(bundle_uri)
    facts = stored.description.get("facts")
    teacher = facts.get(TEACHER_FACT) if isinstance(facts, dict) else None
    return teacher if isinstance(teacher, str) else None


@dataclass(frozen=True)
class FileMark:
    """Hash and length of a file."""

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
    try:
        value = json_object(data)
    except ValueError:
        value = {}
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
