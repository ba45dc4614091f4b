"""Lines for people: their records name run, track and URI, in threads and workers too, and disturb no progress."""

from __future__ import annotations

import io
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from rich.console import Console
from rich.progress import Progress

from mgc.logs import (
    LOGGER,
    configure_logging,
    keep_worker_records,
    log,
    log_context,
    log_settings,
    log_worker_records,
    take_worker_records,
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = list(LOGGER.handlers), LOGGER.level
    take_worker_records()
    yield
    configure_logging(level)
    LOGGER.handlers[:] = handlers


def names(record: logging.LogRecord) -> tuple[str | None, ...]:
    return record.run_id, record.track_id, record.uri  # type: ignore[attr-defined]


def test_a_record_names_run_track_and_uri_of_the_blocks_around_it(caplog: pytest.LogCaptureFixture) -> None:
    with log_context(run_id="run"):
        with log_context(track_id="track", uri="s3://music/a.mp3"), ThreadPoolExecutor(1) as thread:
            thread.submit(copy_context().run, log.warning, "in a thread").result()
        log.warning("without a track")
    log.warning("without a run")
    assert [record.name for record in caplog.records] == ["mgc"] * 3
    assert [names(record) for record in caplog.records] == [
        ("run", "track", "s3://music/a.mp3"),
        ("run", None, None),
        (None, None, None),
    ]


def test_lines_go_to_stderr_from_the_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    with log_context(run_id="run", uri="/music/100%.mp3"):
        log.info("not shown")
        log.warning("retried %d times", 3)
    configure_logging("error")
    log.warning("not shown either")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "mgc warning: retried 3 times run_id=run uri=/music/100%.mp3\n")


def test_what_a_worker_logged_is_logged_by_the_driver_once(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_worker_records(logging.WARNING)
    take_worker_records()  # what other tests of this process left
    with log_context(run_id="run", track_id="track"):
        log.warning("decoding child %d died", 7)
        log.info("below the level")
    (text,) = take_worker_records()
    assert take_worker_records() == []
    log_worker_records([text])
    assert len(caplog.records) == 1, "a record of this process was logged here already"
    log_worker_records([json.dumps(json.loads(text) | {"origin": "node:1"})])
    first, second = caplog.records
    assert (first.getMessage(), names(first)) == (second.getMessage(), names(second))
    assert (second.levelno, second.created) == (logging.WARNING, first.created)
    assert capsys.readouterr().err == "mgc warning: decoding child 7 died run_id=run track_id=track\n" * 2


def test_lines_are_json_where_wanted_and_name_the_node_that_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with log_context(run_id="run", track_id="track", uri='s3://music/a "b"\n.mp3'):
        log.info("retried %d times", 3)
    record = {"levelno": logging.WARNING, "levelname": "WARNING", "created": 1.5, "msg": "died", "run_id": "run"}
    log_worker_records([json.dumps({**record, "track_id": None, "uri": None, "origin": "node-7:4242"})])
    configure_logging("info")
    log.info("as text again")
    *lines, text = capsys.readouterr().err.splitlines()
    assert text == "mgc info: as text again"
    own, worker = map(json.loads, lines)
    assert own.pop("time").endswith("+00:00")
    assert own == {
        "level": "info",
        "message": "retried 3 times",
        "run_id": "run",
        "track_id": "track",
        "uri": 's3://music/a "b"\n.mp3',
        "node": platform.node(),
        "pid": str(os.getpid()),
    }
    assert (worker["time"], worker["node"], worker["pid"]) == ("1970-01-01T00:00:01.500+00:00", "node-7", "4242")
    assert (worker["level"], worker["message"], worker["run_id"]) == ("warning", "died", "run")


def test_workers_log_as_the_driver_does(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("error", "json")
    assert log_settings() == (logging.ERROR, "json")
    configure_logging()
    keep_worker_records(logging.ERROR, "json")
    log.error("in a worker")
    assert json.loads(capsys.readouterr().err)["message"] == "in a worker"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_stands_above_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("warning")
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(console=Console(file=screen, force_terminal=True, width=60)) as progress:
        progress.add_task("tagging", total=2)
        log.warning("retried")
    shown = screen.getvalue()
    assert "mgc warning: retried\n" in shown.replace("\x1b[2K", "")
    assert shown.rindex("tagging") > shown.index("retried")


def test_a_line_goes_to_the_file_that_stderr_is_while_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("warning")
    screen, file = _Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with Progress(console=Console(file=screen, force_terminal=True, width=60)) as progress:
        progress.add_task("tagging", total=2)
        log.warning("retried")
    assert file.getvalue() == "mgc warning: retried\n"
    assert "retried" not in screen.getvalue()
