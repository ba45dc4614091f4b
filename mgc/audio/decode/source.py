"""A track's bytes, held whole or fetched by ranges: what the decoders read from.

A short file is held: it is fetched ahead and decoded from memory. Of a long one (ten hours of FLAC are more
than a gigabyte) only what the windows need is fetched, in blocks, and few blocks are kept.
"""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array

BLOCK_BYTES = 1 << 18
"""Bytes fetched at a time by a reader that jumps: some seconds of audio, and little beside a request's delay."""

READ_AHEAD_BLOCKS = 8
"""At most so many blocks are fetched together by a reader that goes straight on."""

KEPT_BLOCKS = 64
"""Blocks kept: 16 MiB. Decoders go back to headers and indexes, and step back a little after a seek."""


class Content(Protocol):
    """Bytes of known length, readable anywhere, any number of times."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop), fewer where they end before."""

    def open(self) -> BinaryIO:
        """Return a new seekable file over the bytes, for decoder libraries."""


@dataclass(frozen=True)
class RemoteBytes:
    """Bytes that stay where they are until some of them are read.

    Parameters
    ----------
    size_bytes
        How many there are.
    read
        Returns the bytes [start, stop).
    """

    size_bytes: int
    read: Callable[[int, int], bytes]


class HeldContent:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        """See `Content`."""
        return len(self._data)

    def read(self, start: int, stop: int) -> bytes:
        """See `Content`."""
        return self._data[start:stop]

    def open(self) -> BinaryIO:
        """See `Content`."""
        return io.BytesIO(self._data)  # shares the bytes until someone writes


class RangedContent:
    """Bytes that are fetched when they are read.

    Parameters
    ----------
    remote
        Where they are; its `read` returns all bytes requested, or raises an OSError.
    """

    def __init__(self, remote: RemoteBytes) -> None:
        self._remote = remote
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1  # the block that a reader which goes straight on will want
        self._ahead = 1

    @property
    def size_bytes(self) -> int:
        """See `Content`."""
        return self._remote.size_bytes

    def read(self, start: int, stop: int) -> bytes:
        """See `Content`."""
        stop = min(stop, self.size_bytes)
        if start >= stop:
            return b""
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        pieces = [self._block(number) for number in range(first, last + 1)]
        offset = first * BLOCK_BYTES
        joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return joined[start - offset : stop - offset]

    def open(self) -> BinaryIO:
        """See `Content`."""
        return io.BufferedReader(ContentFile(self), 1 << 16)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._fetch_blocks(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch_blocks(self, first: int) -> None:
        self._ahead = min(2 * self._ahead, READ_AHEAD_BLOCKS) if first == self._next else 1
        self._next = first + self._ahead
        start = first * BLOCK_BYTES
        stop = min(start + self._ahead * BLOCK_BYTES, self.size_bytes)
        data = self._remote.read(start, stop)
        if len(data) != stop - start:
            raise OSError("fewer bytes came than were asked for")
        for at in range(0, len(data), BLOCK_BYTES):
            self._blocks[first + at // BLOCK_BYTES] = data[at : at + BLOCK_BYTES]
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)


class SplicedContent:
    """A part of other bytes behind a beginning of ours: a header put right, or one stream of several.

    Parameters
    ----------
    head
        What comes first.
    content, start, stop
        What follows it: bytes [start, stop) of other content.
    """

    def __init__(self, head: bytes, content: Content, start: int, stop: int) -> None:
        self._head = head
        self._content = content
        self._start = start
        self.size_bytes = len(head) + max(0, stop - start)

    def read(self, start: int, stop: int) -> bytes:
        """See `Content`."""
        stop, n_head = min(stop, self.size_bytes), len(self._head)
        if stop <= n_head:
            return self._head[start:stop]
        behind = self._content.read(self._start + max(0, start - n_head), self._start + stop - n_head)
        return self._head[start:] + behind

    def open(self) -> BinaryIO:
        """See `Content`."""
        return io.BufferedReader(ContentFile(self), 1 << 16)


def spliced(content: Content, start: int, stop: int, head: bytes = b"") -> Content:
    """Return `head` and the bytes [start, stop) behind it; of held bytes a copy, which libraries read faster."""
    if isinstance(content, HeldContent):
        return HeldContent(head + content.read(start, stop))
    return SplicedContent(head, content, start, stop)


def with_patch(content: Content, at: int, patch: bytes) -> Content:
    """Return the content with the bytes from `at` on, near its beginning, replaced by `patch`."""
    return spliced(content, at + len(patch), content.size_bytes, content.read(0, at) + patch)


class ContentFile(io.RawIOBase):
    """A content as a raw file."""

    def __init__(self, content: Content | RemoteBytes) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._content.size_bytes}[whence]
        if base + offset < 0:
            raise OSError("a place before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._content.read(self._position, self._position + len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@dataclass(frozen=True)
class StreamInfo:
    """What a file says about its audio; `n_frames` is a claim until it has been read.

    Parameters
    ----------
    sample_rate
        Hz.
    channels
        How many.
    n_frames
        Samples a channel; None where the file does not say, or says what cannot be.
    container
        The library's name of the container, in lower case: wav, flac, mp3, ogg, mov, …
    """

    sample_rate: int
    channels: int
    n_frames: int | None
    container: str


class DecoderError(Exception):
    """A decoder library gave up; the message is its own, in one line."""


class UnrecognisedError(DecoderError):
    """The bytes are no container that the library knows, or hold no audio."""


class Source(Protocol):
    """One open file in one decoder library, for `AudioReader`. Reads forward cheaply and anywhere correctly."""

    info: StreamInfo

    def read(self, start_frame: int, n_frames: int) -> Float32Array:
        """Return up to `n_frames` samples from `start_frame` on, shape (channels, n).

        May return fewer at any time; an empty array means that the audio ends at or before
        `start_frame`.

        Raises
        ------
        DecoderError
            The library gave up.
        """

    def close(self) -> None:
        """Free what the library holds."""


@contextmanager
def translated(library: str) -> Iterator[None]:
    """Turn whatever a decoder library raises into a `DecoderError`; running out of memory stays what it is.

    The bytes are hostile and the bindings raise far more kinds than they document.
    """
    try:
        yield
    except (MemoryError, DecoderError):
        raise
    except Exception as error:
        raise DecoderError(f"{library}: {one_line(error)}") from error


MOST_CANCELLED_DB = 1.5
"""Power that the mean may lose against that of unrelated channels: two equally loud ones correlate at -0.29 there."""

_SUSPECT_DB = 0.5
_MEASURED_PART = 16
"""One sample in so many, the first ones of each block, shows whether all are to be looked at."""


class Mixer:
    """Mixes channels to one by their mean, but so that they do not cancel.

    Of a recording with one channel turned over, the mean is silence, or all but what is in the middle. Where over a
    stretch the mean has `MOST_CANCELLED_DB` less power than unrelated channels would leave in it, the channels that
    run against the loudest are turned over, from there on, until the mean loses nothing.
    """

    def __init__(self) -> None:
        self._signs: npt.NDArray[np.float64] | None = None
        self._products: npt.NDArray[np.float64] | None = None
        self._part = _MEASURED_PART

    def mix(self, planes: npt.NDArray[np.float32]) -> Float32Array:
        """Return the mix of samples of shape (channels, n)."""
        if len(planes) > 1:
            if self._signs is not None and len(self._signs) != len(planes):
                self._signs = None
            self._measure(planes[:, : -(-planes.shape[1] // self._part)])
            if self._signs is not None:
                planes = planes * self._signs[:, np.newaxis].astype(np.float32)
        return mix_to_mono(planes)

    def turns(self) -> bool:
        """Return whether what was mixed since the last call is to be mixed once more, as more is known of it."""
        products, self._products = self._products, None
        if products is None or not np.isfinite(products).all():
            return False
        lost_db = _lost_db(products, np.ones(len(products)))
        if self._part != 1:
            if lost_db <= _SUSPECT_DB if self._signs is None else lost_db > 0.0:
                return False
            self._part = 1
            return True
        self._part = _MEASURED_PART
        if self._signs is not None:
            self._signs = self._signs if lost_db > 0.0 else None
            return self._signs is None
        turned = np.where(products[np.diag(products).argmax()] < 0.0, -1.0, 1.0)
        if lost_db <= MOST_CANCELLED_DB or _lost_db(products, turned) > MOST_CANCELLED_DB:
            return False
        self._signs = turned
        return True

    def _measure(self, part: npt.NDArray[np.float32]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            products = (part @ part.T).astype(np.float64)
            if self._products is not None and len(self._products) == len(products):
                products += self._products
        self._products = products


def _lost_db(products: npt.NDArray[np.float64], signs: npt.NDArray[np.float64]) -> float:
    """Return how much less power than unrelated channels' the mix has, from the channels' products."""
    power, unrelated = float(signs @ products @ signs), float(np.trace(products))
    return 10.0 * math.log10(unrelated / power) if power > 0.0 < unrelated else (math.inf if unrelated else 0.0)


def mix_to_mono(planes: npt.NDArray[np.float32]) -> Float32Array:
    """Return the mean over channels of samples of shape (channels, n).

    Adds whole channels, which is several times faster than `mean` along an axis of two.
    """
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])
    # Infinite samples are the caller's to report, not numpy's to warn about.
    with np.errstate(over="ignore", invalid="ignore"):
        mono: Float32Array = planes[0] + planes[1]
        for plane in planes[2:]:
            mono += plane
        mono *= np.float32(1.0 / len(planes))
    return mono


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line of bounded length, or its kind where it has none."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:300] or type(error).__name__
