"""What decodes: a mark that changes where a track that could not be decoded may be worth another try."""

from __future__ import annotations

import av
import soundfile
import soxr

from mgc.config import DecodeConfig
from mgc.config.section import fingerprint_of

DECODER_REVISION = 1
"""Raise it where mgc's own way of decoding learns to read what it could not."""


def decoder_mark(limits: DecodeConfig) -> str:
    """Return a mark of mgc's decoding, of the libraries that it uses, and of the bounds it keeps."""
    return fingerprint_of(
        {
            "revision": DECODER_REVISION,
            "libsndfile": soundfile.__libsndfile_version__,
            "ffmpeg": {name: list(version) for name, version in av.library_versions.items()},
            "soxr": soxr.__version__,
            "limits": limits.model_dump(mode="json"),
        }
    )
