"""From a file's bytes to mono samples, a block at a time, whatever the container and however broken.

libsndfile reads first: it is fast and, for most containers, jumps to the sample. FFmpeg takes what libsndfile
does not know or not read rightly, and the rest of a file in which libsndfile lost its way. Nothing is
decided by a name, and no header decides how much memory is taken: samples are held as they are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import av
import numpy as np
import soundfile
import soxr

from mgc.arrays import Float32Array
from mgc.audio.decode.ffmpeg import FfmpegSource
from mgc.audio.decode.flac import flac_streams
from mgc.audio.decode.joined import behind_id3v2, joined_streams
from mgc.audio.decode.lengths import with_true_length
from mgc.audio.decode.mpeg import MpegSource, looks_like_mpeg, scan_streams, suits_libsndfile
from mgc.audio.decode.signatures import HEAD_BYTES, kind_of
from mgc.audio.decode.sndfile import SndfileSource
from mgc.audio.decode.source import (
    Content,
    DecoderError,
    HeldContent,
    Mixer,
    Source,
    StreamInfo,
    UnrecognisedError,
    spliced,
)
from mgc.audio.windows import plan_stretch, resample
from mgc.config import DecodeConfig
from mgc.config.section import fingerprint_of
from mgc.errors import Stage, TrackCode, TrackError

DECODER_REVISION = 2
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
    note
        What was put right, empty where nothing was.
    """

    def __init__(self, content: Content, source: Source, note: str = "") -> None:
        self.info = source.info
        self.note = note
        self._content = content
        self._source = source
        self._mixer = Mixer()
        self._may_fall_back = not isinstance(source, FfmpegSource)

    def read_mono(self, start_frame: int, n_frames: int) -> Float32Array:
        """Return samples at the source's rate, all channels mixed to one (`Mixer`), shape (n,).

        n is less than `n_frames` where the audio ends earlier, which it may do before the header says so.

        Raises
        ------
        TrackError
            DECODE_FAILED where no sample at all can be decoded.
        """
        mixed = self._mixed(start_frame, n_frames)
        while self._mixer.turns():
            mixed = self._mixed(start_frame, n_frames)
        return mixed

    def count_frames(self) -> int:
        """Return how many samples a channel can be decoded, by decoding them all, a block at a time.

        Raises
        ------
        TrackError
            DECODE_FAILED where no sample at all can be decoded.
        """
        return sum(block.shape[1] for block in self._blocks(0, _NO_END))

    def close(self) -> None:
        """Free what the decoder holds."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mixed(self, start: int, n_frames: int) -> Float32Array:
        blocks = self._blocks(start, start + n_frames)
        return np.concatenate([np.zeros(0, np.float32), *map(self._mixer.mix, blocks)])

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
            position += block.shape[1]

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


class Tape:
    """Reads stretches in ascending order; what two of them share is decoded once.

    Attributes
    ----------
    end_frame
        Where the audio was found to end, or None while it was not.
    """

    def __init__(self, reader: AudioReader) -> None:
        self._reader = reader
        self._start = 0
        self._samples: Float32Array = np.zeros(0, dtype=np.float32)
        self.end_frame: int | None = None

    def read(self, start: int, stop: int) -> Float32Array:
        """Return source samples `start` to `stop`, fewer where the audio ends before."""
        held = self._samples[start - self._start :] if start >= self._start else self._samples[:0]
        position = start + held.size
        if position < stop:
            fresh = self._reader.read_mono(position, stop - position)
            if fresh.size < stop - position:
                self.end_frame = position + fresh.size
            self._samples = np.concatenate([held, fresh]) if held.size else fresh
            self._start = start
            held = self._samples
        return held[: stop - start]


@dataclass
class _Link:
    """One of several streams: how to open it, its rate, and its samples as far as is known."""

    open: Callable[[], AudioReader]
    sample_rate: int
    n_frames: int


class JoinedReader(AudioReader):
    """Streams that stand one behind the other in a file, read as one track.

    At the rate of those that last longest; the others are resampled. One is open at a time.

    Parameters
    ----------
    opens
        Opens each stream. One that cannot be opened is left out.

    Raises
    ------
    TrackError
        None can be opened; that of the first.
    """

    def __init__(self, opens: Sequence[Callable[[], AudioReader]]) -> None:
        self._open: tuple[_Link, AudioReader, Tape] | None = None
        errors, infos = [], []
        self._links: list[_Link] = []
        for opened in opens:
            try:
                with opened() as reader:
                    n_frames = reader.info.n_frames or reader.count_frames()
                    infos.append(reader.info)
                    self._links.append(_Link(opened, reader.info.sample_rate, n_frames))
            except TrackError as error:
                errors.append(error)
        if not self._links:
            raise errors[0]
        seconds = dict.fromkeys(sorted(link.sample_rate for link in self._links), 0.0)
        for link in self._links:
            seconds[link.sample_rate] += link.n_frames / link.sample_rate
        self._rate = max(seconds, key=seconds.__getitem__)
        channels = max(info.channels for info in infos)
        self.info = StreamInfo(self._rate, channels, self._total(), infos[0].container)
        self.note = _joined_note(len(opens), len(errors), list(seconds), self._rate)

    def read_mono(self, start_frame: int, n_frames: int) -> Float32Array:
        """See `AudioReader.read_mono`."""
        pieces = [np.zeros(0, np.float32)]
        begin, position, stop = 0, start_frame, start_frame + n_frames
        for link in self._links:
            while begin <= position < min(stop, begin + self._length(link)):
                piece = self._piece(link, position - begin, min(stop - begin, self._length(link)))
                pieces.append(piece)
                position += piece.size
            begin += self._length(link)
        return np.concatenate(pieces)

    def count_frames(self) -> int:
        """See `AudioReader.count_frames`."""
        for link in self._links:
            self._recount(link)
        return self._total()

    def close(self) -> None:
        """Free what the decoder holds."""
        if self._open:
            self._open[1].close()

    def _piece(self, link: _Link, start: int, stop: int) -> Float32Array:
        """Return samples of a stream, in samples of the track; the stream is shortened where it ends early."""
        tape = self._opened(link)[2]
        stretch = plan_stretch(start / self._rate, stop - start, link.sample_rate, self._rate)
        try:
            source = tape.read(stretch.start, min(stretch.stop, link.n_frames))
        except TrackError:
            link.n_frames = 0  # nothing of it can be decoded
            return np.zeros(0, np.float32)
        piece = resample(source, link.sample_rate, self._rate)[stretch.skip : stretch.skip + stop - start]
        if tape.end_frame is None or tape.end_frame >= link.n_frames:
            return np.pad(piece, (0, stop - start - piece.size))  # a resampler rounds its last sample
        link.n_frames = min(tape.end_frame, link.n_frames - 1)
        if not source.size:  # a jump behind the end does not show it
            self._recount(link)
        return piece

    def _recount(self, link: _Link) -> None:
        try:
            link.n_frames = self._opened(link)[1].count_frames()
        except TrackError:
            link.n_frames = 0

    def _opened(self, link: _Link) -> tuple[_Link, AudioReader, Tape]:
        if self._open is None or self._open[0] is not link:
            self.close()
            reader = link.open()
            self._open = link, reader, Tape(reader)
        return self._open

    def _length(self, link: _Link) -> int:
        return round(link.n_frames * self._rate / link.sample_rate)

    def _total(self) -> int:
        return sum(map(self._length, self._links))


def _joined_note(streams: int, lost: int, rates: Sequence[int], rate: int) -> str:
    found = [f"{streams} streams, one behind the other, are read as one"]
    if len(rates) > 1:
        found.append(f"their sample rates {', '.join(map(str, rates))} Hz are made {rate} Hz")
    if lost:
        found.append(f"{lost} of them cannot be read")
    return "; ".join(found)


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
    streams = [opening for stream in _streams(content) for opening in _openings(stream)]
    opens = [partial(_open_reader, *stream, limits) for stream in streams]
    return opens[0]() if len(opens) == 1 else JoinedReader(opens)


_Openers = Sequence[Callable[[], Source]]


def _streams(content: Content) -> list[Content]:
    """Return the files that stand one behind the other in a file, but for MPEG audio."""
    start = behind_id3v2(content)
    head = content.read(start, start + 4)
    if looks_like_mpeg(head):
        return [content]
    bare = spliced(content, start, content.size_bytes) if start else content
    return (flac_streams(bare) if head == b"fLaC" else joined_streams(bare)) or [content]


def _open_reader(content: Content, openers: _Openers, note: str, limits: DecodeConfig) -> AudioReader:
    source = _open_source(content, openers)
    try:
        _check(source.info, limits)
    except TrackError:
        source.close()
        raise
    return AudioReader(content, source, note)


def _open_source(content: Content, openers: _Openers) -> Source:
    errors = []
    for open_source in openers:
        try:
            return open_source()
        except DecoderError as error:
            errors.append(error)
    raise _not_opened(content.read(0, HEAD_BYTES), errors)


def _openings(stream: Content) -> Iterator[tuple[Content, _Openers, str]]:
    """Yield content, what to try on it, in order, and a note, for a file or for each kind of MPEG frames in it.

    libsndfile is first, but for what version 1.2.2 opens and does not read rightly: its seek in Ogg Vorbis misses by
    some hundred samples (and FFmpeg decodes Vorbis and Opus in half the time); for MP3 see `mgc.audio.decode.mpeg`.
    """
    content = with_true_length(stream)
    note = "" if content is stream else "the header's length is wrong, and the bytes' own is taken"
    sndfile, ffmpeg = partial(SndfileSource, content), partial(FfmpegSource, content)
    head = content.read(0, 4)
    frames = scan_streams(content) if looks_like_mpeg(head) else []
    if len(frames) > 1:
        yield from ((content, [partial(MpegSource, content, one)], note) for one in frames)
    elif frames and (content.size_bytes > _HELD_BYTES or not suits_libsndfile(content, frames[0])):
        yield content, [partial(MpegSource, content, frames[0]), ffmpeg, sndfile], note
    elif head == b"OggS" or (looks_like_mpeg(head) and not frames):
        yield content, [ffmpeg, sndfile], note
    else:
        yield content, [sndfile, ffmpeg], note


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
