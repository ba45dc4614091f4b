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

from mgc.audio.content import Content
from mgc.audio.source import DecoderError, UnrecognisedError, one_line

CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""FFmpeg also opens playlists, subtitles, images and raw data. A catalogue's bytes are hostile: a playlist
would make it open other files and URLs, and many a text file passes for some subtitle format."""

_GUESSED_LENGTH = frozenset({"aac", "ac3", "dts", "eac3", "loas", "mlp", "mp3", "mpeg", "mpegts", "truehd"})
"""Containers without a length field to trust; FFmpeg guesses from the bit rate."""


class FfmpegStream:
    """One pass over the audio frames of a file.

    FFmpeg's own seek lands where a container's index says, which for some is not where it claims; reading
    packets without decoding them takes some 2 µs each and cannot miss.

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
        self._skip_before_pts: int | None = None
        self._last_error: Exception | None = None
        frames = self._decode()
        self.first = next(frames, None)
        if self.first is None and self._last_error is not None:
            self.close()
            raise DecoderError(f"FFmpeg: {one_line(self._last_error)}") from self._last_error
        self._first_pts = self.first.pts if self.first else None
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
        tick = self._stream.time_base
        return bool(tick and self._first_pts is not None and tick * self.sample_rate <= 1)

    def skip_before(self, frame: int) -> None:
        """Leave packets undecoded that end before sample `frame`; only where `can_jump`."""
        self._skip_before_pts = (self._first_pts or 0) + int(frame / (self._tick * self.sample_rate))

    def place_of(self, frame: AudioFrame) -> int:
        """Return the index of a frame's first sample, from its time stamp; only where `can_jump`."""
        return round(((frame.pts or 0) - (self._first_pts or 0)) * self._tick * self.sample_rate)

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

    def _with_first(self, frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
        if self.first is not None and self._skip_before_pts is None:
            yield self.first
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
