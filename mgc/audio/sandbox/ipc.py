"""Messages between a worker and its decoding child: lengths, a JSON header, raw bytes; nothing pickled.

A request names what is wanted and brings the tracks' bytes. The child answers with `TrackFeatures`, an `Outline` or a
`TrackError`, or asks for a piece of a long file. Named arrays are described in the header and follow one another in
the body: neither side copies them.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.audio.track_features import Outline, TrackFeatures, TrackResult
from mgc.config.section import json_object
from mgc.errors import Stage, TrackCode, TrackError

Arrays = Mapping[str, npt.NDArray[Any]]

HEADER = struct.Struct("<IQ")
"""Little-endian lengths of the JSON header and of the body, in bytes."""

MOST_HEADER_BYTES = 1 << 20
MOST_BODY_BYTES = 1 << 34


@dataclass(frozen=True)
class Message:
    """A header, and raw bytes or named arrays."""

    header: dict[str, Any]
    body: bytes | bytearray | memoryview = b""
    arrays: Arrays = field(default_factory=dict)


class ClosedError(Exception):
    """The other side has ended, or sends what makes no sense."""


class LateError(Exception):
    """The other side did not answer in time."""


def send(descriptor: int, message: Message, deadline: float | None = None) -> None:
    """Write a message to a pipe; a deadline needs a descriptor that does not block.

    Raises
    ------
    ClosedError
        The reader has ended.
    LateError
        `deadline` (of `time.monotonic`) passed before the reader took it all; None waits for ever.
    """
    # The widest first: each array then starts where its type wants to be aligned.
    arrays = sorted(message.arrays.items(), key=lambda item: -item[1].itemsize)
    bodies = [memoryview(message.body)] if message.body else [_bytes_of(array) for _, array in arrays]
    described = [[name, array.dtype.str, array.shape] for name, array in arrays]
    header = json.dumps({"header": message.header, "arrays": described}).encode()
    size = sum(len(body) for body in bodies)
    for piece in (memoryview(HEADER.pack(len(header), size) + header), *bodies):
        _write_all(descriptor, piece, deadline)


def receive(descriptor: int, deadline: float | None = None) -> Message:
    """Read a message from a pipe; the same errors as `send`."""
    header_size, body_size = HEADER.unpack(_read_exactly(descriptor, HEADER.size, deadline))
    if header_size > MOST_HEADER_BYTES or body_size > MOST_BODY_BYTES:
        raise ClosedError  # a child whose memory was overwritten sends anything
    text = _read_exactly(descriptor, header_size, deadline)
    body = _read_exactly(descriptor, body_size, deadline)
    try:
        header = json_object(text)
        return Message(dict(header["header"]), body, _arrays_in(body, header["arrays"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ClosedError from error


def answer_message(answer: TrackResult | Outline) -> Message:
    """Return what the child sends of a result."""
    if isinstance(answer, TrackError):
        return Message({"error": [answer.track_code, answer.stage, answer.message]})
    if isinstance(answer, Outline):
        arrays = {"low": answer.low, "high": answer.high, "rms": answer.rms}
        return Message({"outline": [answer.duration_seconds, answer.stretch_seconds]}, arrays=arrays)
    facts = [answer.duration_seconds, answer.start_seconds, answer.note]
    return Message({"features": facts}, arrays=answer.as_stored().arrays)


def answer_in(message: Message) -> TrackResult | Outline:
    """Return the result that the child sent.

    Raises
    ------
    ClosedError
        There is none in it.
    """
    try:
        ((kind, values),) = message.header.items()
        if kind == "error":
            code, stage, text = values
            return TrackError(TrackCode(code), Stage(stage), text)
        if kind == "outline":
            return Outline(**message.arrays, duration_seconds=values[0], stretch_seconds=values[1])
        if kind == "features":
            return TrackFeatures(message.arrays, values[0], tuple(values[1]), values[2])
    except (ValueError, TypeError, IndexError) as error:
        raise ClosedError from error
    raise ClosedError


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _arrays_in(body: bytearray, described: list[tuple[str, str, list[int]]]) -> Arrays:
    arrays = {}
    offset = 0
    for name, dtype, shape in described:
        array = np.frombuffer(body, np.dtype(dtype), math.prod(shape), offset).reshape(shape)
        offset += array.nbytes
        arrays[name] = array
    return arrays


def _write_all(descriptor: int, data: memoryview, deadline: float | None) -> None:
    while len(data):
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            _wait(descriptor, deadline, select.POLLOUT)
        except BrokenPipeError as error:
            raise ClosedError from error


def _read_exactly(descriptor: int, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while len(view):
        try:
            count = os.readv(descriptor, [view])
        except BlockingIOError:
            _wait(descriptor, deadline, select.POLLIN)
            continue
        if count == 0:
            raise ClosedError
        view = view[count:]
    return data


def _wait(descriptor: int, deadline: float | None, event: int) -> None:
    # poll, not select: a Ray worker may hold more than 1,024 descriptors.
    poll = select.poll()
    poll.register(descriptor, event)
    left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    if not poll.poll(left_ms):
        raise LateError
