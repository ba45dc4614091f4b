"""From a file's bytes to mono samples, a block at a time, whatever the container and however broken.

libsndfile reads first: it is fast and, for most containers, jumps to the sample. FFmpeg takes what libsndfile
does not know or not read rightly, and the rest of a file in which libsndfile lost its way. Nothing is
decided by a name, and no header decides how much memory is taken: samples are held as they are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np

from mgc.audio.ffmpeg_source import FfmpegSource
from mgc.audio.mpeg import looks_like_mpeg, suits_libsndfile
from mgc.audio.sndfile_source import SndfileSource
from mgc.audio.source import DecoderError, Source, StreamInfo, UnrecognisedError
from mgc.audio.types import FloatArray
from mgc.config import DecodeConfig
from mgc.errors import Stage, TrackCode, TrackError

__all__ = ["AudioReader", "StreamInfo", "open_audio"]

BLOCK_FRAMES = 1 << 16
"""Samples a channel decoded at a time."""

_NO_END = 1 << 62


class AudioReader:
    """An open track; use it as a context manager. Made by `open_audio`.

    Attributes
    ----------
    info
        What the file says; `count_frames` says what is true.
    """

    def __init__(self, data: bytes, source: Source) -> None:
        self.info = source.info
        self._data = data
        self._source = source
        self._may_fall_back = not isinstance(source, FfmpegSource)

    def read_mono(self, start_frame: int, n_frames: int) -> FloatArray:
        """Return samples at the source's rate, the mean over channels, shape (n,).

        n is less than `n_frames` where the audio ends earlier, which it may do before the header says so.

        Raises
        ------
        TrackError
            DECODE_FAILED where no sample at all can be decoded.
        """
        blocks = list(self._blocks(start_frame, start_frame + n_frames))
        return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)

    def count_frames(self) -> int:
        """Return how many samples a channel can be decoded, by decoding them all, a block at a time.

        Raises
        ------
        TrackError
            DECODE_FAILED where no sample at all can be decoded.
        """
        return sum(block.size for block in self._blocks(0, _NO_END))

    def close(self) -> None:
        """Free what the decoder holds."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blocks(self, start: int, stop: int) -> Iterator[FloatArray]:
        position = start
        while position < stop:
            try:
                block = self._source.read(position, min(stop - position, BLOCK_FRAMES))
            except DecoderError as error:
                if self._fall_back():
                    continue
                if position == 0:
                    raise TrackError(TrackCode.DECODE_FAILED, Stage.DECODE, str(error)) from error
                return  # as much as could be decoded
            if block.size == 0:
                return
            yield block
            position += block.size

    def _fall_back(self) -> bool:
        """Go on with FFmpeg, which finds its way again behind damage; False if it cannot take over."""
        if not self._may_fall_back:
            return False
        self._may_fall_back = False
        try:
            source = FfmpegSource(self._data)
        except DecoderError:
            return False
        if source.info.sample_rate != self.info.sample_rate:
            source.close()
            return False
        self._source.close()
        self._source = source
        return True


def open_audio(data: bytes, limits: DecodeConfig) -> AudioReader:
    """Open a track by its content.

    Parameters
    ----------
    data
        The file's bytes.
    limits
        Bounds on channels and sample rate.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, NO_SAMPLES, UNSUPPORTED_LAYOUT, or DECODE_FAILED for a broken header.
    """
    if not data:
        raise TrackError(TrackCode.EMPTY_FILE, Stage.DECODE, "the file has 0 bytes")
    source = _open_source(data)
    try:
        _check(source.info, limits)
    except TrackError:
        source.close()
        raise
    return AudioReader(data, source)


def _open_source(data: bytes) -> Source:
    opens: list[Callable[[bytes], Source]] = [SndfileSource, FfmpegSource]
    if _suits_ffmpeg(data):
        opens.reverse()
    errors = []
    for open_source in opens:
        try:
            return open_source(data)
        except DecoderError as error:
            errors.append(error)
    raise _not_opened(data, errors)


def _suits_ffmpeg(data: bytes) -> bool:
    """Return whether libsndfile 1.2.2 would open the file but not read it rightly.

    Its seek in Ogg Vorbis misses by some hundred samples (and FFmpeg decodes Vorbis and Opus in half the
    time); for MP3 see `mgc.audio.mpeg`.
    """
    return data.startswith(b"OggS") or (looks_like_mpeg(data) and not suits_libsndfile(data))


def _not_opened(data: bytes, errors: list[DecoderError]) -> TrackError:
    """Return why: no audio at all, or audio with a broken header."""
    if _is_text(data):
        return TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, "the file is text")
    if all(isinstance(error, UnrecognisedError) for error in errors):
        reason = "neither libsndfile nor FFmpeg finds audio in the file"
        return TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, reason)
    return TrackError(TrackCode.DECODE_FAILED, Stage.DECODE, "; ".join(map(str, errors)))


def _is_text(data: bytes) -> bool:
    """Return whether the file starts without a control character that text would not hold."""
    return all(byte >= ord(" ") or byte in b"\t\n\f\r" for byte in data[:1024])


def _check(info: StreamInfo, limits: DecodeConfig) -> None:
    if not 1 <= info.channels <= limits.max_channels:
        reason = f"{info.channels} channels, allowed are 1 to {limits.max_channels}"
        raise TrackError(TrackCode.UNSUPPORTED_LAYOUT, Stage.DECODE, reason)
    if not limits.min_sample_rate <= info.sample_rate <= limits.max_sample_rate:
        allowed = f"{limits.min_sample_rate} to {limits.max_sample_rate} Hz"
        reason = f"sample rate {info.sample_rate} Hz, allowed are {allowed}"
        raise TrackError(TrackCode.UNSUPPORTED_LAYOUT, Stage.DECODE, reason)
    if info.n_frames == 0:
        raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
