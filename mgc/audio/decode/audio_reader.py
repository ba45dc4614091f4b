"""From a file's bytes to mono samples, a block at a time, whatever the container and however broken.

libsndfile reads first: it is fast and, for most containers, jumps to the sample. FFmpeg takes what libsndfile
does not know or not read rightly, and the rest of a file in which libsndfile lost its way. Nothing is
decided by a name, and no header decides how much memory is taken: samples are held as they are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import av
import numpy as np
import soundfile
import soxr

from mgc.arrays import Float32Array
from mgc.audio.decode.ffmpeg import FfmpegSource
from mgc.audio.decode.lengths import with_true_length
from mgc.audio.decode.mpeg import MpegSource, looks_like_mpeg, scan_frames, suits_libsndfile
from mgc.audio.decode.signatures import HEAD_BYTES, kind_of
from mgc.audio.decode.sndfile import SndfileSource
from mgc.audio.decode.source import Content, DecoderError, HeldContent, Source, StreamInfo, UnrecognisedError
from mgc.config import DecodeConfig
from mgc.config.section import fingerprint_of
from mgc.errors import Stage, TrackCode, TrackError

DECODER_REVISION = 1
"""Raise it where mgc's own way of decoding learns to read what it could not."""

BLOCK_FRAMES = 1 << 16
"""Samples a channel decoded at a time."""

_NO_END = 1 << 62

_HELD_BYTES = 1 << 25
"""MP3s from this size on are not read by libsndfile: mpg123 walks through the file for each jump."""


class AudioReader:
    """An open track; use it as a context manager. Made by `open_audio`.

    Attributes
    ----------
    info
        What the file says; `count_frames` says what is true.
    """

    def __init__(self, content: Content, source: Source) -> None:
        self.info = source.info
        self._content = content
        self._source = source
        self._may_fall_back = not isinstance(source, FfmpegSource)

    def read_mono(self, start_frame: int, n_frames: int) -> Float32Array:
        """Return samples at the source's rate, the mean over channels, shape (n,).

        n is less than `n_frames` where the audio ends earlier, which it may do before the header says so.

        Raises
        ------
        TrackError
            DECODE_FAILED where no sample at all can be decoded.
        """
        return np.concatenate([np.zeros(0, np.float32), *self._blocks(start_frame, start_frame + n_frames)])

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _blocks(self, start: int, stop: int) -> Iterator[Float32Array]:
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
            source = FfmpegSource(self._content)
        except DecoderError:
            return False
        if source.info.sample_rate != self.info.sample_rate:
            source.close()
            return False
        self._source.close()
        self._source = source
        return True


def open_audio(data: bytes | Content, limits: DecodeConfig) -> AudioReader:
    """Open a track by its content.

    Parameters
    ----------
    data
        The file's bytes, held or fetched as they are read.
    limits
        Bounds on channels and sample rate.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, NO_SAMPLES, UNSUPPORTED_LAYOUT, or DECODE_FAILED for a broken header.
    """
    content = HeldContent(data) if isinstance(data, bytes) else data
    if not content.size_bytes:
        raise TrackError(TrackCode.EMPTY_FILE, Stage.DECODE, "the file has 0 bytes")
    content = with_true_length(content)
    source = _open_source(content)
    try:
        _check(source.info, limits)
    except TrackError:
        source.close()
        raise
    return AudioReader(content, source)


def _open_source(content: Content) -> Source:
    errors = []
    for open_source in _openers(content):
        try:
            return open_source()
        except DecoderError as error:
            errors.append(error)
    raise _not_opened(content.read(0, HEAD_BYTES), errors)


def _openers(content: Content) -> list[Callable[[], Source]]:
    """Return what to try, in order: libsndfile first, but for what version 1.2.2 opens and does not read rightly.

    Its seek in Ogg Vorbis misses by some hundred samples (and FFmpeg decodes Vorbis and Opus in half the time);
    for MP3 see `mgc.audio.decode.mpeg`.
    """
    sndfile, ffmpeg = partial(SndfileSource, content), partial(FfmpegSource, content)
    head = content.read(0, 4)
    if head == b"OggS":
        return [ffmpeg, sndfile]
    if looks_like_mpeg(head):
        frames = scan_frames(content)
        if frames is None:
            return [ffmpeg, sndfile]
        if content.size_bytes > _HELD_BYTES or not suits_libsndfile(content, frames):
            return [partial(MpegSource, content, frames), ffmpeg, sndfile]
    return [sndfile, ffmpeg]


def _not_opened(head: bytes, errors: list[DecoderError]) -> TrackError:
    """Return why: no audio at all, or audio with a broken header."""
    if kind := kind_of(head):
        return TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, f"the file is {kind}")
    if all(isinstance(error, UnrecognisedError) for error in errors):
        reason = "neither libsndfile nor FFmpeg finds audio in the file"
        return TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, reason)
    return TrackError(TrackCode.DECODE_FAILED, Stage.DECODE, "; ".join(map(str, errors)))


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


def decoder_mark(limits: DecodeConfig) -> str:
    """Return a mark that changes where a track that could not be decoded may be worth another try.

    It stands for mgc's decoding, the libraries that it uses, and the bounds it keeps.
    """
    return fingerprint_of(
        {
            "revision": DECODER_REVISION,
            "libsndfile": soundfile.__libsndfile_version__,
            "ffmpeg": {name: list(version) for name, version in av.library_versions.items()},
            "soxr": soxr.__version__,
            "limits": limits.model_dump(mode="json"),
        }
    )
