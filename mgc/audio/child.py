"""The decoding child: reads tracks from its standard input, writes their features to its standard output.

`python -m mgc.audio.child`. It runs apart from the worker so that bytes which hang, crash or blow up a
decoder cost one track and a restart, and nothing else.
"""

from __future__ import annotations

import os
import resource
import sys

from mgc.audio.content import Content, HeldContent, RangedContent, RemoteBytes
from mgc.audio.extract import extract
from mgc.audio.outline import outline
from mgc.audio.wire import ClosedError, Message, receive, send
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

STORED = {"log_mel": "<f2"}
"""How a feature passes on and is stored where that is not float32: dB in [-80, 0] need no more than a half."""


def main() -> None:
    """Serve until the parent closes the pipe."""
    source, sink = os.dup(0), os.dup(1)
    _silence_libraries()
    settings = receive(source).header
    features = FeatureConfig.model_validate(settings["features"])
    decode = DecodeConfig.model_validate(settings["decode"])
    resource.setrlimit(resource.RLIMIT_AS, (_address_space(decode), resource.RLIM_INFINITY))
    send(sink, Message({"ready": True}))
    while True:
        try:
            request = receive(source)
        except ClosedError:
            return
        send(sink, _answer(request, _content(request, source, sink), features, decode))


def _content(request: Message, source: int, sink: int) -> Content:
    """Return a track's bytes: those that came, or, for a long file, those that are asked for as they are read."""
    if "size_bytes" not in request.header:
        return HeldContent(bytes(request.body))

    def read(start: int, stop: int) -> bytes:
        send(sink, Message({"read": [start, stop]}))
        return bytes(receive(source).body)

    return RangedContent(RemoteBytes(request.header["size_bytes"], read))


def _address_space(decode: DecodeConfig) -> int:
    """Return the limit in bytes: what is mapped already (libraries) and what a track may take."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - one read of a kernel file
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    return mapped + decode.memory_limit_bytes


def _answer(request: Message, content: Content, features: FeatureConfig, decode: DecodeConfig) -> Message:
    try:
        if request.header["wanted"] == "outline":
            return _outline(content, decode)
        return _features(content, features, decode, request.header["every_seconds"])
    except TrackError as error:
        return Message({"code": error.track_code, "stage": error.stage, "message": error.message})
    except MemoryError:
        limit = f"needs more than {decode.memory_limit_bytes >> 20} MiB to decode"
        return Message({"code": TrackCode.DECODE_MEMORY, "stage": Stage.DECODE, "message": limit})


def _features(
    content: Content, features: FeatureConfig, decode: DecodeConfig, every_seconds: float | None
) -> Message:
    track = extract(content, features, decode, every_seconds)
    arrays = {name: array.astype(STORED.get(name, "<f4"), copy=False) for name, array in track.arrays.items()}
    header = {"duration_seconds": track.duration_seconds, "start_seconds": track.start_seconds}
    return Message(header, arrays=arrays)


def _outline(content: Content, decode: DecodeConfig) -> Message:
    track = outline(content, decode)
    header = {"duration_seconds": track.duration_seconds, "stretch_seconds": track.stretch_seconds}
    return Message(header, arrays={"low": track.low, "high": track.high, "rms": track.rms})


def _silence_libraries() -> None:
    """Send what C libraries print about broken files to nowhere; the row says what was wrong."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


if __name__ == "__main__":
    try:
        main()
    except ClosedError:
        sys.exit(0)
