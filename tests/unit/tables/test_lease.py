"""Who is at work in an output directory: one run, and whoever comes later is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mgc.errors import LeaseError
from mgc.storage.store import Store
from mgc.tables import lease as leases
from mgc.tables.lease import RunLease, run_lease

QUICK_SECONDS = 1.2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can look a process up: as if each run were on a machine of its own."""
    monkeypatch.setattr(leases, "_process_mark", lambda pid: None)


def left_by_a_dead_run(store: Store, process: str = "") -> None:
    dead = {
        "name": "dead",
        "ticket": 1,
        "beat": 7,
        "host": "elsewhere",
        "pid": 1,
        "since": "then",
        "process": process,
    }
    store.write_atomic("leases/dead.json", json.dumps(dead).encode())


def held(store: Store) -> list[str]:
    return [item.key for item in store.list("leases/")]


def test_a_lease_is_gone_when_its_run_ends_and_when_it_fails(store: Store) -> None:
    with run_lease(store, QUICK_SECONDS):
        assert len(held(store)) == 1
    with pytest.raises(RuntimeError), run_lease(store, QUICK_SECONDS):
        raise RuntimeError
    assert held(store) == []


@pytest.mark.parametrize("where", ["same machine", "another machine"])
def test_the_second_run_is_told_who_is_there_and_the_first_goes_on(
    store: Store, where: str, request: pytest.FixtureRequest
) -> None:
    if where == "another machine":
        request.getfixturevalue("strangers")
    with run_lease(store, QUICK_SECONDS) as first:
        with pytest.raises(LeaseError) as caught, run_lease(store, QUICK_SECONDS):
            pytest.fail("two runs at once")
        first.require()
        assert len(held(store)) == 1
    said = str(caught.value)
    for word in ("MGC502", f"process {os.getpid()} on ", first.mine.since, store.uri(), "--takeover"):
        assert word in said


@pytest.mark.usefixtures("strangers")
def test_a_lease_that_does_not_change_is_dead_and_is_cleared_away(store: Store) -> None:
    left_by_a_dead_run(store)
    with run_lease(store, QUICK_SECONDS) as lease:
        assert held(store) == [lease.mine.key]


def test_a_process_that_ended_on_this_machine_need_not_be_waited_for(store: Store) -> None:
    mark = "import os; from mgc.tables.lease import _process_mark; print(_process_mark(os.getpid()))"
    ended = subprocess.run([sys.executable, "-c", mark], capture_output=True, text=True, check=True)
    if ended.stdout.strip() == "None":
        pytest.skip("the system does not say which processes run")
    left_by_a_dead_run(store, ended.stdout.strip())
    with run_lease(store, lease_seconds=3_600.0) as lease:
        assert held(store) == [lease.mine.key]


@pytest.mark.usefixtures("strangers")
def test_a_run_whose_place_was_taken_stops(store: Store) -> None:
    with run_lease(store, QUICK_SECONDS) as first:
        with run_lease(store, QUICK_SECONDS, takeover=True) as second:
            with pytest.raises(LeaseError, match="taken over"):
                first.require()
            second.require()
            deadline = time.monotonic() + 30
            while not first.lost and time.monotonic() < deadline:
                time.sleep(0.02)
            assert first.lost
            assert held(store) == [second.mine.key]
        assert held(store) == []


def race(store: Store, starters: int, lease_seconds: float) -> list[RunLease]:
    """Start at once; return who got the lease while everybody else was at work or refused."""
    together, over = threading.Barrier(starters), threading.Event()
    winners: list[RunLease] = []
    refused: list[LeaseError] = []

    def start() -> None:
        together.wait()
        try:
            with run_lease(store, lease_seconds) as lease:
                winners.append(lease)
                over.wait(60)
        except LeaseError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(starters)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(winners) + len(refused) < starters and time.monotonic() < deadline:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert len(winners) + len(refused) == starters
    return winners


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.usefixtures("strangers")
def test_of_many_that_start_at_once_one_wins(store: Store, attempt: int) -> None:
    assert len(race(store, 16, lease_seconds=6.0)) == 1


@pytest.mark.s3
@pytest.mark.usefixtures("strangers")
def test_of_many_that_start_at_once_on_s3_one_wins(bucket: str) -> None:
    """Swift lets several racing conditional PUTs win: nothing here rests on one."""
    store = Store.open(f"s3://{bucket}/out")
    assert len(race(store, 8, lease_seconds=30.0)) == 1
    assert held(store) == []
