"""Fetching ahead: a chunk's files read by a few threads while the ones before are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from mgc.audio.content import RemoteBytes
from mgc.config import ClusterConfig, DecodeConfig
from mgc.data.tracks import fetch_track
from mgc.errors import TrackError


@dataclass(frozen=True)
class Fetched:
    """A track's bytes, held or where they are, or why there are none."""

    data: bytes | RemoteBytes | None
    error: TrackError | None


class Fetcher:
    """Reads tracks ahead, in order, at most twice as many as there are threads."""

    def __init__(self, config: ClusterConfig, limits: DecodeConfig) -> None:
        self._threads = ThreadPoolExecutor(config.fetch_threads, thread_name_prefix="fetch")
        self._ahead = 2 * config.fetch_threads
        self._limits = limits

    def fetch(self, uris: list[str], content_ids: list[str]) -> Iterator[Fetched]:
        """Yield each track's bytes in the order asked."""
        waiting: deque[Future[Fetched]] = deque()
        for uri, content_id in zip(uris, content_ids, strict=True):
            waiting.append(self._threads.submit(self._one, uri, content_id))
            if len(waiting) >= self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _one(self, uri: str, content_id: str) -> Fetched:
        try:
            return Fetched(fetch_track(uri, self._limits, content_id), None)
        except TrackError as error:
            return Fetched(None, error)
