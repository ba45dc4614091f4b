"""Messages between a worker and its decoding child: lengths, a JSON header, raw bytes; nothing pickled."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct("<IQ")
"""Little-endian lengths of the JSON header and of the body, in bytes."""


@dataclass(frozen=True)
class Message:
    """A header and a body."""

    header: dict[str, Any]
    body: bytes | bytearray | memoryview


class ClosedError(Exception):
    """The other side is gone."""


class LateError(Exception):
    """The other side did not answer in time."""


def send(descriptor: int, message: Message, deadline: float | None = None) -> None:
    """Write a message to a pipe; a deadline needs a descriptor that does not block.

    Raises
    ------
    ClosedError
        The reader is gone.
    LateError
        `deadline` (of `time.monotonic`) passed before the reader took it all; None waits for ever.
    """
    header = json.dumps(message.header).encode()
    for piece in (HEADER.pack(len(header), len(message.body)) + header, message.body):
        _write_all(descriptor, memoryview(piece), deadline)


def receive(descriptor: int, deadline: float | None = None) -> Message:
    """Read a message from a pipe; the same errors as `send`."""
    header_size, body_size = HEADER.unpack(_read_exactly(descriptor, HEADER.size, deadline))
    header = json.loads(bytes(_read_exactly(descriptor, header_size, deadline)))
    return Message(header, _read_exactly(descriptor, body_size, deadline))


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
