from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_makers import TINY, catalogue, commit_part, feature_part, write_part

from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.run_index import current_index, current_rows, newest_index, resume_unfinished
from mgc.tables.run_log import OutputDirectory


def features_at(path: Path) -> OutputDirectory:
    return OutputDirectory(Store.open(str(path)), "features")


def test_a_run_without_a_commit_shows_nothing(tmp_path: Path) -> None:
    output = features_at(tmp_path)
    run = output.start_run(TINY.fingerprint(), {})
    write_part(output, run, 0, feature_part({"a": "1"}))
    assert newest_index(output).height == 0
    assert output.commits() == []


def test_a_killed_run_is_adopted_once(tmp_path: Path) -> None:
    output = features_at(tmp_path)
    run = output.start_run(TINY.fingerprint(), {})
    write_part(output, run, 3, feature_part({"a": "1", "b": "1"}, failed=("b",)))
    resumed = resume_unfinished(output, TINY.fingerprint())
    assert [part.key for part in resumed.parts] == [run.part_key(3)]
    assert dict(resumed.index.select("track_id", "error_code").iter_rows()) == {"a": None, "b": "T202_NOT_AUDIO"}
    assert resume_unfinished(output, "another fingerprint").parts == []


def test_the_newest_row_of_a_track_wins_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = features_at(tmp_path)
    first = commit_part(output, {"a": "1", "b": "1"})
    monkeypatch.setattr("mgc.tables.run_log.time.gmtime", lambda: (1999, 1, 1, 0, 0, 0, 0, 0, 0))
    second = commit_part(output, {"a": "2"})
    index = newest_index(output)
    assert dict(index.select("track_id", "content_id").iter_rows()) == {"a": "2", "b": "1"}
    assert second.sequence == first.sequence + 1


def test_current_rows_read_each_wanted_track_once(tmp_path: Path) -> None:
    output = features_at(tmp_path)
    commit_part(output, {"a": "1", "b": "1", "gone": "1"})
    commit_part(output, {"a": "2"})
    where = current_index(output, catalogue({"a": "2", "b": "1", "never": "1"}))
    rows = [row for table in current_rows(output, where, ["track_id", "content_id"]) for row in table.to_pylist()]
    assert sorted((row["track_id"], row["content_id"]) for row in rows) == [("a", "2"), ("b", "1")]


def test_a_directory_of_another_kind_is_refused(tmp_path: Path) -> None:
    commit_part(features_at(tmp_path), {"a": "1"})
    with pytest.raises(SchemaError, match="holds features, not predictions"):
        OutputDirectory(Store.open(str(tmp_path)), "predictions")


def test_a_directory_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_mgc.json").write_text(json.dumps({"kind": "features", "schema_version": 999}))
    with pytest.raises(SchemaError, match="schema version 999"):
        features_at(tmp_path)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(SchemaError, match=r"holds 'holiday\.jpg'"):
        features_at(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
