"""Reading MPEG audio frame by frame: places are those of the frame table, the decoder is FFmpeg's."""

from __future__ import annotations

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from mgc.arrays import Float32Array
from mgc.audio.decode.content import Content
from mgc.audio.decode.mpeg import MpegFrames
from mgc.audio.decode.source import DecoderError, StreamInfo, mix_to_mono, translated

_CODECS = {1: "mp1float", 2: "mp2float", 3: "mp3float"}

_BATCH_FRAMES = 16
"""MPEG frames decoded before they are handed on."""

_PREROLL_FRAMES = 32
"""Decoded and dropped before a jump's target: layer III refers back to as many as a dozen frames."""

_PROBE_FRAMES = 64
"""If none of so many first frames can be decoded, the file is none of ours."""


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
            return np.zeros(0, dtype=np.float32)
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
        self._block: Float32Array = np.zeros(0, dtype=np.float32)
        self._position = number * self._frames.kind.frame_samples

    def _read(self, start: int, n_samples: int) -> Float32Array:
        wanted = start // self._frames.kind.frame_samples
        # From -1 on, so that the first frame is always decoded with the same history.
        if start < self._position or wanted > self._next + _PREROLL_FRAMES:
            self._start_at(max(0, wanted - _PREROLL_FRAMES))
        while start >= self._position + self._block.size:
            if self._next >= self._n_frames:
                return np.zeros(0, dtype=np.float32)
            self._advance()
        offset = start - self._position
        return self._block[offset : offset + n_samples]

    def _advance(self) -> None:
        self._position += self._block.size
        length = self._frames.kind.frame_samples
        numbers = range(self._next, min(self._next + _BATCH_FRAMES, self._n_frames))
        block = np.zeros(len(numbers) * length, dtype=np.float32)
        for place, number in enumerate(numbers):
            frame = self._decode(self._codec, number)
            if frame is not None:
                mono = mix_to_mono(np.asarray(frame.to_ndarray(), dtype=np.float32))[:length]
                block[place * length : place * length + mono.size] = mono
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
