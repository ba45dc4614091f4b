"""MPEG audio (MP3, MP2, MP1): the frames of a file, found by their headers, decoded one by one by FFmpeg.

A table of frames gives the length to the sample and every frame's place, whatever a tag claims. It alone makes
windows of a headerless variable-rate MP3 exact without decoding what is between. A header a frame is read, some
0.2 µs each: a ten-hour file takes a third of a second.

Sources: ISO/IEC 11172-3, 2.4.1.3 and 13818-3 (headers, bit rates); G. Bouvigne's "MP3 Info Tag" (Xing, Info and
LAME's fields).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from mgc.arrays import Float32Array
from mgc.audio.decode.joined import MOST_STREAMS, behind_id3v2
from mgc.audio.decode.source import Content, DecoderError, StreamInfo, translated

_CODECS = {1: "mp1float", 2: "mp2float", 3: "mp3float"}

_BATCH_FRAMES = 16
"""MPEG frames decoded before they are handed on."""

_PREROLL_FRAMES = 32
"""Decoded and dropped before a jump's target: layer III refers back to as many as a dozen frames."""

_PROBE_FRAMES = 64
"""If none of so many first frames can be decoded, the file is none of ours."""

_HEADER_BYTES = 4
_TAG_SEARCH_BYTES = 192
_HAS_FRAMES_AND_BYTES = 0b11
_XING_FIELD_BYTES = (4, 4, 100, 4)
"""Of what the four flags of a Xing tag announce: frames, bytes, table of contents, quality."""

_LAME_DELAY_OFFSET = 21
_DECODER_DELAY_SAMPLES = 529
"""What every layer III decoder adds before the first sample: half a polyphase window and one."""

_SAMPLE_RATES = (44_100, 48_000, 32_000)
_KBPS_MPEG1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBPS_MPEG2 = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

_SCAN_BYTES = 1 << 20
_START_SEARCH_BYTES = 1 << 16
"""How far behind tags the first frame is looked for; encoders and cutters leave some padding there."""

_SURE_FRAMES = 3
"""Headers in a row that make a beginning: two bytes of noise in a thousand look like one."""

_JOINED_FRAMES = 8
"""Headers in a row, of another layer or sample rate than those before, that make another stream."""


@dataclass(frozen=True)
class MpegKind:
    """What all frames of a stream share.

    Parameters
    ----------
    layer
        1, 2 or 3.
    sample_rate
        Hz.
    frame_samples
        Samples a channel in a frame.
    """

    layer: int
    sample_rate: int
    frame_samples: int


@dataclass(frozen=True)
class MpegFrames:
    """The table of a file's frames.

    Parameters
    ----------
    kind
        What they share.
    offsets, lengths
        Bytes from the start of the file, and of each frame.
    skip_samples
        To be left out at the beginning: the encoder's and the decoder's delay, where a LAME tag has them.
    n_samples
        Samples a channel after that, without the padding at the end.
    """

    kind: MpegKind
    offsets: array[int]
    lengths: array[int]
    skip_samples: int
    n_samples: int


def looks_like_mpeg(head: bytes) -> bool:
    """Return whether bytes start with an ID3v2 tag or an MPEG audio frame's header."""
    return head[:3] == b"ID3" or kind_of(head[:_HEADER_BYTES]) is not None


def kind_of(header: bytes) -> MpegKind | None:
    """Return what a frame's header says, None for bytes that are none."""
    if len(header) < _HEADER_BYTES or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer, rate = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3), header[2] >> 2 & 3
    if version == 1 or layer == 4 or rate == 3 or header[2] >> 4 in (0, 15):
        return None
    sample_rate = _SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    frame_samples = {1: 384, 2: 1_152, 3: 1_152 if version == 3 else 576}[layer]
    return MpegKind(layer, sample_rate, frame_samples)


def scan_streams(content: Content) -> list[MpegFrames]:
    """Return the tables of an MPEG audio file's frames; none where the file does not begin with such frames.

    Where layer or sample rate change another stream begins. What lies between frames (tags, damage) is stepped over.
    A frame that the file's end cuts is none.
    """
    streams: list[MpegFrames] = []
    start = _first_frame(content)
    while start is not None and len(streams) < MOST_STREAMS:
        header = content.read(start, start + _HEADER_BYTES)
        kind = kind_of(header)
        if kind is None:
            break
        offsets, lengths, start = _walk(content, start, header)
        if offsets:
            streams.append(_table(content, kind, offsets, lengths))
    return streams


def _table(content: Content, kind: MpegKind, offsets: array[int], lengths: array[int]) -> MpegFrames:
    tag = _read_tag(content, offsets[0], lengths[0])
    if tag is not None:
        del offsets[0], lengths[0]
    delay, padding = tag or (0, 0)
    # Only where an encoder says how much it added is anything left out; and then its decoder's part as well.
    skip = delay + _DECODER_DELAY_SAMPLES if tag and (delay or padding) else 0
    end = max(0, padding - _DECODER_DELAY_SAMPLES)
    n_samples = max(0, len(offsets) * kind.frame_samples - skip - end)
    return MpegFrames(kind, offsets, lengths, skip, n_samples)


def _first_frame(content: Content) -> int | None:
    start = behind_id3v2(content)
    head = content.read(start, start + _START_SEARCH_BYTES)
    at = head.find(b"\xff")
    while at >= 0:
        if _is_row(content, start + at):
            return start + at
        at = head.find(b"\xff", at + 1)
    return None


def _is_row(content: Content, start: int, before: MpegKind | None = None) -> bool:
    """Return whether like frames follow each other from `start` on.

    As many as the file can hold do, but of another kind than those before it takes more, and all of them: UTF-16 text
    in a tag begins as a frame of layer I.
    """
    first = content.read(start, start + _HEADER_BYTES)
    kind = kind_of(first)
    if kind is None:
        return False
    steps = _frame_lengths(first)
    is_like = before in (None, kind)
    for _ in range(_SURE_FRAMES if is_like else _JOINED_FRAMES):
        header = content.read(start, start + _HEADER_BYTES)
        if not header:
            return is_like
        if kind_of(header) != kind:
            return False
        start += steps[header[2]]
    return True


def _walk(content: Content, start: int, header: bytes) -> tuple[array[int], array[int], int | None]:
    """Return the offsets and lengths of the frames like the one at `start`, and where others begin, if there are."""
    offsets, lengths = array("q"), array("H")
    mark, steps, kind, size = header[1] & 0xFE, _frame_lengths(header), kind_of(header), content.size_bytes
    found: int | None = None
    base, chunk = start, content.read(start, start + _SCAN_BYTES)
    at = 0
    while True:
        last = len(chunk) - _HEADER_BYTES
        # The loop that a ten-hour file goes through a million times.
        while at <= last and chunk[at] == 0xFF and chunk[at + 1] & 0xFE == mark and (step := steps[chunk[at + 2]]):
            offsets.append(base + at)
            lengths.append(step)
            at += step
        if at > last:
            base, found = base + at, None
            if base + _HEADER_BYTES > size:
                break
        else:
            found = _resume(content, base + at, kind)
            if found is None or kind_of(content.read(found, found + _HEADER_BYTES)) != kind:
                break
            base = found
        chunk, at = content.read(base, base + _SCAN_BYTES), 0
    if offsets and offsets[-1] + lengths[-1] > size:
        del offsets[-1], lengths[-1]
    return offsets, lengths, found


def _resume(content: Content, start: int, kind: MpegKind | None) -> int | None:
    """Return where frames of the kind go on behind damage or a tag, or a row of another kind begins."""
    while start < content.size_bytes:
        chunk = content.read(start, start + _SCAN_BYTES)
        at = chunk.find(b"\xff")
        while at >= 0:
            if _is_row(content, start + at, kind):
                return start + at
            at = chunk.find(b"\xff", at + 1)
        start += len(chunk)
    return None


def _frame_lengths(header: bytes) -> list[int]:
    """Return a frame's length in bytes by the third byte of its header; 0 for another sample rate."""
    return _lengths_of(header[1] & 0xFE, header[2] & 0x0C)


@lru_cache(maxsize=64)
def _lengths_of(second: int, rate_bits: int) -> list[int]:
    kind = kind_of(bytes([0xFF, second, 0x10 | rate_bits, 0]))
    if kind is None:
        return [0] * 256
    rates = (0, *(_KBPS_MPEG1 if second & 0x08 else _KBPS_MPEG2)[kind.layer], 0)
    lengths = []
    for byte in range(256):
        kbps, padding = rates[byte >> 4], byte >> 1 & 1
        if kind.layer == 1:
            length = (12_000 * kbps // kind.sample_rate + padding) * 4
        else:
            length = kind.frame_samples // 8 * 1_000 * kbps // kind.sample_rate + padding
        lengths.append(length if byte & 0x0C == rate_bits and kbps else 0)
    return lengths


def _read_tag(content: Content, offset: int, length: int) -> tuple[int, int] | None:
    """Return LAME's delay and padding from a first frame that is a Xing/Info tag, (0, 0) if it has none.

    None where the first frame is audio.
    """
    frame = content.read(offset, offset + min(length, _TAG_SEARCH_BYTES + 200))
    if b"VBRI" in frame[:64]:
        return 0, 0
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    lame = at + 8 + sum(size for bit, size in enumerate(_XING_FIELD_BYTES) if flags >> bit & 1)
    three = frame[lame + _LAME_DELAY_OFFSET : lame + _LAME_DELAY_OFFSET + 3]
    if len(three) < 3 or not frame[lame : lame + 4].isalpha():
        return 0, 0
    both = int.from_bytes(three, "big")
    return both >> 12, both & 0xFFF


def suits_libsndfile(content: Content, frames: MpegFrames) -> bool:
    """Return whether libsndfile 1.2.2 (with its mpg123) reads an MP3 rightly.

    It reads only up to the length it believes: that of the Xing/Info tag, or, without one, an estimate from the
    first frames' bit rate. So the tag must be there and hold the number of frames that there are and, within
    1 %, the size in bytes. And of mono MPEG-2 (22.05 and 24 kHz) mpg123 drops some sound frames.
    """
    start = behind_id3v2(content)
    frame = content.read(start, start + _TAG_SEARCH_BYTES)
    kind = kind_of(frame[:_HEADER_BYTES])
    if kind is None or kind.layer != 3 or kind.frame_samples != 1_152:
        return False
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0:
        return False
    flags, n_frames, n_bytes = (int.from_bytes(frame[at + i : at + i + 4], "big") for i in (4, 8, 12))
    if flags & _HAS_FRAMES_AND_BYTES != _HAS_FRAMES_AND_BYTES:
        return False
    counted = len(frames.offsets)
    return abs(content.size_bytes - start - n_bytes) <= 0.01 * n_bytes and abs(n_frames - counted) <= 1


class MpegSource:
    """MPEG audio frames decoded one by one.

    A frame that cannot be decoded is silence of its length, so that damage does not move what follows.

    Parameters
    ----------
    content
        The file's bytes.
    frames
        Its table of frames.

    Raises
    ------
    DecoderError
        No frame at the beginning can be decoded.
    """

    def __init__(self, content: Content, frames: MpegFrames) -> None:
        self._content = content
        self._frames = frames
        self._n_frames = len(frames.offsets)
        with translated("FFmpeg"):
            channels = self._probe()
        self.info = StreamInfo(frames.kind.sample_rate, channels, frames.n_samples, "mp3")
        self._start_at(0)

    def read(self, start_frame: int, n_frames: int) -> Float32Array:
        """See `Source.read`."""
        n_frames = min(n_frames, self._frames.n_samples - start_frame)
        if n_frames <= 0:
            return np.zeros((1, 0), dtype=np.float32)
        with translated("FFmpeg"):
            return self._read(start_frame + self._frames.skip_samples, n_frames)

    def close(self) -> None:
        """See `Source.close`; there is nothing to free."""

    def _probe(self) -> int:
        """Return the channels of the first frame that can be decoded."""
        codec = self._new_codec()
        for number in range(min(self._n_frames, _PROBE_FRAMES)):
            frame = self._decode(codec, number)
            if frame is not None:
                return int(frame.layout.nb_channels)
        raise DecoderError("FFmpeg: none of the first MPEG frames can be decoded")

    def _new_codec(self) -> AudioCodecContext:
        codec = av.CodecContext.create(_CODECS[self._frames.kind.layer], "r")
        codec.thread_count = 1
        return codec  # type: ignore[return-value]

    def _start_at(self, number: int) -> None:
        self._codec = self._new_codec()
        self._next = number
        self._block: Float32Array = np.zeros((1, 0), dtype=np.float32)
        self._position = number * self._frames.kind.frame_samples

    def _read(self, start: int, n_samples: int) -> Float32Array:
        wanted = start // self._frames.kind.frame_samples
        # From -1 on, so that the first frame is always decoded with the same history.
        if start < self._position or wanted > self._next + _PREROLL_FRAMES:
            self._start_at(max(0, wanted - _PREROLL_FRAMES))
        while start >= self._position + self._block.shape[1]:
            if self._next >= self._n_frames:
                return np.zeros((1, 0), dtype=np.float32)
            self._advance()
        offset = start - self._position
        return self._block[:, offset : offset + n_samples]

    def _advance(self) -> None:
        self._position += self._block.shape[1]
        length = self._frames.kind.frame_samples
        numbers = range(self._next, min(self._next + _BATCH_FRAMES, self._n_frames))
        frames = [self._decode(self._codec, number) for number in numbers]
        channels = max((frame.layout.nb_channels for frame in frames if frame), default=1)
        block = np.zeros((channels, len(numbers) * length), dtype=np.float32)
        for place, frame in enumerate(frames):
            if frame is not None:
                planes = np.asarray(frame.to_ndarray(), dtype=np.float32)[:, :length]
                block[:, place * length : place * length + planes.shape[1]] = planes  # one channel fills both
        self._block, self._next = block, numbers.stop

    def _decode(self, codec: AudioCodecContext, number: int) -> AudioFrame | None:
        offset = self._frames.offsets[number]
        packet = av.Packet(self._content.read(offset, offset + self._frames.lengths[number]))
        try:
            frames = codec.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            return None
        good = [frame for frame in frames if frame.sample_rate == self._frames.kind.sample_rate]
        return good[0] if good else None
