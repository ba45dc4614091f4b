"""A run that dies at any of its writes, on a folder and on S3: readers see the old table or the new one, never less.

Each write is tried twice: the process dies before it, and right after it. Then the same command is given again, and
ends with the table of an uninterrupted run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from in_process import config_of, run_tiny, without_ray
from table_makers import TINY, catalogue

from mgc.cluster.run import RunOptions
from mgc.errors import StorageError
from mgc.storage.store import Store
from mgc.tables import lease as leases
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

FIRST = {f"t{number:02d}": "1" for number in range(6)} | {"bad": "1"}
SECOND = {**FIRST, "t01": "2", "new": "1"}
DIES_QUICKLY = config_of(lease_seconds=0.06)


class KilledError(BaseException):
    """What SIGKILL is to the code: nothing catches it."""


@dataclass
class Doom:
    """Counts writes and deletions, and kills at the n-th; the dead neither read nor write."""

    at: int
    after: bool
    error: type[BaseException] = KilledError
    count: int = 0
    dead: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, real: Any, *arguments: Any) -> Any:
        with self.lock:
            self.count += 1
            if not self.dead and self.count == self.at:
                self.dead = True
                if self.after:
                    real(*arguments)
            if self.dead:
                raise self.error("the store is gone")
            return real(*arguments)


@contextmanager
def doomed(doom: Doom) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_atomic", "delete"):
            real = getattr(Store, name)

            def through(*arguments: Any, real: Any = real) -> Any:
                return doom.strike(real, *arguments)

            patch.setattr(Store, name, through)
        yield


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray; and as the killed run is this very process, which lives, leases must go by their beat alone."""
    without_ray(monkeypatch)
    monkeypatch.setattr(leases, "_process_mark", lambda pid: None)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where outputs go."""
    return str(tmp_path) if request.param == "folder" else f"s3://{request.getfixturevalue('bucket')}"


def table(uri: str, contents: dict[str, str]) -> pl.DataFrame:
    output = OutputDirectory(Store.open(uri), "features")
    rows = [frame_of(part) for part in current_rows(output, current_index(output, catalogue(contents)))]
    return pl.concat(rows).sort("track_id").drop("log_mel") if rows else pl.DataFrame()


def identities(rows: pl.DataFrame) -> dict[str, str]:
    return dict(rows.select("track_id", "content_id").iter_rows()) if rows.width else {}


def n_writes(uri: str, contents: dict[str, str]) -> int:
    counting = Doom(at=0, after=False)
    with doomed(counting):
        run_tiny(uri, catalogue(contents))
    return counting.count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_first_run_is_killed_at_each_write(place: str, after: bool) -> None:
    if not after and place.startswith("s3://"):
        pytest.skip("dying before a write is dying after the one before it: on the slow store one way is enough")
    last = n_writes(f"{place}/whole", FIRST)
    whole = table(f"{place}/whole", FIRST)
    assert identities(whole) == FIRST
    assert last >= 9, "marker, two leases, start, plan, three parts, index, commit, end of the lease"
    for at in range(1, last + 1):
        uri = f"{place}/killed-{at}"
        with doomed(Doom(at, after)), pytest.raises(KilledError):
            run_tiny(uri, catalogue(FIRST))
        seen = identities(table(uri, FIRST))
        assert seen in ({}, FIRST), f"half a run is visible after write {at}"
        run_tiny(uri, catalogue(FIRST), config=DIES_QUICKLY)
        assert table(uri, FIRST).equals(whole), f"another table after write {at}"
        assert run_tiny(uri, catalogue(FIRST)).run_id is None
        assert list(Store.open(uri).list("leases/")) == []


def test_an_incremental_run_is_killed_at_each_write(tmp_path: Path) -> None:
    run_tiny(str(tmp_path / "whole"), catalogue(SECOND))
    whole = table(str(tmp_path / "whole"), SECOND)
    run_tiny(str(tmp_path / "counted"), catalogue(FIRST))
    last = n_writes(str(tmp_path / "counted"), SECOND)
    for at in range(1, last + 1):
        uri = str(tmp_path / f"killed-{at}")
        run_tiny(uri, catalogue(FIRST))
        with doomed(Doom(at, after=False)), pytest.raises(KilledError):
            run_tiny(uri, catalogue(SECOND))
        assert identities(table(uri, SECOND)) in (FIRST, SECOND)
        again = run_tiny(uri, catalogue(SECOND), config=DIES_QUICKLY)
        assert table(uri, SECOND).select("track_id", "content_id").equals(whole.select("track_id", "content_id"))
        assert again.rows <= 2, "what did not change was made again"


def test_a_store_that_fails_at_any_write_is_named_and_nothing_is_visible(tmp_path: Path) -> None:
    def fail(reason: str) -> StorageError:
        return StorageError(f"cannot write: {reason}", "check the disk")

    for at in range(1, 10):
        uri = str(tmp_path / str(at))
        doom = Doom(at, after=False, error=fail)  # type: ignore[arg-type]
        with doomed(doom), pytest.raises(StorageError, match="the store is gone"):
            run_tiny(uri, catalogue(FIRST))
        assert table(uri, FIRST).is_empty()
        run_tiny(uri, catalogue(FIRST), config=DIES_QUICKLY)
        assert identities(table(uri, FIRST)) == FIRST


def test_runs_that_race_without_a_lease_show_each_track_once(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lease fails, commits hold: all succeed, and every reader sees the same one row of each track."""
    free = nullcontext(SimpleNamespace(lost=False, require=lambda: None))
    monkeypatch.setattr("mgc.cluster.run.run_lease", lambda *_, **__: free)
    together = threading.Barrier(4)
    done: list[str | None] = []

    def start() -> None:
        together.wait()
        done.append(run_tiny(f"{place}/raced", catalogue(FIRST), RunOptions(force=True)).run_id)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 4
    assert None not in done
    run_tiny(f"{place}/alone", catalogue(FIRST))
    assert table(f"{place}/raced", FIRST).equals(table(f"{place}/alone", FIRST))


def test_other_settings_remake_all_a_changed_file_itself_and_force_everything(place: str) -> None:
    uri = f"{place}/out"
    counts = []
    other = config_of(TINY.model_copy(update={"n_mels": 9}))
    runs: list[tuple[dict[str, str], Any, RunOptions]] = [
        (FIRST, None, RunOptions(limit=2)),
        (FIRST, None, RunOptions()),
        (SECOND, None, RunOptions()),
        (SECOND, None, RunOptions()),
        (SECOND, other, RunOptions()),
        (SECOND, other, RunOptions(force=True)),
    ]
    for contents, config, options in runs:
        counts.append(run_tiny(uri, catalogue(contents), options, config).rows)
        assert list(Store.open(uri).list("leases/")) == []
    assert counts == [2, len(FIRST) - 2, 2, 0, len(SECOND), len(SECOND)]
    assert table(uri, SECOND)["n_mels"].to_list() == [0, *[9] * (len(SECOND) - 1)]
