"""What a run shows in the terminal: its plan with `--dry-run`, and its summary, failures by code."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import config_of, run_tiny, without_ray
from rich.console import Console
from table_makers import TINY, catalogue

from mgc.cli import similar_command
from mgc.cli.terminal import dry_summary, run_summary
from mgc.cluster.run import RunOptions, RunOutcome
from mgc.errors import ConfigError
from mgc.tables.run_log import Commit
from mgc.tables.run_records import RunThroughput, forecast

DRY = RunOptions(dry_run=True)


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def commit_of(*paces: RunThroughput) -> list[Commit]:
    return [Commit(f"run{number}", number, "", [], pace.facts()) for number, pace in enumerate(paces)]


def dry_summary_of(outcome: RunOutcome, limit: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    dry_summary(console, "extract", outcome, limit)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_is_written_and_no_pace_is_invented(tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run_tiny(str(out), catalogue({"a": "1", "b": "1"}), DRY)
    assert not out.exists()
    said = " ".join(dry_summary_of(outcome).split())
    for line in ("would extract 2 tracks", "because 2 new", "/music/a.wav, /music/b.wav", "no earlier run"):
        assert line in said


def test_reasons_examples_and_time_come_from_what_is_there(tmp_path: Path) -> None:
    tracks = {f"t{number}": "1" for number in range(9)}
    run_tiny(str(tmp_path), catalogue(tracks))
    before = sorted(path for path in tmp_path.rglob("*"))
    outcome = run_tiny(str(tmp_path), catalogue({**tracks, "t3": "2", "x": "1"}), DRY)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert outcome.forecast is not None
    assert outcome.forecast.runs == 1
    assert (outcome.forecast.seconds or 0.0) > 0.0
    said = " ".join(dry_summary_of(outcome).split())
    for line in ("1 new, 1 changed, 8 unchanged", "new, e.g. /music/x.wav", "changed, e.g. /music/t3.wav"):
        assert line in said
    assert "with 1 worker, as 1 earlier run went" in said
    assert "nothing" in dry_summary_of(run_tiny(str(tmp_path), catalogue(tracks), DRY))


def test_a_forecast_is_work_over_workers_and_what_every_run_pays() -> None:
    runs = commit_of(
        RunThroughput(2, 25.0, 10.0),
        RunThroughput(2, 35.0, 12.0),
        RunThroughput(2, None, 300.0),
        RunThroughput(4, 30.0, 11.0),
    )
    assert forecast(runs, 1_200, None).seconds == pytest.approx(1_200 / (30.0 * 4) + 11.0)
    assert forecast(runs, 1_200, 8).seconds == pytest.approx(1_200 / (30.0 * 8) + 11.0)
    assert forecast(runs, 1_200, 8).runs == 3
    assert forecast(commit_of(RunThroughput(2, None, 9.0)), 10, None).seconds is None


def test_what_made_the_rows_that_are_to_be_remade_is_named(tmp_path: Path) -> None:
    tracks = catalogue({"a": "1", "b": "1"})
    run_tiny(str(tmp_path), tracks)
    other = config_of(TINY.model_copy(update={"n_mels": 9}))
    outcome = run_tiny(str(tmp_path), tracks, DRY, other)
    assert outcome.plan.made_by == (TINY.fingerprint(),)
    assert f"2 to remake (made by {TINY.fingerprint()})" in dry_summary_of(outcome)


def summary_of(outcome: RunOutcome) -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    run_summary(console, "Extraction", outcome, "features/")
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_failures_are_counted_and_one_of_each_is_named(tmp_path: Path) -> None:
    outcome = run_tiny(str(tmp_path), catalogue({"a": "1", "bad": "1", "c": "1"}))
    assert outcome.failed_examples == {"T202_NOT_AUDIO": "/music/bad.wav"}
    said = summary_of(outcome)
    assert "tracks ok 2" in said
    assert "failed: T202_NOT_AUDIO 1, e.g. /music/bad.wav" in said
    assert any(line.startswith("why column error_message") for line in said)


def test_where_nothing_failed_nothing_is_said_of_it(tmp_path: Path) -> None:
    outcome = run_tiny(str(tmp_path), catalogue({"a": "1"}))
    assert outcome.failed_examples == {}
    assert not any(line.startswith(("failed", "why")) for line in summary_of(outcome))


def test_a_short_runs_speed_is_not_zero_and_says_little(tmp_path: Path) -> None:
    outcome = replace(run_tiny(str(tmp_path / "out"), catalogue({"a": "1"})), cores=2)
    shown = {}
    for work_seconds, audio_seconds in ((4.0, 5.2), (100.0, 50_000.0)):
        console = Console(file=io.StringIO(), width=200)
        run_summary(
            console, "Tagging", replace(outcome, work_seconds=work_seconds, audio_seconds=audio_seconds), "out"
        )
        assert isinstance(console.file, io.StringIO)
        shown[work_seconds] = console.file.getvalue()
    assert "1.3× realtime, 0.65× per core (too short a run to tell)" in shown[4.0]
    assert "500× realtime, 250× per core\n" in shown[100.0]


def test_duplicates_without_features_name_the_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_command, "read_catalogue", lambda uri: None)
    with pytest.raises(ConfigError) as caught:
        similar_command._duplicates("predictions/", "catalogue.parquet", None)
    assert "mgc similar predictions/ --duplicates -c catalogue.parquet -f FEATURES" in caught.value.remedy
    assert "mgc extract catalogue.parquet -o FEATURES" in caught.value.remedy
