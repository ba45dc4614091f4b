"""The outline of a whole track, for a picture of its waveform: extremes of stretches, in bounded memory.

The track is decoded a block at a time and nothing of it is kept but the extremes. How long it is shows at its end
(headers lie), so stretches begin short and are joined two by two whenever there are too many.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.decode.audio_reader import BLOCK_FRAMES, AudioReader, open_audio
from mgc.audio.decode.content import Content
from mgc.audio.track_features import Outline
from mgc.config import DecodeConfig
from mgc.errors import Stage, TrackCode, TrackError

MOST_STRETCHES = 2_048
"""A track is outlined in at most so many, and, unless it is shorter than a second or so, half as many at least."""

_FIRST_STRETCH_FRAMES = 64


def outline(data: bytes | Content, decode: DecodeConfig) -> Outline:
    """Return the outline of a track, all channels mixed to one.

    Parameters
    ----------
    data
        The file's bytes, any container that libsndfile or FFmpeg reads.
    decode
        Bounds on channels and sample rate.

    Raises
    ------
    TrackError
        EMPTY_FILE, NOT_AUDIO, DECODE_FAILED, NO_SAMPLES, NOT_FINITE or UNSUPPORTED_LAYOUT.
    """
    with open_audio(data, decode) as reader:
        stretches = _stretches(reader)
        if not stretches.n_frames:
            raise TrackError(TrackCode.NO_SAMPLES, Stage.DECODE, "the file holds 0 samples")
        return stretches.outline(reader.info.sample_rate)


def _stretches(reader: AudioReader) -> _Stretches:
    stretches = _Stretches()
    while True:
        block = reader.read_mono(stretches.n_frames, BLOCK_FRAMES)
        stretches.add(block)
        if block.size < BLOCK_FRAMES:
            return stretches


class _Stretches:
    """Extremes and energy of the track as far as it was read."""

    def __init__(self) -> None:
        self.n_frames = 0
        self._length = _FIRST_STRETCH_FRAMES
        self._measures = np.zeros((3, 0), dtype=np.float64)
        self._open: Float32Array = np.zeros(0, dtype=np.float32)

    def add(self, block: Float32Array) -> None:
        """Take in what follows."""
        if not np.isfinite(block).all():
            raise TrackError(TrackCode.NOT_FINITE, Stage.DECODE, "samples are NaN or infinite")
        self.n_frames += block.size
        samples = np.concatenate([self._open, block])
        whole = samples.size // self._length * self._length
        self._open = samples[whole:]
        fresh = _measure(samples[:whole].reshape(-1, self._length))
        self._measures = np.concatenate([self._measures, fresh], axis=1)
        # Blocks, lengths and MOST_STRETCHES are powers of two, so it is reached exactly, and pairs come out even.
        while self._measures.shape[1] >= MOST_STRETCHES:
            self._join()

    def outline(self, sample_rate: int) -> Outline:
        """Return what was gathered; the last stretch may be shorter than the others."""
        last = _measure(self._open[np.newaxis]) if self._open.size else np.zeros((3, 0))
        low, high, energy = np.concatenate([self._measures, last], axis=1)
        counts = np.full(low.size, self._length)
        counts[-1] = self.n_frames - self._length * (low.size - 1)
        return Outline(
            low.astype(np.float32),
            high.astype(np.float32),
            np.sqrt(energy / counts).astype(np.float32),
            self.n_frames / sample_rate,
            self._length / sample_rate,
        )

    def _join(self) -> None:
        low, high, energy = self._measures.reshape(3, -1, 2).transpose(0, 2, 1)
        self._measures = np.stack([low.min(axis=0), high.max(axis=0), energy.sum(axis=0)])
        self._length *= 2


def _measure(stretches: Float32Array) -> npt.NDArray[np.float64]:
    """Return least, greatest and energy of each row of samples, shape (3, n_stretches)."""
    energy = np.square(stretches, dtype=np.float64).sum(axis=1)
    return np.stack([stretches.min(axis=1, initial=np.inf), stretches.max(axis=1, initial=-np.inf), energy])
