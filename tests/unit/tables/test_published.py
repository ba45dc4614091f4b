"""`current` and `history`: what readers open, run after run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from in_process import config_of, without_ray
from tiny_predictions import BUNDLE, files, history, identities, ids, killed_at, output_of, tag_once

from mgc.errors import SchemaError
from mgc.storage.store import AccessDeniedError, Store
from mgc.tables import publish as published
from mgc.tables.compact import plan_prune, prune
from mgc.tables.deletions import DeletionRule, rewrite_prediction_content_ids
from mgc.tables.predictions import read_predictions
from mgc.tables.publish import open_current, publish
from mgc.tables.run_index import STALE


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def test_each_track_is_in_the_file_of_its_first_digit_in_order(tmp_path: Path) -> None:
    contents = ids(100) | {"z": "1"}
    tag_once(str(tmp_path), contents)
    assert identities(str(tmp_path)) == contents
    assert len(files(tmp_path)) == 17
    for digit, path in files(tmp_path).items():
        found = pl.read_parquet(path)["track_id"]
        assert found.is_sorted()
        assert {track[0] for track in found} == ({digit} if digit != "x" else {"z"})


def test_only_files_in_which_something_changed_are_written_anew(tmp_path: Path) -> None:
    contents = ids(100)
    tag_once(str(tmp_path), contents)
    before = files(tmp_path)
    changed = sorted(contents)[0]
    assert tag_once(str(tmp_path), contents).run_id is None
    assert files(tmp_path) == before
    tag_once(str(tmp_path), contents | {changed: "2"})
    after = files(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"0"}
    assert identities(str(tmp_path)) == contents | {changed: "2"}


def test_files_longer_than_a_row_group_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ROWS_A_GROUP", 3)
    contents = {f"a{number:03d}": "1" for number in range(20)}
    tag_once(str(tmp_path), contents)
    changed = contents | {"a000": "2", "a007": "2", "a0070": "1", "a999": "1"}
    tag_once(str(tmp_path), changed)
    assert identities(str(tmp_path)) == changed
    assert pl.read_parquet(files(tmp_path)["a"])["track_id"].to_list() == sorted(changed)


def test_history_keeps_every_row_by_the_day_of_its_run(tmp_path: Path) -> None:
    tag_once(str(tmp_path), {"a": "1", "b": "1"})
    tag_once(str(tmp_path), {"a": "2", "b": "1"})
    rows = history(str(tmp_path))
    assert rows.select("sequence", "track_id", "content_id").rows() == [(1, "a", "1"), (1, "b", "1"), (2, "a", "2")]
    stamp = rows["run_id"][0]
    first = f"run_date={stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    assert first in {path.name for path in (tmp_path / "history").iterdir()}


def test_what_a_killed_run_did_not_publish_the_next_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag_once(str(tmp_path), {"a": "1", "b": "1"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(published, "_commit", die)
        with pytest.raises(KeyboardInterrupt):
            tag_once(str(tmp_path), {"a": "2", "b": "1"})
    assert tag_once(str(tmp_path), {"a": "2", "b": "1"}).run_id is None
    assert identities(str(tmp_path)) == {"a": "2", "b": "1"}
    assert history(str(tmp_path)).height == 3
    assert publish(output_of(str(tmp_path))) is None


def test_lost_files_are_made_anew_from_the_commits(tmp_path: Path) -> None:
    contents = ids(40)
    tag_once(str(tmp_path), contents)
    before = read_predictions(str(tmp_path))
    shutil.rmtree(tmp_path / "current")
    with pytest.raises(SchemaError, match="no predictions at"):
        read_predictions(str(tmp_path))
    assert publish(output_of(str(tmp_path))) == 40
    assert read_predictions(str(tmp_path)).equals(before)


def in_runs(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("runs/*/*")}


def test_an_answer_is_in_the_history_and_in_current_and_nowhere_else(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    changed = contents | {sorted(contents)[0]: "2"}
    tag_once(uri, changed)
    assert in_runs(tmp_path) == {"index.parquet"}
    before = read_predictions(uri)
    shutil.rmtree(tmp_path / "current")
    publish(output_of(uri))
    assert read_predictions(uri).equals(before), "made anew from the history"
    files(tmp_path)["0"].unlink()
    assert tag_once(uri, changed).run_id is None
    assert read_predictions(uri).equals(before)
    tag_once(uri, dict(sorted(changed.items())[1:]))
    deleted = history(uri).filter(pl.col("deleted_at").is_not_null())
    assert deleted["content_id"].to_list() == ["2"], "copied from the history"
    prune(output_of(uri), plan_prune(output_of(uri), keep_days=-1.0))
    assert in_runs(tmp_path) == {"index.parquet"}
    assert (history(uri).height, len(identities(uri))) == (40, 39)


def test_floats_have_no_dictionary(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    for path in (*tmp_path.glob("history/*/*"), *files(tmp_path).values()):
        group = pq.ParquetFile(path).metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        with_one = {each.path_in_schema for each in columns if "RLE_DICTIONARY" in each.encodings}
        assert {"uri", "genre", "tags.list.element", "tag_probabilities.key_value.key"} <= with_one
        assert not with_one & {"embedding.list.element", "genre_probability", "tag_probabilities.key_value.value"}


def test_parts_stay_until_the_history_has_all_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, contents = str(tmp_path), ids(40)
    with monkeypatch.context() as patch:
        patch.setattr(published, "_drop_parts", lambda *_: None)
        tag_once(uri, contents)  # as an mgc that kept them left it
    parts = in_runs(tmp_path)
    assert len(parts) > 10
    (file,) = tmp_path.glob("history/*/*")
    data = file.read_bytes()
    pl.read_parquet(file).head(39).write_parquet(file)
    assert tag_once(uri, contents).run_id is None
    assert in_runs(tmp_path) == parts
    file.write_bytes(data)
    assert tag_once(uri, contents).run_id is None
    assert in_runs(tmp_path) == {"index.parquet"}


def test_a_store_that_forbids_to_delete_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(store: Store, key: str) -> None:
        raise AccessDeniedError("no", "no")

    monkeypatch.setattr(Store, "delete", refused)
    tag_once(str(tmp_path), {"a": "1"})
    assert in_runs(tmp_path) == {"index.parquet", "part-000000.parquet", "plan.parquet"}


def test_a_deleted_track_leaves_current_and_says_when_in_the_history(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1", "c": "1"})
    outcome = tag_once(uri, {"a": "1", "b": "1"})
    assert (outcome.deleted, outcome.plan.items) == (1, 0)
    assert identities(uri) == {"a": "1", "b": "1"}
    last = history(uri).filter(track_id="c").to_dicts()[-1]
    assert last["deleted_at"] >= last["tagged_at"]
    assert (last["genre"], last["sequence"], last["run_id"]) == ("jazz", 2, outcome.run_id), "its answer is kept"
    assert tag_once(uri, {"a": "1", "b": "1"}).run_id is None, "marked once"


def test_a_track_that_returns_is_live_again_without_being_tagged(tmp_path: Path) -> None:
    uri = str(tmp_path)
    all_three = {"a": "1", "b": "1", "c": "1"}
    tag_once(uri, all_three)
    first = read_predictions(uri).filter(track_id="c")["tagged_at"][0]
    tag_once(uri, {"a": "1", "b": "1"})
    back = tag_once(uri, all_three)
    assert (back.restored, back.rows) == (1, 0)
    row = read_predictions(uri).filter(track_id="c").to_dicts()[0]
    assert (row["deleted_at"], row["tagged_at"], row["sequence"]) == (None, first, 3)
    tag_once(uri, {"a": "1", "b": "1"})
    changed = tag_once(uri, all_three | {"c": "2"})
    assert (changed.restored, changed.plan.changed) == (0, 1), "another content is tagged anew"
    assert identities(uri)["c"] == "2"
    tag_once(uri, {"a": "1", "b": "1"})
    remade = tag_once(uri, all_three | {"c": "2"}, bundle="other")
    assert (remade.restored, remade.plan.remade) == (0, 3), "another bundle tags it anew"


def uris(output: str) -> dict[str, str]:
    return dict(read_predictions(output, ["track_id", "uri"]).iter_rows())


def test_answers_of_a_library_that_was_moved_name_its_new_place(tmp_path: Path) -> None:
    output, contents = str(tmp_path), {"a": "1", "b": "1", "c": "broken"}
    tag_once(output, contents)
    first = read_predictions(output).drop("uri")
    moved = tag_once(output, contents, root="s3://bucket/music")
    assert (moved.run_id, moved.plan.items) == (None, 0), "nothing is decoded"
    assert uris(output) == {name: f"s3://bucket/music/{name}.wav" for name in contents}
    assert read_predictions(output).drop("uri").equals(first)
    assert set(history(output)["uri"]) == {f"/music/{name}.wav" for name in contents}, "where each was when tagged"
    before = files(tmp_path)
    tag_once(output, contents, root="s3://bucket/music")
    assert files(tmp_path) == before, "moved once"


def test_a_moved_track_keeps_its_new_place_in_runs_that_know_no_catalogue(tmp_path: Path) -> None:
    output, contents = str(tmp_path), {"a": "1", "a2": "1", "b": "1"}
    tag_once(output, contents)
    tag_once(output, contents, bundle="new", refused=["b"])
    tag_once(output, contents, bundle="new", refused=["b"], root="/moved")
    rewrite_prediction_content_ids(output, {"a": "2"})
    assert uris(output) == {name: f"/moved/{name}.wav" for name in contents}
    store = output_of(output)
    prune(store, plan_prune(store, 0.0))
    assert uris(output) == {name: f"/moved/{name}.wav" for name in contents}
    rows = read_predictions(output, ["track_id", "content_id", "stale_reason"]).rows()
    assert rows == [("a", "2", None), ("a2", "1", None), ("b", "1", "T102_ACCESS_DENIED")]


def test_a_lost_file_of_a_moved_library_gets_its_places_back(tmp_path: Path) -> None:
    output, contents = str(tmp_path), {"a": "1", "b": "1"}
    tag_once(output, contents)
    tag_once(output, contents, root="/moved")
    files(tmp_path)["a"].unlink()
    rewrite_prediction_content_ids(output, {"b": "2"})
    assert uris(output) == {"a": "/music/a.wav", "b": "/moved/b.wav"}
    tag_once(output, {"a": "1", "b": "2"}, root="/moved")
    assert uris(output) == {"a": "/moved/a.wav", "b": "/moved/b.wav"}


def test_a_track_that_is_not_in_the_catalogue_keeps_the_place_it_had(tmp_path: Path) -> None:
    output = str(tmp_path)
    tag_once(output, {"a": "1", "a2": "1"})
    outcome = tag_once(output, {"a": "1"}, root="/moved", deletions=DeletionRule(0.1))
    assert outcome.refused == 1
    assert uris(output) == {"a": "/moved/a.wav", "a2": "/music/a2.wav"}


def test_a_catalogue_that_shrank_by_half_is_not_believed(tmp_path: Path) -> None:
    uri = str(tmp_path)
    contents = ids(10)
    half = dict(list(contents.items())[:5])
    tag_once(uri, contents)
    refused = tag_once(uri, half | {"new": "1"})
    assert (refused.refused, refused.deleted, refused.rows) == (5, 0, 1)
    assert identities(uri) == contents | {"new": "1"}, "what is new is done, and nobody is missing"
    confirmed = []

    def say_yes(removed: int, live: int) -> bool:
        confirmed.append((removed, live))
        return True

    assert tag_once(uri, half, deletions=DeletionRule(0.5, confirm=say_yes)).deleted == 6
    assert confirmed == [(6, 11)]
    assert identities(uri) == half
    assert tag_once(uri, {"new": "1"}, deletions=DeletionRule(0.5, accepted=True)).deleted == 5


def test_a_dry_run_neither_asks_nor_marks(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})

    def never(removed: int, live: int) -> bool:
        raise AssertionError("confirm was called")

    dry = tag_once(uri, {"a": "1"}, deletions=DeletionRule(0.1, confirm=never), dry_run=True)
    assert (dry.plan.removed, dry.deleted) == (1, 0)
    assert identities(uri) == {"a": "1", "b": "1"}


def test_a_clock_that_goes_backwards_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    with monkeypatch.context() as patch:
        patch.setattr("time.gmtime", lambda *_: time.struct_time((2001, 1, 1, 0, 0, 0, 0, 1, 0)))
        tag_once(uri, {"a": "2", "b": "1"})
    assert identities(uri) == {"a": "2", "b": "1"}
    assert [row[:4] for row in history(uri).sort("sequence")["run_id"]][-1] == "2001"
    assert tag_once(uri, {"a": "2", "b": "1"}).run_id is None
    table = open_current(Store.open(uri))
    assert table is not None
    assert max(table.record.history).startswith("00000002-2001")


def test_an_output_of_another_bundle_is_tagged_anew_and_the_old_answers_stay_in_the_history(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    assert tag_once(uri, {"a": "1", "b": "1"}, bundle="other").plan.remade == 2
    assert set(read_predictions(uri)["bundle_fingerprint"]) == {"other"}
    assert history(uri)["bundle_fingerprint"].to_list() == [BUNDLE, BUNDLE, "other", "other"]


def test_a_night_killed_at_any_write_shows_every_track_once_and_the_next_ends_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.tables.lease._process_mark", lambda pid: None)
    quick = config_of(lease_seconds=0.05)
    first = {"a1": "1", "a2": "1", "b1": "1", "gone": "1", "bad": "broken"}
    second = {"a1": "2", "a2": "1", "b1": "1", "c1": "1", "bad": "broken"}

    def facts(rows: pl.DataFrame) -> list[Any]:
        return sorted(rows.select("track_id", "content_id", "error_code", pl.col("deleted_at").is_null()).rows())

    whole = str(tmp_path / "whole")
    for contents in (first, second):
        tag_once(whole, contents)
    for at in range(100):
        uri = str(tmp_path / str(at))
        tag_once(uri, first)
        was_killed = killed_at(monkeypatch, at, lambda uri=uri: tag_once(uri, second))  # type: ignore[misc]
        seen = identities(uri)
        assert read_predictions(uri)["track_id"].is_unique().all(), at
        assert set(seen) - {"gone", "c1"} == {"a1", "a2", "b1", "bad"}, at
        tag_once(uri, second, config=quick)
        assert tag_once(uri, second, config=quick).run_id is None, at
        assert facts(read_predictions(uri)) == facts(read_predictions(whole)), at
        assert facts(history(uri)) == facts(history(whole)), at
        if not was_killed:
            assert at > 10
            return
    raise AssertionError("it never came to its end")


def test_an_answer_stays_behind_a_failure_of_the_same_content_and_says_so(tmp_path: Path) -> None:
    uri = str(tmp_path)
    contents = {"a": "1", "b": "1"}
    tag_once(uri, contents)
    first = read_predictions(uri).drop(STALE)
    refused = tag_once(uri, contents, bundle="new", refused=["a"])
    row, other = read_predictions(uri).sort("track_id").to_dicts()
    assert (row["genre"], row["error_code"], row["bundle_fingerprint"]) == ("jazz", None, BUNDLE)
    assert (row["stale_reason"], other["stale_reason"], other["stale_since"]) == ("T102_ACCESS_DENIED", None, None)
    assert other["bundle_fingerprint"] == "new"
    since = row["stale_since"]
    assert since > first["tagged_at"].max()
    assert history(uri).filter(run_id=refused.run_id, track_id="a")["error_code"].item() == "T102_ACCESS_DENIED"
    again = tag_once(uri, contents, bundle="new", refused=["a"])
    assert (again.plan.retried, again.plan.unchanged) == (1, 1), "the failure is seen, and tried again"
    assert read_predictions(uri).filter(track_id="a")["stale_since"].item() == since, "the first failure's time"
    tag_once(uri, contents, bundle="new", force=True)
    rows = read_predictions(uri)
    assert (set(rows["bundle_fingerprint"]), rows["stale_reason"].null_count()) == ({"new"}, 2)


def test_a_failure_of_new_content_is_shown(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    tag_once(uri, {"a": "2"}, refused=["a"])
    row = read_predictions(uri).to_dicts()[0]
    assert (row["content_id"], row["genre"], row["error_code"]) == ("2", None, "T102_ACCESS_DENIED")
    assert (row["stale_since"], row["stale_reason"]) == (None, None)


def test_what_was_written_before_there_were_notes_is_read_shown_and_pruned(tmp_path: Path) -> None:
    contents = ids(30)
    tag_once(str(tmp_path), contents)
    written = [*tmp_path.glob("history/**/*.parquet"), *tmp_path.glob("runs/**/*.parquet")]
    parts = [path for path in written if "note" in pq.read_schema(path).names]
    assert parts
    for path in parts:
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.drop_columns(["note"]), path)
    shutil.rmtree(tmp_path / "current")
    changed = contents | {sorted(contents)[0]: "2"}
    tag_once(str(tmp_path), changed)
    assert identities(str(tmp_path)) == changed
    assert read_predictions(str(tmp_path))["note"].null_count() == 30
    tag_once(str(tmp_path), changed | {sorted(contents)[1]: "2"})
    output = output_of(str(tmp_path))
    prune(output, plan_prune(output, 1))
    assert len(identities(str(tmp_path))) == 30
