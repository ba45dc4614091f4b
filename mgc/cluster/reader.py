"""From planned items to features: files are fetched ahead, and each track is decoded once, in a supervised child."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mgc.audio.decode.source import RemoteBytes
from mgc.audio.features.filter_banks import FilterBanks
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.audio.track_features import TrackResult
from mgc.audio.views import Recipe, ViewRequest
from mgc.config import ClusterConfig, Config, DecodeConfig
from mgc.errors import TrackError
from mgc.logs import log_context
from mgc.storage.store import fetch_track
from mgc.tables.feature_shards import stored_results
from mgc.tables.parquet_batches import frame_of

_COLUMNS = ["track_id", "uri", "content_id", "size_bytes", "recipe", "partner_uri", "partner_content_id"]
_Bytes = bytes | RemoteBytes


class StoredFeatureReader:
    """Features of items from the shards that hold them, of the others from audio; one result an item, in order.

    Parameters
    ----------
    features_uri
        Of the shards, absolute.
    config, banks
        See `AudioFeatureReader`, which begins once there is audio to decode.
    """

    def __init__(self, features_uri: str, config: Config, banks: FilterBanks | None = None) -> None:
        self._features_uri = features_uri
        self._make_audio = partial(AudioFeatureReader, config, banks)
        self._audio: AudioFeatureReader | None = None
        self._making = threading.Lock()

    def read(self, rows: pa.Table) -> Iterator[TrackResult]:
        """Yield what became of each item (schema PLAN, clean views)."""
        is_stored = rows["features_part"].is_valid()
        stored = stored_results(self._features_uri, frame_of(rows.filter(is_stored)))
        others = rows.filter(pc.invert(is_stored))
        decoded = self._audio_reader().read(others) if others.num_rows else iter(())
        for track_id, there in zip(rows["track_id"].to_pylist(), is_stored.to_pylist(), strict=True):
            yield stored[track_id] if there else next(decoded)

    def _audio_reader(self) -> AudioFeatureReader:
        # Called from two threads: a second decoding child would stay for as long as the actor does.
        with self._making:
            self._audio = self._audio or self._make_audio()
            return self._audio


class AudioFeatureReader:
    """Decodes the views that items name and extracts their features, one result an item, in order.

    Called from two threads it fetches for both, and decodes one's items after the other's.
    """

    def __init__(self, config: Config, banks: FilterBanks | None = None) -> None:
        self._fetcher = Fetcher(config.cluster, config.decode)
        self._extractor = SupervisedExtractor(config.features, config.decode, banks)
        self._turn = threading.Lock()

    def read(self, rows: pa.Table) -> Iterator[TrackResult]:
        """Yield what became of each item (schema PLAN); items of one track follow one another."""
        requests = _by_track(rows)
        return self._in_turn(requests, self._fetcher.fetch([file for one in requests for file in one.files]))

    def _in_turn(self, requests: list[_TrackRequest], fetched: Iterator[_Fetched]) -> Iterator[TrackResult]:
        with self._turn:
            for one in requests:
                own, *partners = islice(fetched, len(one.files))
                with log_context(track_id=one.files[0].track_id, uri=one.files[0].uri):
                    results = self._read_track(one.views, own, partners)
                yield from results

    def _read_track(
        self, views: list[ViewRequest], own: _Fetched, partners: Sequence[_Fetched]
    ) -> Sequence[TrackResult]:
        if isinstance(own, TrackError):
            return [own] * len(views)
        errors = [_partner_error(view, partners) for view in views]
        readable = [view for view, error in zip(views, errors, strict=True) if error is None]
        contents = [b"" if isinstance(partner, TrackError) else partner for partner in partners]
        extracted = iter(self._extract(own, readable, contents))
        return [next(extracted) if error is None else error for error in errors]

    def _extract(self, data: _Bytes, views: list[ViewRequest], partners: Sequence[_Bytes]) -> Sequence[TrackResult]:
        try:
            return self._extractor.extract_views(data, views, partners) if views else []
        except TrackError as error:
            alone = [view for view in views if view.partner is None]
            if len(views) == 1 or len(alone) == len(views):
                return [error] * len(views)
        # A partner that breaks the decoder must not cost the track its other views: each overlay is decoded apart.
        extracted = iter(self._extract(data, alone, ()))
        return [
            next(extracted) if view.partner is None else self._extract(data, [view], _only(partners, view.partner))[0]
            for view in views
        ]


def _only(partners: Sequence[_Bytes], number: int) -> list[_Bytes]:
    return [partner if place == number else b"" for place, partner in enumerate(partners)]


def _partner_error(view: ViewRequest, partners: Sequence[_Fetched]) -> TrackError | None:
    partner = None if view.partner is None else partners[view.partner]
    if not isinstance(partner, TrackError):
        return None
    return TrackError(partner.track_code, partner.stage, f"the overlay's partner: {partner.message}")


@dataclass(frozen=True)
class FileRef:
    """Where a file is, its content and size when it was indexed (None: not known), and for which track it is read."""

    uri: str
    content_id: str
    track_id: str
    size_bytes: int | None = None


@dataclass
class _TrackRequest:
    """The items of one track, and the files they need, each once: the track's own, then the partners'."""

    files: list[FileRef]
    views: list[ViewRequest] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        partner = None
        if row["partner_uri"] is not None:
            file = FileRef(row["partner_uri"], row["partner_content_id"], row["track_id"])
            if file not in self.files[1:]:
                self.files.append(file)
            partner = self.files.index(file, 1) - 1
        self.views.append(ViewRequest(Recipe.from_text(row["recipe"]), partner))


def _by_track(rows: pa.Table) -> list[_TrackRequest]:
    requests: list[_TrackRequest] = []
    before = None
    for row in rows.select(_COLUMNS).to_pylist():
        if row["track_id"] != before:
            own = FileRef(row["uri"], row["content_id"], row["track_id"], row["size_bytes"])
            requests.append(_TrackRequest([own]))
            before = row["track_id"]
        requests[-1].add(row)
    return requests


# Fetching ahead: a chunk's files are read by a few threads while the ones before are worked on.

_Fetched = _Bytes | TrackError


class Fetcher:
    """Reads files ahead, in order: of each chunk at most twice as many as there are threads."""

    def __init__(self, config: ClusterConfig, limits: DecodeConfig) -> None:
        self._threads = ThreadPoolExecutor(config.fetch_threads, thread_name_prefix="fetch")
        self._ahead = 2 * config.fetch_threads
        self._limits = limits

    def fetch(self, files: Sequence[FileRef]) -> Iterator[_Fetched]:
        """Begin to read; return each file's bytes (of a long one, where they are) or its error, in order."""
        left = iter(files)
        waiting = deque(self._submit(file) for file in islice(left, self._ahead))
        return self._in_order(waiting, left)

    def _in_order(self, waiting: deque[Future[_Fetched]], left: Iterator[FileRef]) -> Iterator[_Fetched]:
        while waiting:
            fetched = waiting.popleft().result()
            waiting.extend(self._submit(file) for file in islice(left, 1))
            yield fetched

    def _submit(self, file: FileRef) -> Future[_Fetched]:
        # A thread of its own has no context of its caller: the run's name in the log.
        return self._threads.submit(copy_context().run, self._one, file)

    def _one(self, file: FileRef) -> _Fetched:
        try:
            with log_context(track_id=file.track_id, uri=file.uri):
                return fetch_track(file.uri, self._limits, file.content_id, file.size_bytes)
        except TrackError as error:
            return error
