"""What a decoder library must offer so that `mgc.audio.decode.audio_reader` can read through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array


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
    """One open file in one decoder library. Reads forward cheaply and anywhere correctly."""

    info: StreamInfo

    def read(self, start_frame: int, n_frames: int) -> Float32Array:
        """Return up to `n_frames` samples from `start_frame` on, mono, shape (n,).

        May return fewer than asked for at any time; an empty array means that the audio ends at or before
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
