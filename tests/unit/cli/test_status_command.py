"""`mgc status`: what an operator, a probe and a scheduler ask of an output directory."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from in_process import run_tiny, without_ray
from table_makers import catalogue
from tiny_predictions import BUNDLE, SimulatedKillError, tag_once
from typer.testing import CliRunner, Result

from mgc.cli.app import build_app
from mgc.storage.store import Store
from mgc.tables.lease import run_lease
from mgc.tables.run_log import COMPLETED, OutputDirectory

TRACKS = {f"a{number}": "1" for number in range(7)}


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def called(*arguments: str) -> Result:
    return CliRunner().invoke(build_app("status"), ["status", *arguments])


def state_of(place: Path) -> dict[str, Any]:
    done = called(str(place), "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.output))


def completed_long_ago(place: Path, hours: float) -> None:
    note = json.loads((place / COMPLETED).read_text())
    note["completed_at"] = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    (place / COMPLETED).write_text(json.dumps(note))


def test_a_good_run_failures_and_the_age_of_answers(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    outcome = tag_once(str(tmp_path), TRACKS | {"bad": "broken", "worse": "broken-2", "far": "offline"})
    state = state_of(tmp_path)
    assert state["kind"] == "predictions"
    assert (state["tracks"], state["rows"], state["healthy"]) == (10, 10, True)
    assert state["failed"] == {"T203_DECODE_FAILED": 2, "T103_FETCH_FAILED": 1}
    assert list(state["failed"]) == ["T203_DECODE_FAILED", "T103_FETCH_FAILED"], "the most frequent first"
    assert state["fingerprints"] == {BUNDLE: 7}
    assert (state["stale"], state["stale_since"], state["at_work"], state["unfinished_run"]) == ({}, None, [], None)
    last = state["last_completed"]
    assert (last["run_id"], last["refused_deletions"]) == (outcome.run_id, 0)
    assert before <= datetime.fromisoformat(last["completed_at"]) <= datetime.now(UTC)
    assert 0 <= last["seconds_ago"] < 60
    oldest, newest = map(datetime.fromisoformat, state["answered_at"])
    assert before <= oldest <= newest


def test_a_run_with_nothing_to_do_is_a_good_run(tmp_path: Path) -> None:
    tag_once(str(tmp_path), TRACKS)
    completed_long_ago(tmp_path, 30)
    assert called(str(tmp_path), "--max-age", "26").exit_code == 1
    assert tag_once(str(tmp_path), TRACKS).run_id is None
    assert called(str(tmp_path), "--max-age", "26").exit_code == 0
    assert state_of(tmp_path)["last_completed"]["run_id"] is None


def test_the_exit_status_is_a_health_check(tmp_path: Path) -> None:
    output = OutputDirectory(Store.open(str(tmp_path)), "predictions")
    output.mark()
    assert called(str(tmp_path)).exit_code == 0
    assert called(str(tmp_path), "--max-age", "1").exit_code == 1, "no run has ended well yet"
    tag_once(str(tmp_path), TRACKS)
    assert called(str(tmp_path), "--max-age", "1").exit_code == 0
    completed_long_ago(tmp_path, 1.1)
    late = called(str(tmp_path), "--max-age", "1")
    assert late.exit_code == 1
    assert "1 h 06 min ago" in late.output
    assert json.loads(called(str(tmp_path), "--max-age", "1", "--json").output)["healthy"] is False


def test_answers_that_are_stale_and_deletions_that_were_refused(tmp_path: Path) -> None:
    tag_once(str(tmp_path), TRACKS)
    tag_once(str(tmp_path), TRACKS, bundle="c" * 16, refused=["a1", "a2"])
    state = state_of(tmp_path)
    assert (state["stale"], state["failed"]) == ({"T102_ACCESS_DENIED": 2}, {})
    assert datetime.fromisoformat(state["stale_since"]) <= datetime.now(UTC)
    assert state["fingerprints"] == {"c" * 16: 5, BUNDLE: 2}
    tag_once(str(tmp_path), {"a0": "1"}, bundle="c" * 16)
    assert state_of(tmp_path)["last_completed"]["refused_deletions"] == 6
    shown = called(str(tmp_path)).output
    assert "6 missing tracks not marked deleted" in shown
    assert "stale: T102_ACCESS_DENIED" in shown


def test_a_run_that_was_ended_shows_how_far_it_came(tmp_path: Path) -> None:
    def end(step: object) -> None:
        raise SimulatedKillError

    with pytest.raises(SimulatedKillError):
        tag_once(str(tmp_path), TRACKS, on_progress=end)
    state = state_of(tmp_path)
    assert (state["tracks"], state["last_completed"]) == (0, None)
    run = state["unfinished_run"]
    assert (run["items"], run["done"]) == (7, 2), "chunks of two: one was finished"
    assert "it was ended, the next run resumes it" in called(str(tmp_path)).output
    tag_once(str(tmp_path), TRACKS)
    assert state_of(tmp_path)["unfinished_run"] is None


def test_who_is_at_work_and_who_left_a_lease(tmp_path: Path) -> None:
    tag_once(str(tmp_path), TRACKS)
    store = Store.open(str(tmp_path))
    dead = {"name": "dead", "ticket": 1, "beat": 7, "host": "elsewhere", "pid": 1, "since": "then", "process": ""}
    store.write_atomic("leases/dead.json", json.dumps(dead).encode())
    with run_lease(store, 60.0, takeover=True):
        store.write_atomic("leases/dead.json", json.dumps(dead).encode())
        at_work = {one["pid"]: one for one in state_of(tmp_path)["at_work"]}
        assert at_work[os.getpid()]["alive"] is True
        assert at_work[1]["alive"] is True, "of another machine, and just renewed"
        old = time.time() - 300
        os.utime(tmp_path / "leases" / "dead.json", (old, old))
        at_work = {one["pid"]: one for one in state_of(tmp_path)["at_work"]}
        assert at_work[1]["alive"] is False
        assert at_work[1]["seconds_ago"] == pytest.approx(300, abs=30)
        assert "process 1 on elsewhere, since then: no sign of life for 5 min" in called(str(tmp_path)).output


def test_what_is_damaged_or_not_mgcs_is_passed_over_or_named(tmp_path: Path) -> None:
    def end(step: object) -> None:
        raise SimulatedKillError

    with pytest.raises(SimulatedKillError):
        tag_once(str(tmp_path), TRACKS, on_progress=end)
    for place in ("started/.DS_Store", "started/notes.txt", "commits/.DS_Store", "_completed.json", "leases/a.json"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("[]")
    state = state_of(tmp_path)
    assert (state["last_completed"], state["at_work"], state["unfinished_run"]["done"]) == (None, [], 2)
    assert tag_once(str(tmp_path), TRACKS).resumed == 2, "nor do they stop a run"
    assert state_of(tmp_path)["last_completed"] is not None
    (tmp_path / "_completed.json").write_text("{")
    assert (state_of(tmp_path)["last_completed"], state_of(tmp_path)["tracks"]) == (None, 7)
    with pytest.raises(SimulatedKillError):
        tag_once(str(tmp_path), TRACKS, on_progress=end, bundle="c" * 16)
    run = state_of(tmp_path)["unfinished_run"]["run_id"]
    (tmp_path / "runs" / run / "plan.parquet").write_bytes(b"no parquet")
    assert "plan.parquet' cannot be read" in str(called(str(tmp_path)).exception)


def test_an_output_of_features_has_a_status_too(tmp_path: Path) -> None:
    run_tiny(str(tmp_path), catalogue(TRACKS | {"bad": "1"}))
    state = state_of(tmp_path)
    assert (state["kind"], state["tracks"], state["failed"]) == ("features", 8, {"T202_NOT_AUDIO": 1})
    assert state["answered_at"] == [None, None]
    assert "8" in called(str(tmp_path), "--max-age", "1").output


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    done = called(str(tmp_path))
    assert done.exit_code == 1
    assert "is no output of mgc" in str(done.exception)
