"""Fetching ahead: a chunk's files read by a few threads while the ones before are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from mgc.audio.decode.source import RemoteBytes
from mgc.config import ClusterConfig, DecodeConfig
from mgc.errors import TrackError
from mgc.storage.store import fetch_track


@dataclass(frozen=True)
class Fetched:
    """A track's bytes, held or where they are, or why there are none."""

    data: bytes | RemoteBytes | None
    error: TrackError | None


class Fetcher:
    """Reads tracks ahead, in order: of each chunk at most twice as many as there are threads."""

    def __init__(self, config: ClusterConfig, limits: DecodeConfig) -> None:
        self._threads = ThreadPoolExecutor(config.fetch_threads, thread_name_prefix="fetch")
        self._ahead = 2 * config.fetch_threads
        self._limits = limits

    def fetch(self, uris: list[str], content_ids: list[str]) -> Iterator[Fetched]:
        """Begin to read; return each track's bytes in the order asked."""
        wanted = zip(uris, content_ids, strict=True)
        waiting = deque(self._threads.submit(self._one, *one) for one in islice(wanted, self._ahead))
        return self._in_order(waiting, wanted)

    def _in_order(self, waiting: deque[Future[Fetched]], wanted: Iterator[tuple[str, str]]) -> Iterator[Fetched]:
        while waiting:
            fetched = waiting.popleft().result()
            waiting.extend(self._threads.submit(self._one, *one) for one in islice(wanted, 1))
            yield fetched

    def _one(self, uri: str, content_id: str) -> Fetched:
        try:
            return Fetched(fetch_track(uri, self._limits, content_id), None)
        except TrackError as error:
            return Fetched(None, error)
