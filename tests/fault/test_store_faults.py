"""Runs against an S3 that is slow, wrong, or refuses; `store_faults` makes the table of docs/faults.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import faulty_s3 as faults
import polars as pl
import pytest
from failing_s3 import failing_s3
from faulty_s3 import Fault, FaultyS3, Request, faulty_s3
from in_process import run_tiny, without_ray
from store_faults import FAULTS, bench, measured
from swift_server import SwiftServer
from table_makers import catalogue

from mgc.errors import StorageError
from mgc.storage.store import Store
from mgc.tables.lease import run_lease
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

TRACKS = {f"t{number}": "1" for number in range(7)}
OUTPUT = "s3://music/out"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy before a small S3 in memory; runs do their chunks here."""
    without_ray(monkeypatch)
    monkeypatch.setattr("mgc.storage.s3_files.STALL_SECONDS", 0.3)
    monkeypatch.setattr("mgc.storage.s3_files.REQUEST_SECONDS", 6.0)
    with failing_s3() as server, faulty_s3(server.environment["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in (server.environment | {"AWS_ENDPOINT_URL": proxy.endpoint_url}).items():
            monkeypatch.setenv(name, value)
        yield proxy


def rows(uri: str) -> pl.DataFrame:
    output = OutputDirectory(Store.open(uri), "features")
    found = [frame_of(part) for part in current_rows(output, current_index(output, catalogue(TRACKS)))]
    return pl.concat(found).sort("track_id").drop("log_mel")


def every(nth: int, fault: Fault, method: str) -> Callable[[Request], Fault | None]:
    count = itertools.count(1)
    return lambda request: fault if request.method == method and next(count) % nth == 0 else None


KINDS: dict[str, Callable[[], Callable[[Request], Fault | None]]] = {
    "reset": lambda: every(3, faults.RESET, "GET"),
    "short": lambda: every(3, Fault(change=lambda body: body[:-1]), "GET"),
    "flipped": lambda: every(3, faults.FLIPPED, "GET"),
    "trickle": lambda: every(3, faults.TRICKLE, "GET"),
    "put answered 500 after success": lambda: every(5, faults.FAILED_AFTER_SUCCESS, "PUT"),
    "no permission to delete": lambda: every(1, faults.DENIED, "DELETE"),
}


SLOW = {"trickle": pytest.mark.slow}  # it is noticed after half a minute, as it is meant to be


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SLOW.get(kind, ())) for kind in KINDS])
def test_a_run_under_a_fault_has_the_rows_of_one_without(proxy: FaultyS3, tmp_path: Path, kind: str) -> None:
    run_tiny(str(tmp_path), catalogue(TRACKS))
    proxy.inject = KINDS[kind]()
    run_tiny(OUTPUT, catalogue(TRACKS))
    assert proxy.refused, "nothing was hurt"
    proxy.inject = lambda request: None
    assert rows(OUTPUT).equals(rows(str(tmp_path)))
    assert run_tiny(OUTPUT, catalogue(TRACKS)).run_id is None


def test_a_listing_that_never_ends_ends_the_run_and_the_next_is_whole(proxy: FaultyS3, tmp_path: Path) -> None:
    proxy.inject = lambda request: faults.ENDLESS_LISTING if request.is_listing else None
    with pytest.raises(StorageError, match="does not go on"):
        run_tiny(OUTPUT, catalogue(TRACKS))
    proxy.inject = lambda request: None
    run_tiny(OUTPUT, catalogue(TRACKS))
    run_tiny(str(tmp_path), catalogue(TRACKS))
    assert rows(OUTPUT).equals(rows(str(tmp_path)))


def test_a_lease_that_may_not_be_deleted_keeps_nobody_out(proxy: FaultyS3) -> None:
    proxy.inject = lambda request: faults.DENIED if request.method == "DELETE" else None
    store = Store.open(OUTPUT)
    store.check_writable()
    for _ in range(3):
        with run_lease(store, 60.0):
            pass
    assert len(list(store.list("leases/"))) == 3


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.timeout(3_600)
def test_whole_commands_under_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    if reason := SwiftServer.unavailable_reason():
        pytest.skip(reason)
    with bench(["index", "extract", "tag"]) as made:
        lines = [measured(made, fault, command) for fault in FAULTS for command in ("index", "extract", "tag")]
    with capsys.disabled():
        print(*(line for line, _ in lines), sep="\n")
    assert all(is_good for _, is_good in lines)
