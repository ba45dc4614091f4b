"""A decoding child under supervision: bounded in time and memory, killed and replaced when it fails.

`sf_open` of libsndfile 1.2.2 is known to hang on a 157-byte file (libsndfile issue #1118), and a decoder that
crashes takes its process along. A thread cannot be killed and a Ray actor takes seconds to replace; a child
process costs two pipe transfers a track.

A child that fails at a track is that track's error. One that does not even become ready says nothing about any track:
that is the run's error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, NamedTuple, Self, TypeVar, cast

import numpy as np

from mgc.audio.decode.source import RemoteBytes
from mgc.audio.features.filter_banks import FilterBanks, filter_banks
from mgc.audio.sandbox.ipc import ClosedError, LateError, Message, answer_in, receive, send
from mgc.audio.track_features import Outline, TrackFeatures, TrackResult
from mgc.audio.views import ViewRequest
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import DecoderStartError, Stage, TrackCode, TrackError
from mgc.logs import log

STDERR_BYTES = 4096
"""Of a dead child's stderr, its end, in the message of the track's row."""

START_SECONDS = 60.0
"""How long a child may take to import its libraries on a loaded machine."""

STARTS = 2
"""Children in a row that may fail before they are ready: one may be killed from outside, two are no accident."""

NEEDED_BYTES = 640 << 20
"""Address space of a child at the least limit on a track: libraries 305 MiB (Linux, x86-64), 256 MiB of a track, and
what the loader maps for a moment."""

OUTSIDE_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXCPU}
"""No decoder raises them: somebody outside sent them, the kernel short of memory, or a limit on processor time."""

MODULE_HOME = Path(__file__).parents[3]
"""The folder that mgc was imported from."""

PIPE_BYTES = 1 << 20
"""Pipe size requested of the kernel: a track's bytes pass in a few writes instead of hundreds."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27)}
"""glibc's allocator gives arrays of a megabyte back to the kernel and takes them anew, page by page: a fifth of a
track's time. Told to keep what it has, the child takes no longer than the same work in its parent
(`python -m benchmarks supervise`)."""


class _Death(NamedTuple):
    """A child's signal or exit status, and the end of its stderr in one line of printable characters."""

    how: str
    printed: str


A = TypeVar("A")


class SupervisedChild(Generic[A]):
    """A process that is bounded in seconds and memory; use it as a context manager, or call `close`.

    Parameters
    ----------
    module
        What the child runs: a module that calls `mgc.audio.sandbox.child.serve`.
    read_answer
        Makes of each message what it says; raises `ClosedError` where it makes no sense.
    decode
        `time_limit_seconds` and `memory_limit_bytes` bound each request.
    """

    def __init__(self, module: str, read_answer: Callable[[Message], A], decode: DecodeConfig) -> None:
        self._module, self._read_answer = module, read_answer
        self._settings = {"decode": decode.model_dump(mode="json")}
        self._limit = decode.time_limit_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._answered = 0

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the child."""
        self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, wanted: dict[str, Any], contents: Sequence[bytes | RemoteBytes], count: int) -> list[A]:
        """Return the child's answers to a request about some files.

        Raises
        ------
        TrackError
            DECODE_TIMEOUT after the time limit, DECODE_CRASHED when the child died, and what reading a `RemoteBytes`
            raises.
        DecoderStartError
            No child becomes ready.
        """
        self._require_ready()
        try:
            answers = self._request_with_retry(wanted, contents, count)
        except LateError as error:
            reason = f"no answer within {self._limit:g} s"
            log.warning("decoding child %s killed: %s", self.child_pid, reason)
            self._kill()
            raise TrackError(TrackCode.DECODE_TIMEOUT, Stage.DECODE, reason) from error
        except ClosedError as error:
            pid, death = self.child_pid, self._death()
            log.warning("decoding child %s died (%s)", pid, death.how)
            reason = ": ".join(filter(None, (f"the decoder died ({death.how})", death.printed)))
            raise TrackError(TrackCode.DECODE_CRASHED, Stage.DECODE, reason) from error
        self._answered += 1
        return answers

    def _request_with_retry(
        self, wanted: dict[str, Any], contents: Sequence[bytes | RemoteBytes], count: int
    ) -> list[A]:
        """Try a fresh child where one dies that had answered others before: a track is not blamed for its neighbour.

        Nor for a signal from outside.
        """
        had_answered = self._answered
        try:
            return self._request(wanted, contents, count)
        except ClosedError:
            if not had_answered and -self._exit_code() not in OUTSIDE_SIGNALS:
                raise
        pid, death = self.child_pid, self._death()
        log.warning("decoding child %s died (%s): its track is tried again in a fresh one", pid, death.how)
        self._require_ready()
        return self._request(wanted, contents, count)

    def _request(self, wanted: dict[str, Any], contents: Sequence[bytes | RemoteBytes], count: int) -> list[A]:
        child = self._child
        if child is None:
            raise ClosedError
        deadline = time.monotonic() + self._limit
        held = {
            str(number): np.frombuffer(data, np.uint8)
            for number, data in enumerate(contents)
            if isinstance(data, bytes)
        }
        self._stderr.truncate(0)
        sizes = [len(data) if isinstance(data, bytes) else data.size_bytes for data in contents]
        send(_pipe(child.stdin), Message({**wanted, "sizes": sizes}, arrays=held), deadline)
        answers: list[A] = []
        while len(answers) < count:
            message = receive(_pipe(child.stdout), deadline)
            if "read" not in message.header:
                answers.append(self._read_answer(message))
                continue
            started = time.monotonic()
            piece = self._read(contents, *message.header["read"])
            deadline += time.monotonic() - started
            send(_pipe(child.stdin), Message({}, piece), deadline)
        return answers

    def _read(self, contents: Sequence[bytes | RemoteBytes], number: int, start: int, stop: int) -> bytes:
        """Return a piece of a long file that the child requests."""
        data = contents[number]
        if isinstance(data, bytes):
            raise ClosedError  # it came whole: the child's request makes no sense
        try:
            return data.read(start, stop)
        except TrackError:
            log.warning("decoding child %s killed: it waits for bytes that cannot be read", self.child_pid)
            self._kill()
            raise

    def _require_ready(self) -> None:
        """Wait until the child is ready; start one where there is none.

        Raises
        ------
        DecoderStartError
            As many as `STARTS` in a row died, or hung, before they were ready.
        """
        for start in range(1, STARTS + 1):
            if self._child and self._ready:
                return
            try:
                if self._child is None:
                    self._start()
                self._greet()
            except LateError:
                printed = _one_printable_line(self._stderr)
                self._kill()
                reason = ": ".join(filter(None, (f"not ready after {START_SECONDS:g} s", printed)))
            except ClosedError:
                reason = ": ".join(filter(None, self._death()))
            except OSError as error:  # no process, no descriptor, no memory
                self._kill()
                reason = str(error)
            else:
                self._ready = True
                return
            log.warning("decoding child did not start (%d of %d): %s", start, STARTS, reason)
        raise DecoderStartError(
            f"the decoder does not start on {platform.node()}, so no track can be decoded: {reason}", _start_remedy()
        )

    def _greet(self) -> None:
        """Send the settings, and wait for the answer that the child has its libraries and limits."""
        if self._child is None:
            raise ClosedError
        deadline = time.monotonic() + START_SECONDS
        send(_pipe(self._child.stdin), self._greeting(), deadline)
        receive(_pipe(self._child.stdout), deadline)

    def _greeting(self) -> Message:
        return Message(self._settings)

    def _start(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            **KEEP_MEMORY,
            "PYTHONPATH": os.pathsep.join(_module_folders()),
        }
        # What the child prints: in memory, and emptied for each track.
        self._stderr = os.fdopen(os.memfd_create("mgc-decoder-stderr"), "r+b", buffering=0)
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            bufsize=0,
        )
        self._child, self._ready, self._answered = child, False, 0
        for pipe in (child.stdin, child.stdout):
            os.set_blocking(_pipe(pipe), False)
            # Unprivileged users have a quota of large pipes; a small one only costs more writes.
            with contextlib.suppress(OSError):
                fcntl.fcntl(_pipe(pipe), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _death(self) -> _Death:
        """Return how the child died, and end what is left of it."""
        code = self._exit_code()
        printed = _one_printable_line(self._stderr)
        self._kill()
        return _Death(f"signal {-code}" if code < 0 else f"exit status {code}", printed)

    def _exit_code(self) -> int:
        if self._child:
            with contextlib.suppress(subprocess.TimeoutExpired):  # alive, but what it sends makes no sense
                return self._child.wait(timeout=1.0)
        return 0

    def _kill(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._stderr):
            if pipe:
                pipe.close()
        self._child = None


class SupervisedExtractor(SupervisedChild[TrackResult | Outline]):
    """`extract` in a child process; use it as a context manager, or call `close`.

    Parameters
    ----------
    features, decode
        The settings; `decode.time_limit_seconds` bounds each track.
    banks
        Of `features`, where another process made them; None: `filter_banks` has them.
    """

    def __init__(self, features: FeatureConfig, decode: DecodeConfig, banks: FilterBanks | None = None) -> None:
        super().__init__("mgc.audio.sandbox.child", answer_in, decode)
        self._settings["features"] = features.model_dump(mode="json")
        self._features, self._banks = features, banks
        # Begun here and waited for with the first track: it imports its libraries while that track is fetched.
        with contextlib.suppress(OSError):  # tried again with the first track
            self._start()

    def _greeting(self) -> Message:
        banks = self._banks or filter_banks(self._features)
        return Message(self._settings, arrays=vars(banks))

    def extract(self, data: bytes | RemoteBytes, every_seconds: float | None = None) -> TrackFeatures:
        """Return the features of a track's bytes.

        Of a long file (`RemoteBytes`) the child requests the bytes it needs, and they are read here: the child
        reaches no store. The time that takes is not counted against the limit.

        Parameters
        ----------
        every_seconds
            Between the starts of windows; None: the few that predictions are made from.

        Raises
        ------
        TrackError
            What `extract` raises, DECODE_TIMEOUT after the time limit, DECODE_CRASHED when the child died, and
            what reading a `RemoteBytes` raises.
        DecoderStartError
            No child becomes ready: no track can be decoded here.
        """
        (extracted,) = self.extract_views(data, (ViewRequest(),), (), every_seconds)
        if isinstance(extracted, TrackError):
            raise extracted
        return extracted

    def extract_views(
        self,
        data: bytes | RemoteBytes,
        views: Sequence[ViewRequest],
        partners: Sequence[bytes | RemoteBytes] = (),
        every_seconds: float | None = None,
    ) -> list[TrackResult]:
        """Return each view of a track, or why that view alone failed; see `mgc.audio.extraction.extract_views`.

        The limits hold for the track, all its views together.

        Raises
        ------
        TrackError
            As `extract`: no view can be had.
        """
        requested = [{"recipe": view.recipe.to_values(), "partner": view.partner} for view in views]
        wanted = {"wanted": "features", "views": requested, "every_seconds": every_seconds}
        answers = self.request(wanted, [data, *partners], len(views))
        return cast("list[TrackResult]", answers)

    def outline(self, data: bytes | RemoteBytes) -> Outline:
        """Return the outline of a track's waveform, which decodes all of it; the same errors."""
        (answer,) = self.request({"wanted": "outline"}, [data], 1)
        if isinstance(answer, TrackError):
            raise answer
        return cast("Outline", answer)


def _one_printable_line(stderr: FileIO) -> str:
    """Return the end of what a child printed."""
    start = max(0, os.fstat(stderr.fileno()).st_size - STDERR_BYTES)
    text = os.pread(stderr.fileno(), STDERR_BYTES, start).decode(errors="replace")
    # The list that ends Python's report of a crash says nothing about it.
    text = text.partition("Extension modules:")[0]
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _module_folders() -> list[str]:
    """Return where this process looks for modules, but for the current folder, unless mgc itself is there.

    A `random.py` in it would else be run as the child imports its libraries.
    """
    home = str(MODULE_HOME)
    others = [folder for folder in sys.path if not _is_current(folder) or _is_current(home)]
    return [home if _is_current(folder) else folder for folder in others]


def _is_current(folder: str) -> bool:
    try:
        return Path(folder).samefile(Path())
    except OSError:  # of the two one does not exist
        return False


def _start_remedy() -> str:
    limit = min(
        (one for one in resource.getrlimit(resource.RLIMIT_AS) if one != resource.RLIM_INFINITY), default=None
    )
    if limit is not None and limit < NEEDED_BYTES:
        return (
            f"processes may map {limit >> 20} MiB here (RLIMIT_AS, ulimit -v), and the decoder needs "
            f"{NEEDED_BYTES >> 20} MiB: raise the limit, in a batch job by requesting more memory"
        )
    return (
        "look there at the limits (`ulimit -a`), the free memory, and at what "
        "`python -P -m mgc.audio.sandbox.child < /dev/null` prints (nothing is right); then start the command again"
    )


def _pipe(file: IO[bytes] | None) -> int:
    if file is None:
        raise ClosedError
    return file.fileno()
