"""JSON that is damaged, of another shape, or nested without end: a code, or as if it were not there; no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from in_process import run_tiny, without_ray
from table_makers import catalogue

from mgc.cli.train_command import _tags
from mgc.cluster.members import Watcher, progress_key
from mgc.config import load_config
from mgc.config.section import from_json, json_object
from mgc.curation.filetags.journal import Entry, read_journal
from mgc.curation.filetags.tag_fields import read_sidecar
from mgc.curation.similarity import _manifest
from mgc.errors import MgcError, TrainingError
from mgc.models.bundle_files import read_manifest
from mgc.reports.track_map import TrackMap
from mgc.storage.store import Store
from mgc.studies.runs import finished_runs
from mgc.tables.lease import run_lease
from mgc.tables.run_log import MARKER, OutputDirectory, PartRef
from mgc.tables.run_records import _record
from mgc.training.search import read_result
from mgc.training.state import TrainingState

DEEP = 100_000
STRANGE = {
    "nothing": b"",
    "cut": b'{"kind": "feat',
    "null": b"null",
    "list": b"[1, 2]",
    "pairs": b'[["kind", "features"]]',
    "number": b"7",
    "empty object": b"{}",
    "no utf-8": b'{"kind": "\xff\xfe"}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "wrong types": b'{"kind": [], "name": 1, "parts": 3, "sequence": "x", "run_id": null, "facts": [], "files": 1}',
}


@pytest.fixture(params=STRANGE)
def strange(request: pytest.FixtureRequest) -> bytes:
    return STRANGE[request.param]


def ends_in_a_code(call: Callable[[], object]) -> None:
    with pytest.raises(MgcError) as caught:
        call()
    assert caught.value.code in {"MGC101", "MGC302", "MGC401", "MGC402"}
    assert caught.value.remedy


def test_what_is_no_object_is_a_value_error() -> None:
    assert json_object(b'{"a": [1]}') == {"a": [1]}
    for name in STRANGE.keys() - {"empty object", "wrong types"}:
        with pytest.raises(ValueError):  # noqa: PT011 - what it says is another library's
            json_object(STRANGE[name])


def test_a_dataclass_is_made_of_fields_of_its_types_alone() -> None:
    part = PartRef("runs/a/part-0.parquet", 3, "f", 1)
    assert from_json(PartRef, json.dumps(asdict(part))) == part
    for change in ({"rows": "many"}, {"rows": None}, {"key": 1}):
        with pytest.raises(ValueError, match=next(iter(change))):
            from_json(PartRef, json.dumps(asdict(part) | change))


def test_an_output_directory_with_strange_records(
    strange: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    run_tiny(str(tmp_path), catalogue({"a": "1"}))
    store = Store.open(str(tmp_path))
    (started,) = store.list("started/")
    store.write_atomic(started.key, strange)
    (run,) = OutputDirectory(store, "features").runs()
    assert (run.sequence, run.fingerprint) == (1, "")
    (commit,) = store.list("commits/")
    store.write_atomic(commit.key, strange)
    ends_in_a_code(OutputDirectory(store, "features").commits)
    store.write_atomic("leases/strange.json", strange)
    with run_lease(store, 60.0):  # nobody lives by it
        pass
    store.write_atomic(MARKER, strange)
    ends_in_a_code(lambda: OutputDirectory(store, "features"))


def test_what_is_read_at_a_uri(strange: bytes, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for key in ("manifest.json", "tuning.json", "similar/manifest.json", progress_key("key", 0)):
        store.write_atomic(key, strange)
    ends_in_a_code(lambda: read_manifest(store))
    ends_in_a_code(lambda: read_result(store))
    assert _manifest(store) is None
    Watcher(store.uri(), "key", 1, lambda *_: None, lambda *_: None).poll()
    with pytest.raises(MgcError):
        read_sidecar(strange, "song.mgc.json")
    assert _record(strange) is None
    assert TrackMap.from_json(strange) is None
    with pytest.raises(TrainingError, match="checkpoint"):
        TrainingState.from_bytes(len(strange).to_bytes(8, "little") + strange)


def test_files_of_the_command_line(strange: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(strange)
    ends_in_a_code(lambda: read_journal(str(path)))
    ends_in_a_code(lambda: _tags(path, None))


def test_a_journal_whose_entries_are_strange(tmp_path: Path) -> None:
    entry = Entry("t", "a.mp3", "file", "1", "2", "1", "2", "x", "y", delta=[[0, 4], "AAAA"])
    head = {"mgc_tag_journal": 1, "catalogue": "c", "predictions": "p", "started_at": "now"}
    path = tmp_path / "journal.jsonl"
    path.write_text(f"{json.dumps(head)}\n{json.dumps(asdict(entry))}\n")
    assert read_journal(str(path)).entries == [entry]
    for change in ({"delta": [[1]]}, {"delta": ["no base64"]}, {"delta": 3}, {"uri": None}, {"into": "the bin"}):
        path.write_text(f"{json.dumps(head)}\n{json.dumps(asdict(entry) | change)}\n")
        ends_in_a_code(lambda: read_journal(str(path)))
    path.write_text(f"{json.dumps(head | {'catalogue': 3})}\n")
    ends_in_a_code(lambda: read_journal(str(path)))


def test_settings_that_are_nested_without_end(tmp_path: Path) -> None:
    deep = "a = " + "[" * 5_000 + "]" * 5_000
    (tmp_path / "deep.toml").write_text(deep)
    ends_in_a_code(lambda: load_config(str(tmp_path / "deep.toml"), []))
    ends_in_a_code(lambda: load_config(None, [f"training.epochs={'[' * 5_000}"]))


def test_a_strange_run_of_an_experiment_is_made_anew(strange: bytes, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.write_atomic("runs/system.protocol.key.json", strange)
    run = SimpleNamespace(key="key")
    assert finished_runs(store, [run], any_code=True) == {}  # type: ignore[list-item]
