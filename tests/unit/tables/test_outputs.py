from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from table_makers import TINY, catalogue, commit_part, feature_part, write_part

from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.compact import plan_prune, prune
from mgc.tables.run_index import current_index, current_rows, newest_index, resume_unfinished, write_checkpoint
from mgc.tables.run_log import CHECKPOINT, CHECKPOINT_COMMITS, OutputDirectory


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


MANY = 3 * CHECKPOINT_COMMITS


def reads_of(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[str]:
    """Do something, and return the objects that were read for it."""
    keys: list[str] = []
    real = Store.read_bytes

    def read(store: Store, key: str, *span: int | None) -> bytes:
        keys.append(key)
        return real(store, key, *span)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "read_bytes", read)
        act()
    return keys


def test_what_is_read_does_not_grow_with_the_runs_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MANY):
        commit_part(features_at(tmp_path), {"a": str(number), f"b{number}": "1"})
    output = features_at(tmp_path)
    index = newest_index(output)
    write_checkpoint(output)
    assert set(reads_of(monkeypatch, lambda: newest_index(features_at(tmp_path)))) == {"_mgc.json", CHECKPOINT}
    later = [commit_part(features_at(tmp_path), {"a": f"later{number}"}) for number in range(3)]

    def as_a_run_does() -> None:
        place = features_at(tmp_path)
        assert resume_unfinished(place, "another").parts == []
        assert newest_index(place).height == index.height
        assert newest_index(place, place.commits()).height == index.height

    reads = reads_of(monkeypatch, as_a_run_does)
    assert len(reads) == len(set(reads)), "nothing is read twice"
    own = {
        key
        for run in later
        for key in (f"commits/{run.sequence:08d}-{run.run_id}.json", f"{run.folder}/index.parquet")
    }
    assert set(reads) == {"_mgc.json", CHECKPOINT} | own
    columns = ["track_id", "content_id", "sequence", "part"]
    found = newest_index(features_at(tmp_path)).select(columns).sort("track_id")
    (tmp_path / CHECKPOINT).unlink()
    assert found.equals(newest_index(features_at(tmp_path)).select(columns).sort("track_id"))
    assert found["content_id"][0] == "later2"


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"x" * len(data)])
def test_a_damaged_checkpoint_is_done_without(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for number in range(MANY):
        commit_part(features_at(tmp_path), {"a": str(number)})
    output = features_at(tmp_path)
    index = newest_index(output)
    write_checkpoint(output)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    again = features_at(tmp_path)
    assert newest_index(again).equals(index)
    write_checkpoint(again)
    assert path.read_bytes() != damage(path.read_bytes())
    assert newest_index(features_at(tmp_path)).equals(index)


def test_a_checkpoint_of_commits_that_a_compaction_stands_for_is_not_believed(tmp_path: Path) -> None:
    for number in range(MANY):
        commit_part(features_at(tmp_path), {"a": str(number), f"b{number}": "1"})
    output = features_at(tmp_path)
    newest_index(output)
    write_checkpoint(output)
    old = (tmp_path / CHECKPOINT).read_bytes()
    prune(output, plan_prune(output, keep_days=-1.0))
    (tmp_path / CHECKPOINT).write_bytes(old)  # of a run that was held up
    again = features_at(tmp_path)
    index = newest_index(again)
    assert index.height == MANY + 1
    assert sum(table.num_rows for table in current_rows(again, index)) == MANY + 1
