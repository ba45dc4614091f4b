"""The frames of a file's best audio stream, decoded by FFmpeg (PyAV), with jumps forward."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from mgc.audio.decode.content import Content
from mgc.audio.decode.source import DecoderError, UnrecognisedError, one_line

CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""FFmpeg also opens playlists, subtitles, images and raw data. A catalogue's bytes are hostile: a playlist
would make it open other files and URLs, and many a text file passes for some subtitle format."""

_GUESSED_LENGTH = frozenset({"aac", "ac3", "dts", "eac3", "loas", "mlp", "mp3", "mpeg", "mpegts", "truehd"})
"""Containers without a length field to trust; FFmpeg guesses from the bit rate."""


_SEEKABLE = frozenset({"asf", "matroska", "mov", "ogg", "tta", "wv"})
"""Containers in which FFmpeg's seek uses an index or bisects, and lands at or before the place asked for. In the
others, packets are read and left undecoded (some 2 µs each), which takes longer and cannot miss."""

_SEEK_FROM_SECONDS = 20.0
"""Shorter jumps are made by leaving packets out."""

_OPUS_GRID_SAMPLES = 120
"""Opus frames are multiples of 2.5 ms, at 48 kHz."""


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
        """Whether time stamps tell a frame's place to the sample."""
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

    def place_of(self, frame: AudioFrame) -> int:
        """Return the index of a frame's first sample, from its time stamp; only where `can_jump`."""
        place = round(((frame.pts or 0) - (self._first_pts or 0)) * self._tick_samples)
        if self._tick_samples <= 1 or self.first is None:
            return place
        # Milliseconds do not tell samples, but frames of equal length begin only every so many.
        offset = self.first.samples
        return max(0, offset + self._grid_samples * round((place - offset) / self._grid_samples))

    def claimed_frames(self, content: Content) -> int | None:
        """Return the stream's length in samples by its header, or by its packets where no header says."""
        if self.first is None:
            return 0
        duration = self._stream.duration
        if duration is None or self.container in _GUESSED_LENGTH:
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
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self._last_error = error
                return
            if packet is None:
                return
            yield packet

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
