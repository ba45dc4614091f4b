"""A bundle's student: the small network that `mgc distill` trained to answer like it, and `--fast` asks instead.

It is a bundle of its own in the directory `student` of its teacher's, so that one copy takes both along. Looked at
without torch, which a song's decoding does not wait for.
"""

from __future__ import annotations

from mgc.errors import BundleError
from mgc.models.bundle_files import MANIFEST_FILE, read_manifest
from mgc.models.stored import read_bundle_files
from mgc.storage.store import Store

STUDENT_FOLDER = "student"
TEACHER_FACT = "teacher"
"""Under which a student's facts keep its teacher's fingerprint."""


def student_uri(bundle_uri: str) -> str:
    """Return where a bundle's student belongs."""
    return Store.open(bundle_uri).uri(STUDENT_FOLDER)


def student_of(bundle_uri: str) -> str:
    """Return the URI of a bundle's student; of a bundle that is a student itself, its own.

    Raises
    ------
    BundleError
        There is no such bundle, it has no student, or its student learnt from another.
    """
    bundle = Store.open(bundle_uri)
    fingerprint = read_manifest(bundle).fingerprint
    place = student_uri(bundle_uri)
    if not Store.open(place).exists(MANIFEST_FILE):
        if _teacher_fingerprint(bundle_uri) is not None:
            return bundle_uri
        raise BundleError(
            f"the bundle at '{bundle.uri()}' has no student, which --fast would ask: '{place}' holds no bundle",
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
