"""`mgc prune`: old runs become one; the current rows and the last days' history stay, whatever is killed."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from in_process import run_tiny, without_ray
from table_makers import catalogue
from tiny_predictions import history, killed_at, tag_once
from typer.testing import CliRunner

from mgc.cli.app import build_app
from mgc.cluster.run import RunOptions
from mgc.errors import LeaseError
from mgc.storage.objects import TEMPORARY_PREFIX
from mgc.storage.store import Store
from mgc.tables.compact import plan_prune, prune
from mgc.tables.lease import run_lease
from mgc.tables.predictions import read_predictions
from mgc.tables.run_index import STALE, current_index, current_rows, newest_index
from mgc.tables.run_log import OutputDirectory

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def output_of(uri: str, kind: str = "predictions") -> OutputDirectory:
    return OutputDirectory(Store.open(uri), kind)


def pruned(uri: str, keep_days: float = 0.0, kind: str = "predictions") -> Any:
    output = output_of(uri, kind)
    return prune(output, plan_prune(output, keep_days, LATER))


def three_runs(uri: str) -> dict[str, str]:
    contents = {f"a{number}": "1" for number in range(8)} | {"bad": "broken", "gone": "1"}
    tag_once(uri, contents)
    contents = contents | {"a0": "2", "a1": "2"}
    tag_once(uri, contents)
    del contents["gone"]
    tag_once(uri, contents | {"a0": "3"})
    return contents | {"a0": "3"}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_current_rows_and_the_last_row_of_deleted_tracks_stay_and_nothing_is_done_again(tmp_path: Path) -> None:
    uri = str(tmp_path)
    contents = three_runs(uri)
    before, had = read_predictions(uri), len(files(tmp_path))
    done = pruned(uri)
    assert (done.dropped, len(output_of(uri).commits())) == (4, 1), "a0 twice, a1 and gone once"
    assert read_predictions(uri).equals(before)
    rows = history(uri)
    assert rows.height == 10
    assert rows.filter(track_id="gone")["deleted_at"].null_count() == 0
    live = rows.sort("track_id").filter(pl.col("deleted_at").is_null())
    assert live.drop("run_date", strict=False).equals(before.drop(STALE))
    assert len(files(tmp_path)) < had
    assert {name.split("/")[1] for name in files(tmp_path) if name.startswith("runs/")} == {done.run_id}
    assert tag_once(uri, contents).run_id is None
    assert plan_prune(output_of(uri), 0.0, LATER).is_empty
    again = tag_once(uri, contents | {"a2": "2"})
    assert (again.rows, again.plan.unchanged) == (1, 8)
    assert read_predictions(uri).filter(track_id="a2")["sequence"].item() == 5, "after the compaction's own number"


def test_failures_keep_their_count(tmp_path: Path) -> None:
    uri = str(tmp_path)
    three_runs(uri)
    columns = ["track_id", "attempts", "decoder", "tried_at", "sequence"]
    before = newest_index(output_of(uri)).select(columns).sort("track_id")
    pruned(uri)
    assert newest_index(output_of(uri)).select(columns).sort("track_id").equals(before)


def test_runs_within_the_days_kept_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    contents = {"a": "1", "b": "1"}
    tag_once(uri, contents)
    tag_once(uri, contents | {"a": "2"})
    young = (datetime.now(UTC) + timedelta(days=100)).strftime("%Y%m%dT%H%M%SZ")
    with monkeypatch.context() as patch:
        patch.setattr("time.strftime", lambda *_: young)
        tag_once(uri, contents | {"a": "3"})
    output = output_of(uri)
    prune(output, plan_prune(output, 30.0, datetime.now(UTC) + timedelta(days=101)))
    assert history(uri).filter(track_id="a")["content_id"].to_list() == ["2", "3"], "as it was then can be told"
    assert len(output.commits()) == 2
    prune(output, plan_prune(output, 0.0, datetime.now(UTC) + timedelta(days=102)))
    assert history(uri).filter(track_id="a")["content_id"].to_list() == ["3"]
    assert len(output.commits()) == 1


def test_a_prune_killed_at_any_write_loses_nothing_and_the_next_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = three_runs(str(tmp_path / "made"))
    for at in range(100):
        place = shutil.copytree(tmp_path / "made", tmp_path / str(at))
        before = read_predictions(str(place))
        index = newest_index(output_of(str(place))).drop("part").sort("track_id")
        was_killed = killed_at(monkeypatch, at, lambda uri=str(place): pruned(uri))
        assert read_predictions(str(place)).equals(before), at
        assert newest_index(output_of(str(place))).drop("part").sort("track_id").equals(index), at
        assert tag_once(str(place), contents).run_id is None, at
        assert not pruned(str(place)) or history(str(place)).height == 10, at
        assert plan_prune(output_of(str(place)), 0.0, LATER).is_empty, at
        assert read_predictions(str(place)).equals(before), at
        if not was_killed:
            assert at > 10
            return
    raise AssertionError("it never came to its end")


def test_what_killed_runs_left_goes_unless_the_next_run_would_take_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    for bundle in ("old", "b" * 16):
        with monkeypatch.context() as patch:
            patch.setattr(OutputDirectory, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                tag_once(uri, {"a": "1", "b": "1"}, bundle=bundle)
    plan = plan_prune(output_of(uri), 0.0, LATER)
    assert (plan.compacted, len({item.key.split("/")[1] for item in plan.waste if item.key.startswith("runs/")})) == (
        [],
        1,
    )
    prune(output_of(uri), plan)
    outcome = tag_once(uri, {"a": "1", "b": "1"})
    assert (outcome.resumed, outcome.rows) == (1, 0), "the other killed run's part is still there"


def test_what_writers_were_killed_in_goes_once_it_is_old(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    folders = [tmp_path, next(tmp_path.glob("runs/*")), tmp_path / "current" / "_data"]
    old, young = ([folder / f"{TEMPORARY_PREFIX}{age}" for folder in folders] for age in ("old", "young"))
    staged = tmp_path / "current" / "_delta_log" / f"{1:020}.json#1"
    for path in [*old, *young, staged]:
        path.write_bytes(b"half")
    for path in [*old, staged]:
        os.utime(path, (0, 0))
    assert tag_once(uri, {"a": "1"}).run_id is None
    assert not staged.exists()
    pruned(uri)
    assert [path.exists() for path in [*old, *young]] == [False] * 3 + [True] * 3
    assert plan_prune(output_of(uri), 0.0).is_empty


def test_feature_shards_are_pruned_too(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), {f"t{number}": "1" for number in range(7)}
    run_tiny(uri, catalogue(contents))
    run_tiny(uri, catalogue(contents | {"t0": "2"}))

    def table() -> pl.DataFrame:
        output = output_of(uri, "features")
        rows = current_rows(output, current_index(output, catalogue(contents)))
        return pl.concat([pl.DataFrame(pl.from_arrow(part)) for part in rows]).sort("track_id")

    before = table()
    assert pruned(uri, kind="features").dropped == 1
    assert table().equals(before)
    assert run_tiny(uri, catalogue(contents | {"t0": "2"})).run_id is None
    assert run_tiny(uri, catalogue(contents), RunOptions(force=True)).rows == 7


def test_the_command_says_what_it_would_do_and_does_it_when_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "out")
    three_runs(uri)
    there = files(tmp_path)
    app, runner = build_app("prune"), CliRunner()
    said = runner.invoke(app, ["prune", uri, "--keep-days", "0"])
    assert (said.exit_code, files(tmp_path)) == (0, there), said.output
    assert "dry run: nothing was changed" in said.output
    assert "nothing to prune" in runner.invoke(app, ["prune", uri, "--apply"]).output, "all within 30 days"
    with run_lease(Store.open(uri), 60.0):
        refused = runner.invoke(app, ["prune", uri, "--apply"])
    assert isinstance(refused.exception, LeaseError)
    missing = runner.invoke(app, ["prune", str(tmp_path / "nowhere")])
    assert "is no output of mgc" in str(missing.exception)
