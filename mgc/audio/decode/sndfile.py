"""Reading through libsndfile: WAV, AIFF, AU, CAF, W64, RF64, FLAC, MP3, Ogg Vorbis, Ogg Opus and more."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import soundfile

from mgc.arrays import Float32Array
from mgc.audio.decode.source import Content, DecoderError, StreamInfo, UnrecognisedError, translated

_NO_AUDIO = frozenset({1, 7})
"""libsndfile's SF_ERR_UNRECOGNISED_FORMAT, and its SFE_BAD_FILE, which for bytes in memory can only mean that
what began like an MPEG frame was none."""

_NOT_KNOWN = 1 << 62
"""Counts from here on stand for "not known" (SF_COUNT_MAX: a FLAC that was streamed, for one)."""


class SndfileSource:
    """One file open in libsndfile, chosen by content, never by name.

    Parameters
    ----------
    content
        The file's bytes.

    Raises
    ------
    UnrecognisedError
        The bytes are no container that libsndfile knows.
    DecoderError
        They are, but the header is broken or the codec unknown.
    """

    def __init__(self, content: Content) -> None:
        with translated("libsndfile"):
            self._file = _open(content)
        self._position = 0
        self.info = StreamInfo(
            sample_rate=self._file.samplerate,
            channels=self._file.channels,
            n_frames=self._file.frames if 0 <= self._file.frames < _NOT_KNOWN else None,
            container=self._file.format.lower(),
        )

    def read(self, start_frame: int, n_frames: int) -> Float32Array:
        """See `Source.read`."""
        if self.info.n_frames is not None and start_frame >= self.info.n_frames:
            return np.zeros((1, 0), dtype=np.float32)
        with translated("libsndfile"):
            if start_frame != self._position:
                self._position = -1  # not known until the read has gone well
                self._file.seek(start_frame)
            block = self._file.read(n_frames, dtype="float32", always_2d=True)
        self._position = start_frame + len(block)
        return np.asarray(block.T)

    def close(self) -> None:
        """See `Source.close`."""
        self._file.close()


def _open(content: Content) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(content.open())
    except soundfile.LibsndfileError as error:
        kind = UnrecognisedError if error.code in _NO_AUDIO else DecoderError
        # Not str(error), which names the buffer's address.
        raise kind(f"libsndfile: {error.error_string}") from error


Container = Literal["wav", "flac", "ogg", "opus", "mp3", "au", "aiff", "caf", "w64"]

_FORMATS: dict[Container, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "au": ("AU", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
}

_BLOCK_FRAMES = 1 << 14
"""libsndfile's Vorbis writer puts a whole write on the stack: long ones crash the process."""


def encode(samples: Float32Array, sample_rate: int, container: Container, *, subtype: str | None = None) -> bytes:
    """Return samples as an audio file.

    Ogg streams carry a random serial number, so that the bytes of two runs differ there; the samples do not.

    Parameters
    ----------
    samples
        Full scale is 1, shape (n,) or (n, channels); clipped by integer formats.
    sample_rate
        Hz.
    container
        The kind of file.
    subtype
        libsndfile's name of the sample format (`PCM_24`, `FLOAT`, …); None for 16 bits, or the only one.

    Raises
    ------
    ValueError
        The container takes no such sample rate, channels or subtype.
    """
    file_format, default_subtype = _FORMATS[container]
    columns = samples[:, np.newaxis] if samples.ndim == 1 else samples
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(
            buffer, "w", sample_rate, columns.shape[1], subtype or default_subtype, format=file_format
        ) as file:
            for start in range(0, len(columns), _BLOCK_FRAMES):
                file.write(columns[start : start + _BLOCK_FRAMES])
    except (soundfile.SoundFileError, ValueError) as error:
        layout = f"{columns.shape[1]} channel(s) of {subtype or default_subtype} at {sample_rate} Hz"
        raise ValueError(f"cannot write {layout} as {container}: {error}") from error
    return buffer.getvalue()
