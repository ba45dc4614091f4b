"""Genre and tags beside a file instead of in it: one small JSON, for read-only music and for S3."""

from __future__ import annotations

import json

from mgc import __version__
from mgc.curation.filetags.tag_fields_part import PredictedLabels
from mgc.errors import SchemaError

SUFFIX = ".mgc.json"
MARK = "mgc_sidecar"
VERSION = 1


def sidecar_of(predicted: PredictedLabels, track_id: str, content_id: str) -> bytes:
    """Return a sidecar's bytes; the same prediction gives the same bytes."""
    value = {
        MARK: VERSION,
        "track_id": track_id,
        "content_id": content_id,
        "genre": predicted.genre,
        "genre_probability": round(predicted.genre_probability, 3),
        "tags": list(predicted.tags),
        "bundle_fingerprint": predicted.bundle_fingerprint,
        "mgc_version": __version__,
    }
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def read_sidecar(data: bytes, uri: str) -> dict[str, object]:
    """Return what a sidecar says.

    Raises
    ------
    SchemaError
        The file is no sidecar that mgc wrote: it is not to be replaced.
    """
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get(MARK) != VERSION:
        raise SchemaError(f"'{uri}' is no sidecar of mgc", "move it away, or write sidecars to another folder")
    return value
