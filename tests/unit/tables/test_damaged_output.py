"""Files of an output directory that a disk or a store damaged: of a killed run they are done again, else named."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import config_of, run_tiny, without_ray
from table_makers import TINY, catalogue, commit_part, feature_part, write_part

from mgc.cli.prune_command import prune
from mgc.errors import MgcError, SchemaError
from mgc.storage.store import Store
from mgc.tables.lease import run_lease
from mgc.tables.run_index import current_index, current_rows, newest_index, resume_unfinished
from mgc.tables.run_log import OutputDirectory


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_column(data: bytes) -> bytes:
    buffer = io.BytesIO()
    table = pq.read_table(io.BytesIO(data))
    pq.write_table(table.drop_columns(["content_id"]), buffer)
    return buffer.getvalue()


def of_another_kind(_: bytes) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"track_id": ["a"]}), buffer)
    return buffer.getvalue()


def scribbled(data: bytes) -> bytes:
    return data[:4] + bytes(255 - byte for byte in data[4 : len(data) // 2]) + data[len(data) // 2 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": truncated,
    "no footer": lambda data: data[:-4],
    "zeros": lambda data: bytes(len(data)),
    "other kind": of_another_kind,
    "without a column": without_column,
    "scribbled": scribbled,
}


def features_at(path: Path) -> OutputDirectory:
    return OutputDirectory(Store.open(str(path)), "features")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_of_a_killed_run_is_done_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_ray(monkeypatch)
    output = features_at(tmp_path)
    run = output.start_run(TINY.fingerprint(), {})
    write_part(output, run, 0, feature_part({"a": "1", "b": "1"}))
    write_part(output, run, 1, feature_part({"c": "1"}))
    path = tmp_path / run.part_key(0)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="mgc"):
        outcome = run_tiny(str(tmp_path), catalogue({"a": "1", "b": "1", "c": "1"}), config=config_of())
    assert "not resumed, its tracks are done again" in caplog.text
    assert str(path) in caplog.text
    assert outcome.resumed == 1
    index = newest_index(output)
    assert sorted(index.filter(pl.col("part").str.contains(outcome.run_id))["track_id"]) == ["a", "b"]
    assert sorted(index["track_id"]) == ["a", "b", "c"]
    assert sum(table.num_rows for table in current_rows(output, index)) == 3
    again = run_tiny(str(tmp_path), catalogue({"a": "1", "b": "1", "c": "1"}), config=config_of())
    assert again.run_id is None


def test_a_damaged_record_of_a_killed_run_costs_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_ray(monkeypatch)
    output = features_at(tmp_path)
    run = output.start_run(TINY.fingerprint(), {})
    write_part(output, run, 0, feature_part({"a": "1"}))
    for content in ("", "{", "[]", "{}", '"x"', "\x00"):
        (started,) = (tmp_path / "started").glob(f"*{run.run_id}.json")
        started.write_text(content)
        with caplog.at_level(logging.WARNING, logger="mgc"):
            assert resume_unfinished(output, TINY.fingerprint()).parts == []
        assert "nothing of that run is resumed" in caplog.text
    outcome = run_tiny(str(tmp_path), catalogue({"a": "1"}))
    assert (outcome.resumed, outcome.rows) == (0, 1)
    assert [each.sequence for each in output.runs()] == [1, 2]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["part-000000.parquet", "index.parquet"])
def test_a_damaged_committed_file_is_named(name: str, damage: str, tmp_path: Path) -> None:
    output = features_at(tmp_path)
    run = commit_part(output, {"a": "1", "b": "1"})
    path = tmp_path / run.folder / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(SchemaError) as caught:
        _ = [*current_rows(output, current_index(output, catalogue({"a": "1", "b": "1"})))]
    assert str(path) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["commits", "_mgc.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_damaged_commit_or_marker_is_named(key: str, content: str, tmp_path: Path) -> None:
    commit_part(features_at(tmp_path), {"a": "1"})
    path = tmp_path / key
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_text(content)
    with pytest.raises(MgcError) as caught:
        newest_index(features_at(tmp_path))
    assert str(path) in str(caught.value) or content == "[]"
    with pytest.raises(MgcError):
        prune(str(tmp_path))


def test_a_damaged_lease_is_nobodys(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for number, content in enumerate((b"", b"{", b"[]", b'{"name": 1}')):
        store.write_atomic(f"leases/{number}.json", content)
    with run_lease(store, 5.0) as lease:
        lease.require()
