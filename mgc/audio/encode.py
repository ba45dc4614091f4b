"""From samples to a file's bytes: what the demo's synthesiser and the tests write."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import soundfile

from mgc.arrays import Float32Array

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
