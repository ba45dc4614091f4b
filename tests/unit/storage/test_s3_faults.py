"""A store that answers wrongly, slowly or not at all, through a proxy: right bytes, or an error with its code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import faulty_s3 as faults
import numpy as np
import pytest
from failing_s3 import FailingS3, failing_s3
from faulty_s3 import Fault, FaultyS3, Request, faulty_s3

from mgc.cluster.reader import Fetcher, FileRef
from mgc.config import ClusterConfig, DecodeConfig
from mgc.errors import StorageError, TrackCode, TrackError
from mgc.storage.objects import AccessDeniedError, ObjectInfo
from mgc.storage.store import Store, content_hash, fetch_track

SONG = np.random.default_rng(0).bytes(300_000)
STORE = Store("s3://music/catalogue")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingS3]:
    with failing_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.objects["music/catalogue/song.wav"] = SONG
        yield server


@pytest.fixture
def proxy(server: FailingS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr("mgc.storage.s3_files.STALL_SECONDS", 0.3)
    with faulty_s3(server.environment["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        yield proxy


def first(count: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """Inject a fault into so many requests, and none into the others."""
    left = [fault] * count
    return lambda request: left.pop() if left else None


def fetched(content_id: str | None = None, size_bytes: int | None = None) -> object:
    return fetch_track(STORE.uri("song.wav"), DecodeConfig(), content_id, size_bytes)


BROKEN = {
    "reset": faults.RESET,
    "short": faults.SHORT,
    "flipped": faults.FLIPPED,
    "trickle": faults.TRICKLE,
    "empty": Fault(change=lambda body: b""),
    "longer": Fault(change=lambda body: body + b"more"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_body_is_requested_again_and_never_accepted(proxy: FaultyS3, kind: str) -> None:
    proxy.inject = first(2, BROKEN[kind])
    assert fetched() == SONG
    assert (proxy.requests, proxy.refused) == (3, 2)
    proxy.inject = first(3, BROKEN[kind])
    with pytest.raises(TrackError) as caught:
        fetched()
    assert caught.value.track_code is TrackCode.FETCH_FAILED
    assert (proxy.requests, proxy.refused) == (6, 5)


@pytest.mark.parametrize("kind", BROKEN)
def test_tables_and_bundles_are_read_as_strictly_as_music(proxy: FaultyS3, kind: str) -> None:
    proxy.inject = first(2, BROKEN[kind])
    assert STORE.read_bytes("song.wav") == SONG
    proxy.inject = first(3, BROKEN[kind])
    with pytest.raises(StorageError) as caught:
        STORE.read_bytes("song.wav")
    assert caught.value.code == "MGC201"


@pytest.mark.parametrize("etag", ["0123456789abcdef0123456789abcdef-3", "opaque", ""])
def test_where_the_etag_is_no_md5_the_size_of_the_catalogue_tells(
    proxy: FaultyS3, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failing_s3._etag", lambda body: etag)
    assert fetched(etag or None, len(SONG)) == SONG
    proxy.inject = first(2, faults.SHORT)
    assert fetched(etag or None, len(SONG)) == SONG
    proxy.inject = first(3, faults.SHORT)
    with pytest.raises(TrackError, match="came with 150,000 bytes, 300,000 were indexed") as caught:
        fetched(etag or None, len(SONG))
    assert caught.value.track_code is TrackCode.FETCH_FAILED
    proxy.inject = lambda request: faults.FLIPPED
    assert fetched(etag or None) != SONG, "nothing says that it is wrong"


def test_an_actor_hands_on_the_size_that_was_indexed(
    proxy: FaultyS3, server: FailingS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failing_s3._etag", lambda body: "of many parts-3")
    file = FileRef(STORE.uri("song.wav"), "of many parts-3", "track", len(SONG))
    proxy.inject = lambda request: faults.SHORT
    (error,) = Fetcher(ClusterConfig(), DecodeConfig()).fetch([file])
    assert isinstance(error, TrackError)
    assert error.track_code is TrackCode.FETCH_FAILED


def test_a_content_hash_tells_flipped_bytes_whatever_the_etag_is(
    proxy: FaultyS3, server: FailingS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = content_hash(STORE, "song.wav", len(SONG))
    monkeypatch.setattr("failing_s3._etag", lambda body: "0123456789abcdef0123456789abcdef")  # looks like MD5
    assert fetched(hashed, len(SONG)) == SONG
    proxy.inject = first(1, faults.FLIPPED)
    assert fetched(hashed, len(SONG)) == SONG
    proxy.inject = lambda request: faults.FLIPPED
    with pytest.raises(TrackError, match="hash differently") as caught:
        fetched(hashed, len(SONG))
    assert caught.value.track_code is TrackCode.CHANGED_SINCE_INDEX
    proxy.inject = lambda request: None
    server.objects["music/catalogue/song.wav"] = b"another"
    with pytest.raises(TrackError) as caught:
        fetched(hashed, len(SONG))
    assert caught.value.track_code is TrackCode.CHANGED_SINCE_INDEX


def test_another_object_is_changed_and_not_damaged(server: FailingS3, proxy: FaultyS3) -> None:
    etag = STORE.stat("song.wav").content_id
    server.objects["music/catalogue/song.wav"] = b"another"
    with pytest.raises(TrackError) as caught:
        fetched(etag, len(SONG))
    assert caught.value.track_code is TrackCode.CHANGED_SINCE_INDEX


def test_a_store_that_trickles_is_late_after_half_a_minute_whatever_the_size(
    proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.inject = lambda request: faults.TRICKLE
    begun = time.monotonic()
    with pytest.raises(TrackError, match=r"too slow: \d+ of 300,000 bytes came"):
        fetched()
    assert 0.9 <= time.monotonic() - begun < 5
    # A rate that is low and enough passes, however long it takes.
    monkeypatch.setattr("mgc.storage.s3_files.LEAST_BYTES_PER_SECOND", 10)
    proxy.inject = lambda request: Fault(bytes_per_second=40)
    STORE.write_atomic("slow", b"x" * 60)
    assert STORE.read_bytes("slow") == b"x" * 60


def test_an_answer_that_does_not_come_is_late_too(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.s3_files.REQUEST_SECONDS", 0.5)
    proxy.inject = lambda request: replace(faults.TRICKLE, delay_seconds=3.0)
    calls: list[Callable[[], object]] = [
        lambda: STORE.write_atomic("new", b"bytes"),
        lambda: list(STORE.list()),
        lambda: STORE.stat("song.wav"),
        lambda: STORE.check_readable(),
    ]
    for call in calls:
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"no answer within 0\.5 s"):
            call()
        assert time.monotonic() - begun < 15


def test_a_listing_body_that_trickles_ends(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.s3_files.REQUEST_SECONDS", 0.5)
    proxy.inject = lambda request: faults.TRICKLE if request.is_listing else None
    with pytest.raises(StorageError, match=r"no answer within 0\.5 s"):
        list(STORE.list())
    proxy.inject = first(1, faults.TRICKLE)
    assert [item.key for item in STORE.list()] == ["song.wav"]


@pytest.mark.parametrize("kind", ["ENDLESS_LISTING", "NO_TOKEN", "REPEATED_LISTING"])
def test_a_listing_that_repeats_or_leads_nowhere_ends(proxy: FaultyS3, kind: str) -> None:
    assert [item.key for item in STORE.list()] == ["song.wav"]
    proxy.inject = lambda request: getattr(faults, kind) if request.is_listing else None
    listed: list[ObjectInfo] = []
    with pytest.raises(StorageError, match="does not go on") as caught:
        listed.extend(STORE.list())
    assert caught.value.code == "MGC201"
    assert len(listed) <= 1
    assert proxy.requests <= 3


def test_an_endless_listing_of_nothing_ends(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.s3_files.EMPTY_PAGES", 10)
    proxy.inject = lambda request: faults.ENDLESS_LISTING
    with pytest.raises(StorageError, match="does not go on"):
        list(STORE.list("none/"))
    assert proxy.requests == 10


@pytest.mark.parametrize("body", [b"not xml", b"<ListBucketResult><Contents/></ListBucketResult>"])
def test_an_answer_that_is_no_listing_has_a_code(
    proxy: FaultyS3, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.inject = lambda request: Fault(change=lambda _: body)
    with pytest.raises(StorageError) as caught:
        list(STORE.list())
    assert caught.value.code == "MGC201"


@pytest.mark.parametrize("fault", [faults.REFUSED, faults.FAILED, Fault(status=429, code="SlowDown")])
def test_the_checks_at_the_start_wait_for_a_busy_store(
    proxy: FaultyS3, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    for check in (STORE.check_readable, STORE.check_writable):
        proxy.inject = first(3, fault)
        check()
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["S3 is busy"] * 2


def test_the_checks_at_the_start_do_not_wait_for_a_refusal(proxy: FaultyS3) -> None:
    proxy.inject = lambda request: faults.DENIED
    with pytest.raises(AccessDeniedError):
        STORE.check_readable()
    assert proxy.requests == 1


def test_a_put_whose_answer_is_lost_is_written_once_more_and_is_whole(proxy: FaultyS3) -> None:
    proxy.inject = first(2, faults.FAILED_AFTER_SUCCESS)
    STORE.write_atomic("part", SONG)
    assert STORE.read_bytes("part") == SONG
    assert proxy.refused == 2


def test_a_large_table_is_read_by_ranges_as_strictly(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.s3_files.WHOLE_BELOW_BYTES", 4_096)
    for fault in (None, faults.RESET, faults.TRICKLE, faults.SHORT):
        with STORE.open_input("song.wav") as source:
            source.seek(100_000)
            if fault is not None:
                proxy.inject = first(2, fault)
            assert source.read(50_000) == SONG[100_000:150_000]
            source.seek(-10, 2)
            assert source.read() == SONG[-10:]
            assert source.read(10) == b""
    with STORE.open_input("song.wav") as source:
        STORE.write_atomic("song.wav", SONG[:-1] + b"x")
        with pytest.raises(StorageError, match="when it was indexed"):
            source.read(10_000)
