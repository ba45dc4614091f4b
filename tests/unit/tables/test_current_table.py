"""`current` as a Delta table: writers that meet, readers that poll, files that are lost or replaced."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from curation_makers import prediction
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError
from in_process import without_ray
from tiny_predictions import BUNDLE, files, history, identities, ids, output_of, tag_once

from mgc.errors import LeaseError, SchemaError, StorageError
from mgc.storage.objects import ObjectInfo
from mgc.storage.store import Store
from mgc.tables import publish as published
from mgc.tables.compact import plan_prune, prune
from mgc.tables.deletions import DeletionRule
from mgc.tables.parquet_batches import frame_of, parquet_bytes
from mgc.tables.predictions import read_predictions
from mgc.tables.publish import NOTES, open_current, publish
from mgc.tables.run_index import STALE, index_rows, run_part_refs, write_index
from mgc.tables.run_log import Commit
from mgc.tables.schema import CURRENT_PREDICTIONS, marked

NULLABLE = [each.name for each in CURRENT_PREDICTIONS if each.nullable]
"""Columns that may be null."""


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def one_version_of(current: DeltaTable) -> dict[str, str]:
    rows = current.to_pyarrow_table(columns=["track_id", "content_id"]).to_pylist()
    assert len({row["track_id"] for row in rows}) == len(rows)
    return {row["track_id"]: row["content_id"] for row in rows}


class HeldUp:
    """A publisher that is stopped right before it changes `current`, while something else happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object], *, killed: bool) -> None:
        commit, self.first = published._commit, True

        def stopped(*arguments: Any) -> None:
            if self.first:
                self.first = False
                meanwhile()
                if killed:
                    raise KeyboardInterrupt
            commit(*arguments)

        monkeypatch.setattr(published, "_commit", stopped)


def commit_only(uri: str, contents: dict[str, str]) -> None:
    """Commit a run that is killed before it publishes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiny_predictions.publish", lambda *_, **__: None)
        tag_once(uri, contents)


def test_a_writer_that_was_held_up_cannot_bring_back_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    second, third = (contents | dict.fromkeys(sorted(contents)[:count], f"{count}") for count in (10, 30))
    commit_only(uri, second)
    HeldUp(monkeypatch, lambda: tag_once(uri, third), killed=False)
    before = open_current(Store.open(uri))
    assert publish(output_of(uri)) is None, "all is done when it goes on"
    assert identities(uri) == third
    after = open_current(Store.open(uri))
    assert before is not None
    assert after is not None
    assert [one.table.version() for one in (before, after) if one.table] == [0, 1]
    assert history(uri).height == 40 + 10 + 30
    assert tag_once(uri, third).run_id is None


def test_a_writer_that_was_held_up_and_killed_leaves_what_came_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    newer = dict.fromkeys(contents, "3")
    commit_only(uri, dict.fromkeys(contents, "2"))
    with monkeypatch.context() as patch:
        HeldUp(patch, lambda: tag_once(uri, newer), killed=True)
        with pytest.raises(KeyboardInterrupt):
            publish(output_of(uri))
    assert identities(uri) == newer
    assert tag_once(uri, newer).run_id is None
    assert identities(uri) == newer


def test_a_track_that_two_writers_add_at_once_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    commit_only(uri, {"a": "1", "d": "1"})
    # Neither replaces a file: by default delta-rs would take both for appends that do not touch each other.
    HeldUp(monkeypatch, lambda: tag_once(uri, {"a": "1", "d": "1", "e": "1"}), killed=False)
    publish(output_of(uri))
    assert one_version_of(DeltaTable(f"{uri}/current")) == {"a": "1", "d": "1", "e": "1"}


def test_two_that_publish_first_at_once_make_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    commit_only(uri, {"a": "1", "b": "1"})
    HeldUp(monkeypatch, lambda: tag_once(uri, {"a": "2", "b": "1"}), killed=False)
    publish(output_of(uri))
    assert identities(uri) == {"a": "2", "b": "1"}
    assert history(uri).height == 3


def test_who_always_comes_too_late_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "WAITS_SECONDS", (0.0, 0.0))
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    commit_only(uri, {"a": "2"})

    def late(*_: object) -> None:
        raise CommitFailedError("version 1 exists")

    monkeypatch.setattr(published, "_commit", late)
    with pytest.raises(StorageError, match="cannot be committed: version 1 exists"):
        publish(output_of(uri))


def test_readers_that_poll_throughout_see_one_row_a_track_of_one_run(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), dict.fromkeys(["a1", "a2", "b", "c"], "1")
    tag_once(uri, contents)
    ended, seen = threading.Event(), []

    def poll(read: Callable[[], dict[str, str]]) -> None:
        while not ended.is_set():
            seen.append(read())

    def by_polars() -> dict[str, str]:
        rows = pl.scan_delta(f"{uri}/current").select("track_id", "content_id").collect()
        assert rows["track_id"].is_unique().all()
        return dict(rows.iter_rows())

    def by_duckdb() -> dict[str, str]:
        with duckdb.connect() as database:
            current = DeltaTable(f"{uri}/current").to_pyarrow_dataset()
            rows = database.from_arrow(current).select("track_id, content_id").fetchall()
        assert len({row[0] for row in rows}) == len(rows)
        return dict(rows)

    ways = [lambda: one_version_of(DeltaTable(f"{uri}/current")), by_polars, by_duckdb, lambda: identities(uri)]
    with ThreadPoolExecutor(len(ways)) as pool:
        polls = [pool.submit(poll, way) for way in ways]
        for number in range(2, 14):
            tag_once(uri, dict.fromkeys(contents, f"{number}"))
        ended.set()
        for done in polls:
            done.result()
    assert all(set(one) == set(contents) for one in seen)
    assert all(len(set(one.values())) == 1 for one in seen), "no reader saw files of two runs"
    assert len(seen) >= len(ways)
    assert list(tmp_path.glob("current/_delta_log/*.checkpoint.parquet")), "a version that is read from a checkpoint"


@pytest.mark.parametrize("cut", [False, True], ids=["deleted", "cut short"])
def test_a_file_of_current_that_is_lost_is_named_and_made_anew_by_the_next_run(tmp_path: Path, cut: bool) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    before = read_predictions(uri)
    path = files(tmp_path)["3"]
    data = path.read_bytes()
    path.unlink()
    if cut:
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SchemaError) as caught:
        read_predictions(uri)
    assert str(path) in caught.value.message
    assert tag_once(uri, contents).run_id is None
    assert read_predictions(uri).equals(before)
    assert files(tmp_path)["3"] != path


def test_replaced_files_stay_for_a_day_and_go_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    first = set(files(tmp_path).values())
    for path in first:
        os.utime(path, (0, 0))  # how old it is says nothing of when it was replaced
    orphan = tmp_path / "current" / "_data" / "a-0000000000000000-000000000000.parquet"
    orphan.write_bytes(b"left by a killed run")
    tag_once(uri, dict.fromkeys(contents, "2"))
    assert all(path.exists() for path in [*first, orphan])
    assert one_version_of(DeltaTable(f"{uri}/current", version=0)) == contents, "as it was before"
    now = time.time()
    monkeypatch.setattr(published.time, "time", lambda: now + published.GRACE_SECONDS + 60)
    assert tag_once(uri, dict.fromkeys(contents, "2")).run_id is None
    assert not any(path.exists() for path in [*first, orphan])
    left = {path.name for path in (tmp_path / "current" / "_data").iterdir()}
    assert left == {path.name for path in files(tmp_path).values()} | {Path(NOTES[1]).name}
    assert identities(uri) == dict.fromkeys(contents, "2")


def two_commits_of_one_part(uri: str) -> None:
    """A run is taken for dead, its parts are resumed and committed by another; then it commits all the same."""
    output = output_of(uri)
    dead = output.start_run(BUNDLE, {})
    tables = {
        number: pa.Table.from_pylist(
            [
                prediction(name, f"/music/{name}.wav", "1", run_id=dead.run_id, sequence=dead.sequence)
                for name in names
            ],
            schema=marked("predictions", fingerprint=BUNDLE),
        )
        for number, names in enumerate((["a", "b"], ["c"]))
    }
    for number in (0, 1):
        output.store.write_atomic(dead.part_key(number), parquet_bytes(tables[number]))
        if number == 0:
            tag_once(uri, {"a": "1", "b": "1", "d": "1"})
    index = pl.concat(
        frame_of(index_rows(table, dead.part_key(number), dead.sequence, BUNDLE)) for number, table in tables.items()
    )
    write_index(output, f"{dead.folder}/index.parquet", index)
    parts = run_part_refs(dead, index)
    output.commit(Commit(dead.run_id, dead.sequence, f"{dead.folder}/index.parquet", parts, dead.facts))


def test_parts_that_two_commits_show_are_once_in_the_history(tmp_path: Path) -> None:
    uri = str(tmp_path)
    two_commits_of_one_part(uri)
    assert history(uri)["track_id"].sort().to_list() == ["a", "b", "d"], "of the one that was published"
    publish(output_of(uri))
    assert history(uri)["track_id"].sort().to_list() == ["a", "b", "c", "d"]
    assert identities(uri) == dict.fromkeys("abcd", "1")
    names = sorted(tmp_path.glob("history/*/*"))
    assert publish(output_of(uri)) is None
    assert sorted(tmp_path.glob("history/*/*")) == names
    killed = output_of(uri)
    prune(killed, plan_prune(killed, 0.0, datetime.now(UTC) + timedelta(days=1)))
    assert history(uri)["track_id"].sort().to_list() == ["a", "b", "c", "d"]


def test_a_catalogue_that_lost_all_its_tracks_has_an_empty_table(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    tag_once(uri, {}, deletions=DeletionRule(0.5, accepted=True))
    assert read_predictions(uri, ["uri", "embedding"]).schema == {"uri": pl.String, "embedding": pl.List(pl.Float32)}
    assert pl.read_delta(f"{uri}/current").is_empty()
    tag_once(uri, {"a": "1"})
    assert identities(uri) == {"a": "1"}


def as_of_an_older_mgc(folder: Path) -> None:
    """Put in place of the Delta table what stood there before: plain files, and a note of what they show."""
    output = output_of(str(folder))
    plain = {digit: path.read_bytes() for digit, path in files(folder).items()}
    shutil.rmtree(folder / "current")
    (folder / "current").mkdir()
    for digit, data in plain.items():
        (folder / "current" / f"part-{digit}.parquet").write_bytes(data)
    commits = [commit.run_id for commit in output.commits()]
    (folder / "_published.json").write_text(json.dumps({"commits": commits, "buckets": {}, "uris": ""}))


def test_an_output_of_an_older_mgc_is_read_and_becomes_a_table_with_the_next_run(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    before = read_predictions(uri)
    as_of_an_older_mgc(tmp_path)
    written = {path: path.stat().st_ino for path in tmp_path.glob("history/*/*")}
    assert read_predictions(uri).equals(before)
    assert tag_once(uri, contents).run_id is None, "nothing is tagged again"
    assert read_predictions(uri).equals(before)
    assert one_version_of(DeltaTable(f"{uri}/current")) == contents
    left = {path.name for path in tmp_path.glob("current/*")}
    assert left == {"_data", "_delta_log", Path(NOTES[0]).name}
    assert not (tmp_path / "_published.json").exists()
    assert {path: path.stat().st_ino for path in tmp_path.glob("history/*/*")} == written


def test_an_output_of_an_older_mgc_that_was_not_published_to_its_end_is(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    as_of_an_older_mgc(tmp_path)
    commit_only(uri, {"a": "2", "b": "1"})
    publish(output_of(uri))
    assert identities(uri) == {"a": "2", "b": "1"}
    assert history(uri)["content_id"].to_list() == ["1", "1", "2"]


def test_a_new_column_of_a_later_mgc_is_in_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, contents = str(tmp_path), ids(40)
    older = pa.schema([each for each in CURRENT_PREDICTIONS if each.name not in STALE])
    with monkeypatch.context() as patch:
        patch.setattr(published, "CURRENT_PREDICTIONS", older)
        patch.setattr(published, "_SCHEMA", Schema.from_arrow(older))
        patch.setattr(published, "STALE", {})
        tag_once(uri, contents)
    assert pl.read_delta(f"{uri}/current").columns == older.names
    changed = contents | {sorted(contents)[0]: "2"}
    tag_once(uri, changed)
    rows = pl.read_delta(f"{uri}/current")
    assert rows.columns == CURRENT_PREDICTIONS.names
    assert dict(rows.select("track_id", "content_id").iter_rows()) == changed
    assert pl.read_delta(f"{uri}/current", version=0).columns == older.names, "and a version of before is what it was"


def test_a_table_that_another_program_changed_is_made_anew(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    for change in (
        lambda: DeltaTable(f"{uri}/current").delete("track_id >= '8'"),
        lambda: write_deltalake(f"{uri}/current", DeltaTable(f"{uri}/current").to_pyarrow_table(), mode="append"),
        lambda: DeltaTable(f"{uri}/current").optimize.compact(),
        lambda: DeltaTable(f"{uri}/current").vacuum(0, dry_run=False, enforce_retention_duration=False, full=True),
    ):
        change()
        assert tag_once(uri, contents).run_id is None
        assert one_version_of(DeltaTable(f"{uri}/current")) == contents
        assert publish(output_of(uri)) is None


def test_what_two_writers_did_where_no_put_is_conditional_is_noticed_by_the_next_run(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    whole = {path: path.read_bytes() for path in tmp_path.glob("current/*/*") if path.is_file()}
    second, third = dict.fromkeys(contents, "2"), dict.fromkeys(contents, "3")
    commit_only(uri, second)
    publish(output_of(uri))
    held_up = next(tmp_path.glob("current/_delta_log/*1.json")).read_bytes()
    tag_once(uri, third)
    # The first of them wrote over the version of the other, which a later one had gone on from.
    log = tmp_path / "current" / "_delta_log"
    (log / f"{2:020}.json").write_bytes(held_up)
    assert whole
    assert tag_once(uri, third).run_id is None
    assert one_version_of(DeltaTable(f"{uri}/current")) == third
    assert history(uri).height == 120


def test_a_writer_whose_lease_was_taken_changes_nothing(tmp_path: Path) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    commit_only(uri, {"a": "2"})

    def taken() -> None:
        raise LeaseError("another run has taken over", "")

    with pytest.raises(LeaseError):
        publish(output_of(uri), taken)
    assert identities(uri) == {"a": "1"}
    assert publish(output_of(uri)) == 1
    assert identities(uri) == {"a": "2"}


def test_a_commit_that_the_listing_shows_late_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    tag_once(uri, {"a": "2", "b": "1"})
    late = next(path.name for path in (tmp_path / "commits").iterdir() if path.name.startswith("00000002"))
    listed = Store.list

    def without(store: Store, prefix: str = "") -> Iterator[ObjectInfo]:
        return (item for item in listed(store, prefix) if not item.key.endswith(late))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "list", without)
        assert publish(output_of(uri)) is None
        commit_only(uri, {"a": "1", "b": "3"})  # which finds the first answer of a current, and does b alone
        publish(output_of(uri))
    assert identities(uri) == {"a": "2", "b": "3"}
    assert publish(output_of(uri)) is None


@pytest.mark.parametrize("damage", [b"", b'{"add":', None], ids=["empty", "torn", "deleted"])
def test_a_damaged_version_is_named_or_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1"})
    tag_once(uri, {"a": "2"})
    last = tmp_path / "current" / "_delta_log" / f"{1:020}.json"
    last.unlink() if damage is None else last.write_bytes(damage)
    if damage:
        with pytest.raises(SchemaError, match="cannot be opened as a Delta table") as caught:
            tag_once(uri, {"a": "2"})
        assert "delete that folder" in caught.value.remedy
        shutil.rmtree(tmp_path / "current")
    assert tag_once(uri, {"a": "2"}).run_id is None
    assert identities(uri) == {"a": "2"}


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a#b?c+d", "50% off", "[x]{y}'z"])
def test_other_paths_are_fine(tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / name)
    for content in "12":
        tag_once(uri, {"a": content})
        assert identities(uri) == {"a": content}
        assert one_version_of(DeltaTable(f"{uri}/current")) == {"a": content}


def test_null_and_wide_columns_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    embedding = [float(number) for number in range(4_096)]
    tags = {f"tag {number:03}": number / 1_000 for number in range(600)}

    def wide(*identity: str, **changes: Any) -> dict[str, Any]:
        row = prediction(*identity, **changes)
        if identity[0] == "b":
            return row | {name: None for name in NULLABLE if name in row}
        return row | {"embedding": embedding, "tag_probabilities": list(tags.items()), "tags": list(tags)}

    monkeypatch.setattr("tiny_predictions.prediction", wide)
    tag_once(uri, {"a": "1", "b": "1"})
    tag_once(uri, {"a": "1", "b": "1", "a2": "1"})
    for rows in (
        read_predictions(uri).sort("track_id").to_arrow().to_pylist(),
        sorted(DeltaTable(f"{uri}/current").to_pyarrow_table().to_pylist(), key=lambda row: row["track_id"]),
    ):
        assert rows[0]["embedding"] == rows[1]["embedding"] == embedding
        assert len(rows[0]["tag_probabilities"]) == 600
        assert [name for name, value in rows[2].items() if value is None] == NULLABLE


def test_what_a_killed_pruning_left_in_the_history_goes_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    tag_once(uri, {"a": "1", "b": "1"})
    tag_once(uri, {"a": "2", "b": "1"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", die)
        output = output_of(uri)
        with pytest.raises(KeyboardInterrupt):
            prune(output, plan_prune(output, -1.0))
    assert history(uri).height == 5, "the old rows, and those that stay once more"
    assert tag_once(uri, {"a": "2", "b": "1"}).run_id is None
    assert history(uri).select("track_id", "content_id").rows() == [("b", "1"), ("a", "2")]
