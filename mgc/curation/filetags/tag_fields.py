"""What a prediction writes into an audio file, or into a sidecar: a small JSON beside it, for read-only music and S3.

Every edit of a file is read back before it is returned, and held against the original: the other fields, the
pictures, and every packet of the audio must be what they were.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mgc import __version__
from mgc.audio.decode.ffmpeg import packet_digest
from mgc.audio.decode.source import DecoderError, UnrecognisedError, one_line
from mgc.config.section import json_object
from mgc.curation.filetags.tag_formats import GENRE, Fields, UntaggableError, Values, open_tags
from mgc.errors import SchemaError

OWN_GENRE = "MGC_GENRE"
PROBABILITY = "MGC_GENRE_PROBABILITY"
TAGS = "MGC_TAGS"
BUNDLE = "MGC_BUNDLE"

OWN_FIELDS = (OWN_GENRE, PROBABILITY, TAGS, BUNDLE)

TAG_SEPARATOR = "|"
"""As in a label manifest: what is written here can be read there."""

SUFFIX = ".mgc.json"
MARK = "mgc_sidecar"
VERSION = 1
"""Of a sidecar."""


class FileFields(NamedTuple):
    """What a file holds now: the family of its tags, and the values of `GENRE` and of each `MGC_…` field."""

    family: str
    values: dict[str, Values]


def read_fields(file: io.IOBase) -> FileFields:
    """Return the genre and mgc's own fields of a file that is open for reading, binary and seekable.

    Raises
    ------
    UntaggableError
        The container holds no fields that mgc writes, or they are broken.
    """
    tags = open_tags(file)
    return FileFields(tags.family, tags.own())


def with_fields(data: bytes, name: str, changes: Fields) -> bytes:
    """Return a file's bytes with some fields set or taken out, and everything else as it was.

    Parameters
    ----------
    data
        The file's bytes.
    name
        The file's name: its extension helps where the first bytes do not tell what it is.
    changes
        New values of `GENRE` and of `MGC_…` fields; an empty tuple takes a field out.

    Raises
    ------
    UntaggableError
        The file cannot be changed, or the changed one would differ in more than these fields.
    """
    buffer = _NamedBytes(data, name)
    tags = open_tags(buffer)
    before, others = tags.own(), tags.others()
    try:
        tags.set(changes)
        tags.save(buffer)
    except (MemoryError, UntaggableError):
        raise
    except Exception as error:  # see open_tags
        raise UntaggableError(f"its {tags.family} cannot be written: {one_line(error)}") from error
    changed = buffer.getvalue()
    after = open_tags(_NamedBytes(changed, name))
    if after.own() != {key: values for key, values in {**before, **changes}.items() if values}:
        raise UntaggableError("the fields would not read back as they were written")
    if after.others() != others:
        raise UntaggableError("other fields of the file would change")
    _require_same_sound(data, changed)
    return changed


class PredictedLabels(NamedTuple):
    """What a prediction holds about a track."""

    genre: str
    genre_probability: float
    tags: Sequence[str]
    bundle_fingerprint: str


def own_fields(predicted: PredictedLabels) -> dict[str, Values]:
    """Return the fields that are mgc's alone: its genre, how sure it is, its tags, and the bundle that made them."""
    return {
        OWN_GENRE: (predicted.genre,),
        PROBABILITY: (f"{predicted.genre_probability:.3f}",),
        TAGS: (TAG_SEPARATOR.join(predicted.tags),) if predicted.tags else (),
        BUNDLE: (predicted.bundle_fingerprint,),
    }


def changes_for(
    predicted: PredictedLabels, current: Mapping[str, Values], *, replace_genre: bool = False
) -> dict[str, Values]:
    """Return the fields whose value would change; empty: the file holds it all already.

    The genre field that players show is written where there is none, or where mgc itself wrote the one that is
    there. A genre that somebody else wrote stays, unless `replace_genre`.
    """
    wanted = own_fields(predicted)
    genre = current.get(GENRE, ())
    if replace_genre or not any(genre) or genre == current.get(OWN_GENRE):
        wanted[GENRE] = (predicted.genre,)
    ordered = {name: wanted[name] for name in (GENRE, *OWN_FIELDS) if name in wanted}
    return {name: values for name, values in ordered.items() if current.get(name, ()) != values}


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
        value = json_object(data)
    except ValueError:
        value = {}
    if value.get(MARK) != VERSION:
        raise SchemaError(f"'{uri}' is no sidecar of mgc", "move it away, or write sidecars to another folder")
    return value


def _require_same_sound(data: bytes, changed: bytes) -> None:
    try:
        same = packet_digest(data) == packet_digest(changed)
    except (DecoderError, UnrecognisedError) as error:
        raise UntaggableError(f"its audio cannot be compared: {error}") from error
    if not same:
        raise UntaggableError("its audio would change")


class _NamedBytes(io.BytesIO):
    """Bytes as a file with a name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name
