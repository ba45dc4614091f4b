"""Features of a few audio files, without torch: fetched and decoded while the ensemble is still loading."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mgc.audio.decode.source import RemoteBytes
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.audio.track_features import Outline, TrackFeatures, TrackResult
from mgc.config import DecodeConfig, FeatureConfig
from mgc.errors import Stage, TrackCode, TrackError
from mgc.logs import log_context
from mgc.storage.store import fetch_track

STANDARD_INPUT = "-"
"""The name that stands for the bytes of standard input."""


@dataclass(frozen=True)
class ReadOptions:
    """What is wanted of a file beside the few windows that its answer is made from.

    Parameters
    ----------
    every_seconds
        Windows that start every so many seconds, too.
    outline
        The outline of the whole waveform, too.
    """

    every_seconds: float | None = None
    outline: bool = False


@dataclass(frozen=True)
class FileFeatures:
    """What became of one file.

    Parameters
    ----------
    uri
        As it was given: a path, an `s3://` URI, or `-`.
    track
        The windows that its answer is made from, or why there are none.
    dense, outline
        What `ReadOptions` adds.
    """

    uri: str
    track: TrackResult
    dense: TrackFeatures | None = None
    outline: Outline | None = None


class FileReader:
    """Extracts files one after another in a thread, decoding in a supervised child; use it as a context manager.

    Parameters
    ----------
    features
        The bundle's: the same feature path as the catalogue's job, so the same answers to the last bit.
    decode
        Limits on untrusted audio.
    """

    def __init__(self, features: FeatureConfig, decode: DecodeConfig) -> None:
        self._extractor = SupervisedExtractor(features, decode)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._limits = decode

    def begin(self, uris: Sequence[str], options: ReadOptions | None = None) -> list[Future[FileFeatures]]:
        """Start reading files, and return at once."""
        return [self._thread.submit(self.read, uri, options or ReadOptions()) for uri in uris]

    def submit(self, uri: str, content: bytes | None = None) -> Future[FileFeatures]:
        """Start reading a file, or the content that was received under that name, and return at once."""
        return self._thread.submit(self.read, uri, ReadOptions(), content)

    def read(self, uri: str, options: ReadOptions, content: bytes | None = None) -> FileFeatures:
        """Return what became of a file; what is wrong with it is in the result, never raised."""
        with log_context(uri=uri):
            return self._read(uri, options, content)

    def _read(self, uri: str, options: ReadOptions, content: bytes | None) -> FileFeatures:
        try:
            data = self._fetch(uri) if content is None else content
            return FileFeatures(
                uri,
                self._extractor.extract(data),
                None if options.every_seconds is None else self._extractor.extract(data, options.every_seconds),
                self._extractor.outline(data) if options.outline else None,
            )
        except TrackError as error:
            return FileFeatures(uri, error)

    def close(self) -> None:
        """End the child; files that were not begun are not read."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._extractor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, uri: str) -> bytes | RemoteBytes:
        if uri == STANDARD_INPUT:
            return _read_standard_input(self._limits.max_file_bytes)
        return fetch_track(uri, self._limits)


def _read_standard_input(max_bytes: int) -> bytes:
    data = sys.stdin.buffer.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TrackError(TrackCode.TOO_LARGE, Stage.FETCH, f"standard input has more than {max_bytes} bytes")
    return data
