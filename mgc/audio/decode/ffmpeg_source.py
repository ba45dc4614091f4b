"""Reading through FFmpeg (PyAV): M4A/AAC, ALAC, WMA, APE, …, and damaged files that libsndfile gives up on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame

from mgc.arrays import Float32Array
from mgc.audio.decode.content import Content
from mgc.audio.decode.ffmpeg import FfmpegStream
from mgc.audio.decode.source import StreamInfo, mix_to_mono, translated

_BATCH_FRAMES = 16_384
"""Samples decoded before they are handed on."""

_PREROLL_SECONDS = 0.5
"""Decoded and dropped before a jump's target: bit reservoirs (MP3: ten frames) and overlaps fill up."""


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
        while start_frame >= self._position + self._block.size:
            if not self._advance():
                return np.zeros(0, dtype=np.float32)
        if start_frame < self._position and self._stream.has_sought:
            self._may_jump = False  # it landed too late: the index is wrong
            return self._read(start_frame, n_frames)
        offset = max(0, start_frame - self._position)
        return self._block[offset : offset + n_frames]

    def _rewind(self) -> None:
        self._stream = FfmpegStream(self._content)
        self._block: Float32Array = np.zeros(0, dtype=np.float32)
        self._position = 0
        self._target: int | None = None  # of a jump that has not landed
        self._expected = -1  # the end of the frame before, while jumping
        self._held_over: AudioFrame | None = None

    def _jump_towards(self, start_frame: int) -> None:
        preroll = round(_PREROLL_SECONDS * self._stream.sample_rate)
        decoded = self._position + self._block.size
        if self._may_jump and start_frame > decoded + 2 * preroll:
            self._stream.skip_before(start_frame - preroll, decoded)
            self._target, self._expected = start_frame, -1

    def _advance(self) -> bool:
        """Decode the next block; False at the end of the audio."""
        self._position += self._block.size
        self._block = self._block[:0]
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
            self._block = mix_to_mono(_to_planes(joined))
        return joined is not None

    def _next_frame(self) -> AudioFrame | None:
        """Return the next frame at the stream's sample rate; one at another is damage, or not for us."""
        while frame := self._held_over or next(self._stream.frames, None):
            self._held_over = None
            if frame.sample_rate == self._stream.sample_rate and self._has_landed(frame):
                return frame
        return None

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
        return landed


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
