"""The decoding child: reads tracks from its standard input, writes their features to its standard output.

`python -m mgc.audio.sandbox.child`. It runs apart from the worker so that bytes which hang, crash or blow up a
decoder cost one track and a restart, and nothing else. `serve` is what every such child does.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import BLOCK_FRAMES, AudioReader, open_audio
from mgc.audio.decode.source import Content, HeldContent, RangedContent, RemoteBytes, one_line
from mgc.audio.extraction import extract_views
from mgc.audio.features.filter_banks import FilterBanks, hold
from mgc.audio.sandbox.ipc import ClosedError, Message, answer_message, receive, send
from mgc.audio.track_features import Outline, TrackResult
from mgc.audio.views import Recipe, ViewRequest
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError

MOST_STDERR_BYTES = 1 << 20
"""Of a track: what is printed beyond that is lost. The parent reads the end of it where this process dies."""

ORPHAN_LIMITS = 2.0
"""Time limits after which the child ends itself: its parent has killed it long before, unless that is dead."""

LEAST_TRACK_BYTES = 256 << 20
"""Address space that is left for a track, or the child does not start: the least `decode.memory_limit_bytes`."""


Answerer: TypeAlias = Callable[[Message, Sequence[Content], str], Iterable[Message]]
"""Makes answers of a request, its files' contents, and what is wrong with a file that needs too much memory."""


def serve(prepare: Callable[[Message], Answerer]) -> None:
    """Answer requests until the parent closes the pipe.

    Parameters
    ----------
    prepare
        Called with the parent's first message, which holds the settings `decode`.
    """
    source, sink = os.dup(0), os.dup(1)
    _tame_libraries()
    try:
        first = receive(source)
        answers = prepare(first)
        decode = DecodeConfig.model_validate(first.header["decode"])
        too_much = _bound_memory(decode)
        send(sink, Message({"ready": True}))
        while True:
            request = receive(source)
            request_bytes = _byte_requester(source, sink, decode)
            contents = [_content(request, number, request_bytes) for number in range(len(request.header["sizes"]))]
            _set_alarm(ORPHAN_LIMITS * decode.time_limit_seconds)
            made = answers(request, contents, too_much)
            _set_alarm(0.0)
            for answer in made:
                send(sink, answer)
    except ClosedError:
        return


def _extractor(first: Message) -> Answerer:
    features = FeatureConfig.model_validate(first.header["features"])
    hold({features: FilterBanks(**first.arrays)})
    return partial(_answers, features, DecodeConfig.model_validate(first.header["decode"]))


def _set_alarm(seconds: float) -> None:
    """Let the kernel end this process after so many seconds; 0: stop the alarm.

    Where the parent was killed nobody watches: a decoder that hangs would take a core for ever. A thread would not
    do, as a library may hang with the interpreter's lock held.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _byte_requester(source: int, sink: int, decode: DecodeConfig) -> Callable[[dict[str, Any]], bytes]:
    """Return what requests bytes of the parent; that time is the store's, and the alarm stops."""

    def request_bytes(question: dict[str, Any]) -> bytes:
        _set_alarm(0.0)
        send(sink, Message(question))
        body = bytes(receive(source).body)
        _set_alarm(ORPHAN_LIMITS * decode.time_limit_seconds)
        return body

    return request_bytes


def _content(request: Message, number: int, request_bytes: Callable[[dict[str, Any]], bytes]) -> Content:
    """Return a file's bytes: those that came, or, for a long file, those that are requested as they are read."""
    if str(number) in request.arrays:
        return HeldContent(request.arrays[str(number)].tobytes())
    return RangedContent(
        RemoteBytes(
            request.header["sizes"][number], lambda start, stop: request_bytes({"read": [number, start, stop]})
        )
    )


def _bound_memory(decode: DecodeConfig) -> str:
    """Bound the address space to what is mapped already (libraries) and what a track may take, or to a limit below.

    Returns
    -------
    str
        What is wrong with a track that needs more.
    """
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - one read of a kernel file
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    left = _lower_limit(resource.RLIMIT_AS, mapped + decode.memory_limit_bytes) - mapped
    if left < LEAST_TRACK_BYTES:
        sys.exit(
            f"RLIMIT_AS leaves {max(0, left) >> 20} MiB beside the {mapped >> 20} MiB of the libraries, "
            f"and a track takes up to {LEAST_TRACK_BYTES >> 20} MiB at least"
        )
    if left < decode.memory_limit_bytes:
        return f"needs more than the {left >> 20} MiB that RLIMIT_AS (ulimit -v) leaves to decode"
    return f"needs more than {decode.memory_limit_bytes >> 20} MiB to decode"


def _lower_limit(kind: int, wanted: int) -> int:
    """Lower the soft limit to `wanted`, and return what holds: a lower one that this process was born with stays.

    So does the hard limit, which no process without privileges may raise.
    """
    soft, hard = resource.getrlimit(kind)
    holds = min([wanted, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(kind, (holds, hard))
    return holds


def _answers(
    features: FeatureConfig, decode: DecodeConfig, request: Message, contents: Sequence[Content], too_much: str
) -> Iterator[Message]:
    return map(answer_message, _results(features, decode, request, contents, too_much))


def _results(
    features: FeatureConfig, decode: DecodeConfig, request: Message, contents: Sequence[Content], too_much: str
) -> Sequence[TrackResult | Outline]:
    """Return one result a view, or one for an outline; the first content is the track, the others partners."""
    views = request.header.get("views", [])
    try:
        if request.header["wanted"] == "outline":
            return [outline(contents[0], decode)]
        requested = [ViewRequest(Recipe(**view["recipe"]), view["partner"]) for view in views]
        every_seconds = request.header["every_seconds"]
        return extract_views(contents[0], requested, contents[1:], features, decode, every_seconds)
    except ClosedError:
        raise
    except Exception as error:
        return [_track_error(error, too_much)] * max(1, len(views))


def _track_error(error: Exception, too_much: str) -> TrackError:
    if isinstance(error, TrackError):
        return error
    if isinstance(error, MemoryError):
        return TrackError(TrackCode.DECODE_MEMORY, Stage.DECODE, too_much)
    # A fault of ours, on bytes that nobody thought of: the row says so, and the child goes on.
    reason = f"unexpected {type(error).__name__}: {one_line(error)}"
    return TrackError(TrackCode.FEATURES_FAILED, Stage.FEATURES, reason)


def _tame_libraries() -> None:
    """Keep C libraries from the pipes, and what they and a crash print (stderr, the parent's file) bounded."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    _lower_limit(resource.RLIMIT_FSIZE, MOST_STDERR_BYTES)
    # A deadly signal leaves the stack of this process's own thread.
    faulthandler.enable(2, all_threads=False)


# The outline of a track.

MOST_STRETCHES = 2_048
"""A track is outlined in at most so many, and, unless it is shorter than a second or so, half as many at least."""

_FIRST_STRETCH_FRAMES = 64


def outline(data: bytes | Content, decode: DecodeConfig) -> Outline:
    """Return the outline of a track for a picture of its waveform, all channels mixed to one, in bounded memory.

    The track is decoded a block at a time and nothing of it is kept but the extremes of stretches. How long it is
    shows at its end (headers lie), so stretches begin short and are joined two by two whenever there are too many.

    Parameters
    ----------
    data
        The file's bytes, any container that libsndfile or FFmpeg reads.
    decode
        Bounds on channels and sample rate.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, DECODE_FAILED, NO_SAMPLES, NOT_FINITE or UNSUPPORTED_LAYOUT.
    """
    with open_audio(data, decode) as reader:
        stretches = _stretches(reader)
        if not stretches.n_frames:
            raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
        return stretches.outline(reader.info.sample_rate)


def _stretches(reader: AudioReader) -> _Stretches:
    stretches = _Stretches()
    while True:
        block = reader.read_mono(stretches.n_frames, BLOCK_FRAMES)
        stretches.add(block)
        if block.size < BLOCK_FRAMES:
            return stretches


class _Stretches:
    """Extremes and energy of stretches of the track, as far as it was read."""

    def __init__(self) -> None:
        self.n_frames = 0
        self._length = _FIRST_STRETCH_FRAMES
        self._measures = np.zeros((3, 0), dtype=np.float64)
        self._open: Float32Array = np.zeros(0, dtype=np.float32)

    def add(self, block: Float32Array) -> None:
        """Add the samples that follow."""
        if not np.isfinite(block).all():
            raise TrackError(TrackCode.NOT_FINITE, Stage.DECODE, "samples are NaN or infinite")
        self.n_frames += block.size
        samples = np.concatenate([self._open, block])
        whole = samples.size // self._length * self._length
        self._open = samples[whole:]
        fresh = _measure(samples[:whole].reshape(-1, self._length))
        self._measures = np.concatenate([self._measures, fresh], axis=1)
        # Blocks, lengths and MOST_STRETCHES are powers of two, so it is reached exactly, and pairs come out even.
        while self._measures.shape[1] >= MOST_STRETCHES:
            self._join()

    def outline(self, sample_rate: int) -> Outline:
        """Return what was gathered; the last stretch may be shorter than the others."""
        last = _measure(self._open[np.newaxis]) if self._open.size else np.zeros((3, 0))
        low, high, energy = np.concatenate([self._measures, last], axis=1)
        counts = np.full(low.size, self._length)
        counts[-1] = self.n_frames - self._length * (low.size - 1)
        return Outline(
            low.astype(np.float32),
            high.astype(np.float32),
            np.sqrt(energy / counts).astype(np.float32),
            self.n_frames / sample_rate,
            self._length / sample_rate,
        )

    def _join(self) -> None:
        low, high, energy = self._measures.reshape(3, -1, 2).transpose(0, 2, 1)
        self._measures = np.stack([low.min(axis=0), high.max(axis=0), energy.sum(axis=0)])
        self._length *= 2


def _measure(stretches: Float32Array) -> npt.NDArray[np.float64]:
    """Return least, greatest and energy of each row of samples, shape (3, n_stretches)."""
    energy = np.square(stretches, dtype=np.float64).sum(axis=1)
    return np.stack([stretches.min(axis=1, initial=np.inf), stretches.max(axis=1, initial=-np.inf), energy])


if __name__ == "__main__":
    serve(_extractor)
