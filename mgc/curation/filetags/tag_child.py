"""Fields of untrusted files, read and changed in a child process: in the command's own nothing of them is parsed.

Run as a program (`python -m mgc.curation.filetags.tag_child`) this is the child. Its limits are those of decoding: a
tag that unpacks to gigabytes, or takes minutes, costs one file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

from mgc.audio.decode.source import Content, RemoteBytes
from mgc.audio.sandbox.child import Answerer, serve
from mgc.audio.sandbox.ipc import ClosedError, Message
from mgc.audio.sandbox.supervisor import SupervisedChild
from mgc.config import DecodeConfig
from mgc.curation.filetags.tag_fields import read_fields, with_fields
from mgc.curation.filetags.tag_formats import Fields, UntaggableError, Values
from mgc.errors import Stage, TrackError

MOST_LETTERS = 100_000
"""Of a file's own genre and `MGC_` fields: what has more is no genre, and is not passed on."""


class SupervisedTagEditor:
    """`read_fields` and `with_fields` in a child process; use it as a context manager.

    Parameters
    ----------
    limits
        Bounds on time and memory of each file.
    """

    def __init__(self, limits: DecodeConfig) -> None:
        self._child = SupervisedChild(__name__, _answer_in, limits)

    def read_fields(self, file: RemoteBytes) -> dict[str, Values]:
        """Return the genre and mgc's own fields of a file.

        Raises
        ------
        UntaggableError
            It holds no fields that mgc writes, or they cannot be read within the limits.
        TrackError
            Its bytes cannot be had.
        DecoderStartError
            No child starts here.
        """
        fields = self._edited({"wanted": "read"}, file).header["fields"]
        return {name: tuple(values) for name, values in fields.items()}

    def with_fields(self, data: bytes, name: str, changes: Fields) -> bytes:
        """Return a file's bytes with some fields changed and all else as it was; the same errors."""
        return bytes(self._edited({"wanted": "change", "name": name, "changes": dict(changes)}, data).body)

    def _edited(self, wanted: dict[str, Any], file: bytes | RemoteBytes) -> Message:
        try:
            (answer,) = self._child.request(wanted, [file], 1)
        except TrackError as error:
            if error.stage is Stage.FETCH:
                raise
            raise UntaggableError(f"its tags cannot be read within the limits: {error.message}") from error
        if "untaggable" in answer.header:
            raise UntaggableError(answer.header["untaggable"])
        return answer

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def __enter__(self) -> SupervisedTagEditor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answer_in(message: Message) -> Message:
    if message.header.keys() <= {"fields", "changed", "untaggable"}:
        return message
    raise ClosedError


def _editor(_: Message) -> Answerer:
    return _answers


def _answers(request: Message, contents: Sequence[Content], too_much: str) -> list[Message]:
    (content,) = contents
    try:
        if request.header["wanted"] == "read":
            return [Message({"fields": _bounded(read_fields(cast(io.IOBase, content.open())).values)})]
        changes = {name: tuple(values) for name, values in request.header["changes"].items()}
        data = content.read(0, content.size_bytes)
        return [Message({"changed": True}, with_fields(data, request.header["name"], changes))]
    except MemoryError:
        return [Message({"untaggable": f"its tags cannot be read: it {too_much}"})]
    except UntaggableError as error:
        return [Message({"untaggable": str(error)})]


def _bounded(fields: dict[str, Values]) -> dict[str, Values]:
    if sum(len(value) for values in fields.values() for value in values) > MOST_LETTERS:
        raise UntaggableError("its genre is longer than any genre")
    return fields


if __name__ == "__main__":
    serve(_editor)
