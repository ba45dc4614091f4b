"""The decoding child: reads tracks from its standard input, writes their features to its standard output.

`python -m mgc.audio.sandbox.child`. It runs apart from the worker so that bytes which hang, crash or blow up a
decoder cost one track and a restart, and nothing else.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mgc.audio.decode.content import Content, HeldContent, RangedContent, RemoteBytes
from mgc.audio.decode.source import one_line
from mgc.audio.extraction import extract_views
from mgc.audio.outline import outline
from mgc.audio.sandbox.ipc import ClosedError, Message, receive, send
from mgc.audio.track_features import TrackFeatures
from mgc.audio.views import Recipe, ViewRequest
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

ORPHAN_LIMITS = 2.0
"""Time limits after which the child ends itself: its parent has killed it long before, unless that is dead."""

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
        request_bytes = _byte_requester(source, sink, decode)
        contents = [_content(request, number, request_bytes) for number in range(len(request.header["sizes"]))]
        _set_alarm(ORPHAN_LIMITS * decode.time_limit_seconds)
        answers = _answers(request, contents, features, decode)
        _set_alarm(0.0)
        for answer in answers:
            send(sink, answer)


def _set_alarm(seconds: float) -> None:
    """Let the kernel end this process unless it comes back in time (0: never mind).

    Where the parent was killed nobody watches: a decoder that hangs would take a core for ever. A thread would not
    do, as a library may hang with the interpreter's lock held.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _byte_requester(source: int, sink: int, decode: DecodeConfig) -> Callable[[dict[str, Any]], bytes]:
    """Return what asks the parent for bytes; that time is the store's, and the alarm waits."""

    def request_bytes(question: dict[str, Any]) -> bytes:
        _set_alarm(0.0)
        send(sink, Message(question))
        body = bytes(receive(source).body)
        _set_alarm(ORPHAN_LIMITS * decode.time_limit_seconds)
        return body

    return request_bytes


def _content(request: Message, number: int, request_bytes: Callable[[dict[str, Any]], bytes]) -> Content:
    """Return a file's bytes: those that came, or, for a long file, those that are asked for as they are read."""
    if str(number) in request.arrays:
        return HeldContent(request.arrays[str(number)].tobytes())
    return RangedContent(
        RemoteBytes(
            request.header["sizes"][number], lambda start, stop: request_bytes({"read": [number, start, stop]})
        )
    )


def _address_space(decode: DecodeConfig) -> int:
    """Return the limit in bytes: what is mapped already (libraries) and what a track may take."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - one read of a kernel file
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    return mapped + decode.memory_limit_bytes


def _answers(
    request: Message, contents: Sequence[Content], features: FeatureConfig, decode: DecodeConfig
) -> list[Message]:
    """Return one message a view, or one for an outline; the first content is the track, the others partners."""
    views = request.header.get("views", [])
    try:
        if request.header["wanted"] == "outline":
            return [_outline(contents[0], decode)]
        requested = [ViewRequest(Recipe(**view["recipe"]), view["partner"]) for view in views]
        every_seconds = request.header["every_seconds"]
        extracted = extract_views(contents[0], requested, contents[1:], features, decode, every_seconds)
        return [_failure(one) if isinstance(one, TrackError) else _features(one) for one in extracted]
    except TrackError as error:
        return [_failure(error)] * max(1, len(views))
    except MemoryError:
        reason = f"needs more than {decode.memory_limit_bytes >> 20} MiB to decode"
        return [_failure(TrackError(TrackCode.DECODE_MEMORY, Stage.DECODE, reason))] * max(1, len(views))
    except ClosedError:
        raise
    except Exception as error:
        # A fault of ours, on bytes that nobody thought of: the row says so, and the child goes on.
        reason = f"unexpected {type(error).__name__}: {one_line(error)}"
        return [_failure(TrackError(TrackCode.FEATURES_FAILED, Stage.FEATURES, reason))] * max(1, len(views))


def _failure(error: TrackError) -> Message:
    return Message({"code": error.track_code, "stage": error.stage, "message": error.message})


def _features(track: TrackFeatures) -> Message:
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
