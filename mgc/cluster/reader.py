"""From items to heard views: fetch ahead, decode and extract in a supervised child, each track once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa

from mgc.audio.decode.source import RemoteBytes
from mgc.audio.features.filter_banks import FilterBanks
from mgc.audio.sandbox.supervisor import ExtractedFeatures, SupervisedExtractor
from mgc.audio.views import Recipe, ViewRequest
from mgc.config import ClusterConfig, Config, DecodeConfig
from mgc.errors import TrackError, error_columns
from mgc.storage.store import fetch_track

# Fetching ahead: a chunk's files read by a few threads while the ones before are worked on.


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


_COLUMNS = ["track_id", "uri", "content_id", "recipe", "partner_uri", "partner_content_id"]
_Bytes = bytes | RemoteBytes


@dataclass(frozen=True)
class ItemFeatures:
    """One item's view of its track: its features, or why there are none."""

    track: ExtractedFeatures | None
    error: TrackError | None

    def error_columns(self) -> dict[str, str | None]:
        """Return the row's three error columns, null where the view went through."""
        return error_columns(self.error)


class FeatureReader(Protocol):
    """What turns items (schema PLAN) into features."""

    def read(self, rows: pa.Table) -> Iterator[ItemFeatures]:
        """Yield what became of each item, in order."""


@dataclass(frozen=True)
class _FileRef:
    """Where a file is, and which content it had when it was indexed."""

    uri: str
    content_id: str


@dataclass
class _TrackRequest:
    """The items of one track, and the files they need: the track's own and each partner's, once."""

    track: _FileRef
    views: list[ViewRequest] = field(default_factory=list)
    partners: list[_FileRef] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        partner = None
        if row["partner_uri"] is not None:
            place = _FileRef(row["partner_uri"], row["partner_content_id"])
            if place not in self.partners:
                self.partners.append(place)
            partner = self.partners.index(place)
        self.views.append(ViewRequest(Recipe.from_text(row["recipe"]), partner))


class AudioFeatureReader:
    """Hears the views that items name, one result an item, in order.

    Called from two threads it fetches for both, and hears one's items after the other's.
    """

    def __init__(self, config: Config, banks: FilterBanks | None = None) -> None:
        self._fetcher = Fetcher(config.cluster, config.decode)
        self._extractor = SupervisedExtractor(config.features, config.decode, banks)
        self._turn = threading.Lock()

    def read(self, rows: pa.Table) -> Iterator[ItemFeatures]:
        """Yield what became of each item (schema PLAN); items of one track follow one another."""
        requests = _by_track(rows)
        places = [place for one in requests for place in (one.track, *one.partners)]
        fetched = self._fetcher.fetch([place.uri for place in places], [place.content_id for place in places])
        return self._in_turn(requests, fetched)

    def _in_turn(self, requests: list[_TrackRequest], fetched: Iterator[Fetched]) -> Iterator[ItemFeatures]:
        with self._turn:
            for one in requests:
                own = next(fetched)
                partners = [next(fetched) for _ in one.partners]
                yield from self._read_track(one.views, own, partners)

    def _read_track(self, views: list[ViewRequest], own: Fetched, partners: list[Fetched]) -> list[ItemFeatures]:
        if own.data is None:
            return [ItemFeatures(None, own.error)] * len(views)
        lost = [partners[view.partner].error if view.partner is not None else None for view in views]
        able = [view for view, error in zip(views, lost, strict=True) if error is None]
        extracted = iter(self._extract(own.data, able, [partner.data or b"" for partner in partners]))
        return [next(extracted) if error is None else ItemFeatures(None, _of_partner(error)) for error in lost]

    def _extract(self, data: _Bytes, views: list[ViewRequest], partners: Sequence[_Bytes]) -> list[ItemFeatures]:
        try:
            return [_outcome(one) for one in self._extractor.extract_views(data, views, partners)] if views else []
        except TrackError as error:
            alone = [view for view in views if view.partner is None]
            if len(views) == 1 or len(alone) == len(views):
                return [ItemFeatures(None, error)] * len(views)
        # A partner that breaks the decoder must not cost the track its other views: each overlay is asked for apart.
        extracted = iter(self._extract(data, alone, ()))
        return [
            next(extracted) if view.partner is None else self._extract(data, [view], _only(partners, view.partner))[0]
            for view in views
        ]


def _only(partners: Sequence[_Bytes], number: int) -> list[_Bytes]:
    return [partner if place == number else b"" for place, partner in enumerate(partners)]


def _outcome(extracted: ExtractedFeatures | TrackError) -> ItemFeatures:
    return ItemFeatures(None, extracted) if isinstance(extracted, TrackError) else ItemFeatures(extracted, None)


def _of_partner(error: TrackError) -> TrackError:
    return TrackError(error.track_code, error.stage, f"the overlay's partner: {error.message}")


def _by_track(rows: pa.Table) -> list[_TrackRequest]:
    requests: list[_TrackRequest] = []
    before = None
    for row in rows.select(_COLUMNS).to_pylist():
        if row["track_id"] != before:
            requests.append(_TrackRequest(_FileRef(row["uri"], row["content_id"])))
            before = row["track_id"]
        requests[-1].add(row)
    return requests
