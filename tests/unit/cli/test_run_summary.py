"""The summary of a run: failures by code, each with one track to look at."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from in_process import run_tiny, without_ray
from rich.console import Console
from table_makers import catalogue

from mgc.cli.terminal import run_summary
from mgc.cluster.run import RunOutcome


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def said_of(outcome: RunOutcome) -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    run_summary(console, "Extraction", outcome, "features/")
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_failures_are_counted_and_one_of_each_is_named(tmp_path: Path) -> None:
    outcome = run_tiny(str(tmp_path), catalogue({"a": "1", "bad": "1", "c": "1"}))
    assert outcome.failed_examples == {"T202_NOT_AUDIO": "/music/bad.wav"}
    said = said_of(outcome)
    assert "tracks ok 2" in said
    assert "failed: T202_NOT_AUDIO 1, e.g. /music/bad.wav" in said
    assert any(line.startswith("why column error_message") for line in said)


def test_where_nothing_failed_nothing_is_said_of_it(tmp_path: Path) -> None:
    outcome = run_tiny(str(tmp_path), catalogue({"a": "1"}))
    assert outcome.failed_examples == {}
    assert not any(line.startswith(("failed", "why")) for line in said_of(outcome))
