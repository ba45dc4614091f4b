"""The genre and mgc's own fields inside an audio file, read and written with nothing else of it changed.

Every edit is read back before it is returned, and held against the original: the other fields, the pictures, and
every packet of the audio must be what they were.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from mgc.audio.decode.ffmpeg import packet_digest
from mgc.audio.decode.source import DecoderError, UnrecognisedError, one_line
from mgc.curation.filetags.tag_formats import Fields, UntaggableError, Values, open_tags


class FileFields(NamedTuple):
    """What a file says now: the family of its tags, and the values of `GENRE` and of each `MGC_…` field."""

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
