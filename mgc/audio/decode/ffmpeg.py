"""Reading through FFmpeg (PyAV): M4A/AAC, ALAC, WMA, APE, …, and damaged files that libsndfile gives up on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from mgc.arrays import Float32Array
from mgc.audio.decode.source import (
    Content,
    DecoderError,
    HeldContent,
    StreamInfo,
    UnrecognisedError,
    one_line,
    translated,
)

CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""FFmpeg also opens playlists, subtitles, images and raw data. A catalogue's bytes are hostile: a playlist
would make it open other files and URLs, and many a text file passes for some subtitle format."""

_ESTIMATED_LENGTH = frozenset({"aac", "ac3", "dts", "eac3", "loas", "mlp", "mp3", "mpeg", "mpegts", "truehd"})
"""Containers without a length field to trust; FFmpeg estimates it from the bit rate."""

_SEEKABLE = frozenset({"asf", "matroska", "mov", "ogg", "tta", "wv"})
"""Containers in which FFmpeg's seek uses an index or bisects, and lands at or before the target. In the
others, packets are read and left undecoded (some 2 µs each), which takes longer and cannot miss."""

_SEEK_FROM_SECONDS = 20.0
"""Shorter jumps are made by leaving packets out."""

_BATCH_FRAMES = 16_384
"""Samples decoded before they are handed on."""

_PREROLL_SECONDS = 0.5
"""Decoded and dropped before a jump's target: bit reservoirs (MP3: ten frames) and overlaps fill up."""

_OPUS_GRID_SAMPLES = 120
"""Opus frames are multiples of 2.5 ms, at 48 kHz."""


class FfmpegSource:
    """The best audio stream of one file, open in FFmpeg.

    Damaged packets are left out; channels may come and go. A read backward starts anew from the first packet.

    Parameters
    ----------
    content
        The file's bytes.

    Raises
    ------
    UnrecognisedError
        FFmpeg knows no such container, or finds no audio in it.
    DecoderError
        No packet could be decoded.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        with translated("FFmpeg"):
            self._rewind()
            self._may_jump = self._stream.can_jump
            self.info = StreamInfo(
                sample_rate=self._stream.sample_rate,
                channels=self._stream.channels,
                n_frames=self._stream.claimed_frames(content),
                container=self._stream.container,
            )

    def read(self, start_frame: int, n_frames: int) -> Float32Array:
        """See `Source.read`."""
        with translated("FFmpeg"):
            return self._read(start_frame, n_frames)

    def close(self) -> None:
        """See `Source.close`."""
        self._stream.close()

    def _read(self, start_frame: int, n_frames: int) -> Float32Array:
        if start_frame < self._position or self._target is not None:
            self._stream.close()
            self._rewind()
        self._jump_towards(start_frame)
        while start_frame >= self._position + self._block.shape[1]:
            if not self._advance():
                return np.zeros((1, 0), dtype=np.float32)
        if start_frame < self._position and self._stream.has_sought:
            self._may_jump = False  # it landed too late: the index is wrong
            return self._read(start_frame, n_frames)
        offset = max(0, start_frame - self._position)
        return self._block[:, offset : offset + n_frames]

    def _rewind(self) -> None:
        self._stream = FfmpegStream(self._content)
        self._block: Float32Array = np.zeros((1, 0), dtype=np.float32)
        self._position = 0
        self._target: int | None = None  # of a jump that has not landed
        self._expected = -1  # the end of the frame before, while jumping
        self._held_over: AudioFrame | None = None
        self._latest_pts = 0
        self._resampler: tuple[tuple[int, str, int], AudioResampler] | None = None

    def _jump_towards(self, start_frame: int) -> None:
        preroll = round(_PREROLL_SECONDS * self._stream.sample_rate)
        decoded = self._position + self._block.shape[1]
        if self._may_jump and start_frame > decoded + 2 * preroll:
            self._stream.skip_before(start_frame - preroll, decoded)
            self._target, self._expected = start_frame, -1

    def _advance(self) -> bool:
        """Decode the next block; False at the end of the audio."""
        self._position += self._block.shape[1]
        self._block = self._block[:, :0]
        # FFmpeg's own queue joins frames far faster than numpy does: an MP3's hold 1,152 samples each.
        queue = AudioFifo()
        layout: tuple[int, str] | None = None
        while queue.samples < _BATCH_FRAMES and (frame := self._next_frame()):
            layout = layout or _layout_of(frame)
            # The queue does not check this: PyAV crashes the process when mono follows stereo.
            if layout != _layout_of(frame):
                self._held_over = frame
                break
            frame.pts = None  # the queue refuses frames whose time stamps leave a gap
            queue.write(frame)
        joined = queue.read()
        if joined is not None:
            self._block = _to_planes(joined)
        return joined is not None

    def _next_frame(self) -> AudioFrame | None:
        """Return the next frame, at the stream's sample rate, whatever its own is."""
        while frame := self._held_over or next(self._stream.frames, None):
            self._held_over = None
            if (frame.pts or 0) < self._latest_pts:
                self._may_jump = False  # another recording begins: time stamps are no places
            self._latest_pts = frame.pts or 0
            if not self._has_landed(frame):
                continue
            if frame.sample_rate == self._stream.sample_rate:
                return frame
            if resampled := self._resampled(frame):
                return resampled
        return None

    def _resampled(self, frame: AudioFrame) -> AudioFrame | None:
        key = (*_layout_of(frame), frame.sample_rate)
        if self._resampler is None or self._resampler[0] != key:
            resampler = AudioResampler(frame.format, frame.layout, self._stream.sample_rate)
            self._resampler = key, resampler
        return next(iter(self._resampler[1].resample(frame)), None)

    def _has_landed(self, frame: AudioFrame) -> bool:
        """Return whether a frame's place is known after a jump; take the position from it.

        A time stamp is believed where the frame before ends there. Alone it is not: FFmpeg's are wrong where
        Vorbis goes from long blocks to short ones, and the first block after a jump may have a wrong length.
        """
        if self._target is None:
            return True
        place = self._stream.place_of(frame)
        end = place + frame.samples
        landed = place == self._expected or end > self._target
        self._expected = end
        if landed:
            self._position, self._target = place, None
            self._stream.skip_no_more()
        return landed


def packet_digest(data: bytes) -> str:
    """Return a hash of the codec's settings and of every packet of a file's best audio stream.

    Two files of one digest decode to the same samples, whatever else (titles, pictures, padding) differs.

    Parameters
    ----------
    data
        The file's bytes.

    Raises
    ------
    UnrecognisedError
        FFmpeg knows no such container, or finds no audio in it.
    DecoderError
        Its packets cannot be read.
    """
    container, stream = _open(HeldContent(data))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{stream.codec_context.name} {stream.codec_context.sample_rate}".encode())
    try:
        with container:
            for packet in container.demux(stream):
                digest.update(packet.size.to_bytes(8, "little"))
                digest.update(bytes(packet))
    except (av.FFmpegError, ValueError) as error:
        raise DecoderError(f"FFmpeg: {one_line(error)}") from error
    return digest.hexdigest()


class FfmpegStream:
    """One pass over the audio frames of a file, with jumps forward.

    Parameters
    ----------
    content
        The file's bytes.

    Raises
    ------
    UnrecognisedError
        The bytes are no container of `CONTAINERS`, or one without audio.
    DecoderError
        Not one packet could be decoded, though there are some.
    """

    def __init__(self, content: Content) -> None:
        self._container, self._stream = _open(content)
        self.has_sought = False
        self._skip_before_pts: int | None = None
        self._last_error: Exception | None = None
        frames = self._decode()
        self.first = next(frames, None)
        if self.first is None and self._last_error is not None:
            self.close()
            raise DecoderError(f"FFmpeg: {one_line(self._last_error)}") from self._last_error
        self._first_pts = self.first.pts if self.first else None
        self._second = next(frames, None) if self.first else None
        self.frames = self._with_first(frames)
        """In order; of packets that cannot be decoded the next good one takes the place."""

    @property
    def container(self) -> str:
        """FFmpeg's first name of the container."""
        return self._container.format.name.partition(",")[0]

    @property
    def sample_rate(self) -> int:
        """Hz, of what the decoder puts out (which for HE-AAC is twice what the header says)."""
        return self.first.sample_rate if self.first else self._stream.sample_rate

    @property
    def channels(self) -> int:
        """How many."""
        return self.first.layout.nb_channels if self.first else self._stream.channels

    @property
    def can_jump(self) -> bool:
        """Whether time stamps give a frame's place to the sample."""
        if not self._stream.time_base or self._first_pts is None:
            return False
        return self._tick_samples <= 1 or self._grid_samples > 2 * self._tick_samples

    def skip_before(self, frame: int, at: int) -> None:
        """Leave out packets that end before sample `frame`, `at` being the next; only where `can_jump`."""
        self._skip_before_pts = (self._first_pts or 0) + int(frame / self._tick_samples)
        if self.container in _SEEKABLE and frame - at > _SEEK_FROM_SECONDS * self.sample_rate:
            self._container.seek(self._skip_before_pts, stream=self._stream, backward=True)
            self._stream.codec_context.flush_buffers()
            self.has_sought = True

    def skip_no_more(self) -> None:
        """Decode whatever comes: behind the target, a recording may begin whose time stamps begin anew."""
        self._skip_before_pts = None

    def place_of(self, frame: AudioFrame) -> int:
        """Return the index of a frame's first sample, from its time stamp; only where `can_jump`."""
        place = round(((frame.pts or 0) - (self._first_pts or 0)) * self._tick_samples)
        if self._tick_samples <= 1 or self.first is None:
            return place
        # Milliseconds do not give samples, but frames of equal length begin only every so many.
        offset = self.first.samples
        return max(0, offset + self._grid_samples * round((place - offset) / self._grid_samples))

    def claimed_frames(self, content: Content) -> int | None:
        """Return the stream's length in samples by its header, or by its packets where no header says."""
        if self.first is None:
            return 0
        duration = self._stream.duration
        if duration is None or self.container in _ESTIMATED_LENGTH:
            end_pts = _last_pts(content)
            duration = None if end_pts is None else end_pts - (self._first_pts or 0)
        return None if duration is None else round(duration * self._tick * self.sample_rate)

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._container.close()

    @property
    def _tick(self) -> Fraction:
        return self._stream.time_base or Fraction(1, self.sample_rate)

    @property
    def _tick_samples(self) -> Fraction:
        return self._tick * self.sample_rate

    @property
    def _grid_samples(self) -> int:
        """Samples of which the places of all frames but the first are multiples; 0 if there is no such number."""
        codec = self._stream.codec_context.name
        if codec in ("opus", "libopus"):
            return _OPUS_GRID_SAMPLES
        return 0 if codec in ("vorbis", "libvorbis") or self._second is None else self._second.samples

    def _with_first(self, frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
        if self.first is not None and self._skip_before_pts is None:
            yield self.first
        if self._second is not None and not self.has_sought:
            yield self._second
        yield from frames

    def _decode(self) -> Iterator[AudioFrame]:
        skipped = False
        for packet in self._packets():
            if self._is_skipped(packet):
                skipped = True
                continue
            if skipped:
                self._stream.codec_context.flush_buffers()
                skipped = False
            try:
                yield from packet.decode()
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self._last_error = error

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        try:
            yield from self._container.demux(self._stream)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            self._last_error = error

    def _is_skipped(self, packet: Packet[AudioStream]) -> bool:
        if self._skip_before_pts is None or packet.pts is None or packet.duration is None:
            return False
        return packet.pts + packet.duration < self._skip_before_pts


def _open(content: Content) -> tuple[InputContainer, AudioStream]:
    try:
        container = av.open(
            content.open(),
            mode="r",
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""},
            metadata_errors="ignore",  # a tag in Latin-1 is no reason to lose the track
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        # An MP4 whose index is missing (a download that broke off) is audio, if broken; most else is none.
        kind = DecoderError if content.read(4, 8) == b"ftyp" else UnrecognisedError
        raise kind(f"FFmpeg: {one_line(error)}") from error
    stream = cast(AudioStream | None, container.streams.best("audio"))
    if stream is None:
        container.close()
        raise UnrecognisedError("the file holds no audio stream")
    if cast(object, stream.codec_context) is None:
        container.close()
        raise DecoderError("FFmpeg has no decoder for the file's codec")
    # One thread a decoder: workers are scaled by processes, and frame threads add delay.
    stream.codec_context.thread_count = 1
    return container, stream


def _last_pts(content: Content) -> int | None:
    """Return where the last packet ends, in ticks, reading packets without decoding them."""
    container, stream = _open(content)
    end: int | None = None
    with container:
        try:
            for packet in container.demux(stream):
                if packet.pts is not None:
                    end = max(end or 0, packet.pts + (packet.duration or 0))
        except MemoryError:
            raise
        except av.FFmpegError:
            return end
    return end


def _layout_of(frame: AudioFrame) -> tuple[int, str]:
    return frame.layout.nb_channels, frame.format.name


def _to_planes(frame: AudioFrame) -> npt.NDArray[np.float32]:
    """Return a frame's samples in [-1, 1], shape (channels, n)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) * np.float32(1 / 128)
    return samples.astype(np.float32) * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
