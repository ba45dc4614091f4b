"""From catalogue rows to heard tracks: fetch ahead, decode and extract in a supervised child."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from mgc.audio.supervise import HeardTrack, SupervisedExtractor
from mgc.cluster.fetch import Fetched, Fetcher
from mgc.config import Config
from mgc.errors import TrackError, error_columns


@dataclass(frozen=True)
class Heard:
    """One catalogue row's track: its features, or why there are none."""

    track: HeardTrack | None
    error: TrackError | None

    def error_columns(self) -> dict[str, str | None]:
        """Return the row's three error columns, null where the track went through."""
        return error_columns(self.error)


class Listener:
    """Hears the tracks of catalogue rows, one result a row, in order.

    Called from two threads it fetches for both, and hears one's rows after the other's.
    """

    def __init__(self, config: Config) -> None:
        self._fetcher = Fetcher(config.cluster, config.decode)
        self._extractor = SupervisedExtractor(config.features, config.decode)
        self._turn = threading.Lock()

    def hear(self, rows: pa.Table) -> Iterator[Heard]:
        """Yield what became of each row's track."""
        fetched = self._fetcher.fetch(rows["uri"].to_pylist(), rows["content_id"].to_pylist())
        return self._in_turn(fetched)

    def _in_turn(self, fetched: Iterator[Fetched]) -> Iterator[Heard]:
        with self._turn:
            for item in fetched:
                yield self._hear_one(item)

    def _hear_one(self, fetched: Fetched) -> Heard:
        if fetched.data is None:
            return Heard(None, fetched.error)
        try:
            return Heard(self._extractor.extract(fetched.data), None)
        except TrackError as error:
            return Heard(None, error)
