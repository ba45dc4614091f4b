"""Features on this node's disk: read once, by one process; damaged files, full disks and splits that change."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from table_makers import TINY, catalogue, commit_part, commit_table, feature_part

from mgc.errors import SchemaError, StorageError
from mgc.storage.objects import DiskFullError
from mgc.storage.store import Store
from mgc.tables import feature_cache
from mgc.tables.feature_cache import clear_feature_cache, mapped_table, spilled
from mgc.tables.feature_shards import COLUMNS, FeatureSet, feature_rows, feature_sets, read_feature_set
from mgc.tables.run_log import OutputDirectory

ABC = dict.fromkeys("abc", "1")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mgc"


@pytest.fixture
def features(tmp_path: Path) -> str:
    commit_part(OutputDirectory(Store.open(str(tmp_path / "features")), "features"), ABC)
    return str(tmp_path / "features")


def values_of(found: FeatureSet) -> list[float]:
    """Return what fills each row, and check that it is all there."""
    for log_mel in found.log_mels:
        assert log_mel.shape == (1, TINY.n_frames, TINY.n_mels)
        assert log_mel.dtype == np.float16
        assert (log_mel == log_mel[0, 0, 0]).all()
    return [float(log_mel[0, 0, 0]) for log_mel in found.log_mels]


def test_what_was_read_once_needs_no_shards(features: str) -> None:
    first = read_feature_set(features, catalogue(ABC), "train")
    (part,) = Path(features).rglob("part-*.parquet")
    whole = part.read_bytes()
    part.write_bytes(whole[:4] + bytes(100) + whole[104:])  # its footer is left
    again = read_feature_set(features, catalogue(ABC), "train")
    assert values_of(first) == values_of(again) == [0, -1, -2]
    assert np.array_equal(again.finite, [True] * 3)
    clear_feature_cache(features)
    with pytest.raises(SchemaError, match=part.name):
        read_feature_set(features, catalogue(ABC), "train")


def test_a_shard_that_goes_in_the_middle_is_an_error_that_names_it(features: str, cache: Path) -> None:
    shard = next(Path(features).rglob("part-*.parquet"))
    whole = shard.read_bytes()
    for bad in (whole[:-9], None):
        shard.write_bytes(bad) if bad else shard.unlink()
        with pytest.raises((SchemaError, StorageError), match=shard.name) as caught:
            read_feature_set(features, catalogue(ABC), "train")
        assert caught.value.remedy
    assert not list(cache.rglob("*.values")) + list(cache.rglob("*.tmp"))
    shard.write_bytes(whole)
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]


def test_two_splits_are_read_in_one_pass(features: str, cache: Path, tmp_path: Path) -> None:
    tracks = catalogue(ABC).with_columns(
        split=pl.Series(["train", "valid", "train"]), genre=pl.Series(["x", None, "y"])
    )
    store = Store.open(str(tmp_path))
    for split in ("train", "valid"):
        rows = feature_rows(features, tracks, split)
        with pa.OSFile(str(tmp_path / split), "wb") as file, pa.ipc.new_file(file, rows.schema) as sink:
            sink.write_table(rows)
    train, valid = feature_sets(features, [mapped_table(store, split) for split in ("train", "valid")])
    assert len(list(cache.rglob("*.values"))) == 1
    assert (values_of(train), values_of(valid)) == ([0, -2], [-1])
    for found, split in ((train, "train"), (valid, "valid")):
        held = read_feature_set(features, tracks, split)
        assert [list(getattr(found, name)) for name in COLUMNS.values()] == [
            getattr(held, name) for name in COLUMNS.values()
        ]
        assert (found.features, found.feature_fingerprint) == (held.features, held.feature_fingerprint)
    assert (list(train.genres), list(valid.genres)) == (["x", "y"], [None])
    assert (train.tags[1], train.groups[0:2], len(train.views)) == (["drums"], ["a", "c"], 2)


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"no table")
    with pytest.raises(SchemaError, match=r"rows.arrow' cannot be read"):
        mapped_table(Store.open(str(tmp_path)), "rows.arrow")


def test_other_splits_of_the_same_rows_read_nothing_anew(features: str, cache: Path) -> None:
    tracks = catalogue(ABC).with_columns(split=pl.Series(["train", "valid", "train"]))
    train, valid = (read_feature_set(features, tracks, split) for split in ("train", "valid"))
    moved = tracks.with_columns(split=pl.Series(["valid", "valid", "train"]))
    before = sorted(cache.rglob("*.values"))
    assert values_of(read_feature_set(features, moved, "valid")) == [0, -1]
    assert sorted(cache.rglob("*.values")) == before
    assert (values_of(train), values_of(valid)) == ([0, -2], [-1])


def test_a_track_extracted_anew_is_read_anew(features: str) -> None:
    old = read_feature_set(features, catalogue(ABC), "train")
    output = OutputDirectory(Store.open(features), "features")
    commit_part(output, {"x": "1", "y": "1", "c": "1"})
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]
    commit_part(output, {"x": "1", "b": "1", "a": "2"})
    changed = catalogue({"a": "2", "b": "1", "c": "1"})
    assert values_of(read_feature_set(features, changed, "train")) == [-2, -1, -2]
    assert values_of(old) == [0, -1, -2]


@pytest.mark.parametrize("kind", ["*.arrow", "*.values"])
@pytest.mark.parametrize("how", ["cut", "empty", "longer", "gone"])
def test_a_damaged_cache_is_made_anew(features: str, cache: Path, kind: str, how: str) -> None:
    read_feature_set(features, catalogue(ABC), "train")
    (file,) = cache.rglob(kind)
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": whole[:-10], "empty": b"", "longer": b"12345678" + whole}[how])
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]
    assert len(list(cache.rglob("*.values"))) == len(list(cache.rglob("*.arrow"))) == 1


def test_what_a_killed_process_left_is_removed(features: str, cache: Path) -> None:
    read_feature_set(features, catalogue({"a": "1"}), "train")
    (folder,) = cache.glob("features-*")
    (folder / "dead.tmp").write_bytes(b"part of a file")
    (folder / "dead.values").write_bytes(b"values without their entries")
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]
    assert not list(folder.glob("dead*"))


def test_files_are_cut_where_they_grow_long(features: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "FILE_ROWS", 2)
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]
    assert len(list(cache.rglob("*.values"))) == 2


def test_a_disk_without_room_is_refused_before_it_is_full(
    features: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for track in "de":
        commit_part(OutputDirectory(Store.open(features), "features"), {track: "1"})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, feature_cache.SPARE_BYTES + 10))
    with pytest.raises(DiskFullError, match=r"GB more are needed.*\n.*XDG_CACHE_HOME") as caught:
        read_feature_set(features, catalogue(ABC | {"d": "1", "e": "1"}), "train")
    assert caught.value.code == "MGC204"
    assert not list(cache.rglob("*.tmp"))


def test_a_disk_that_fills_is_an_error_with_a_code(features: str, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DiskFullError, match="features cannot be kept") as caught:
            read_feature_set(features, catalogue(ABC), "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "MGC204"
    assert not list(cache.rglob("*.tmp")) + list(cache.rglob("*.values"))
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]


def test_a_cache_that_may_not_be_written_is_in_the_folder_for_temporary_files(
    features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]
    (folder,) = (tmp_path / "tmp").glob("mgc-*")
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("*.values"))


def test_clearing_takes_nothing_from_those_who_read(features: str, cache: Path) -> None:
    found = read_feature_set(features, catalogue(ABC), "train")
    clear_feature_cache(features + "/")
    assert not list(cache.glob("features-*"))
    assert values_of(found) == [0, -1, -2]
    assert values_of(read_feature_set(features, catalogue(ABC), "train")) == [0, -1, -2]


def test_a_new_cache_removes_those_that_nobody_opened_for_a_day(features: str, cache: Path) -> None:
    for name, hours in (("features-old", 25), ("features-young", 23), ("filter-banks-old", 25)):
        (cache / name).mkdir(parents=True)
        then = (cache / name).stat().st_mtime - hours * 3600
        os.utime(cache / name, (then, then))
    read_feature_set(features, catalogue(ABC), "train")
    left = {path.name for path in cache.iterdir()}
    assert "features-old" not in left
    assert {"features-young", "filter-banks-old"} < left


def test_processes_that_come_at_once_read_the_shards_once(features: str, cache: Path) -> None:
    lines = (
        "import sys; sys.path[:0] = sys.argv[2:]; from table_makers import catalogue",
        "from mgc.tables.feature_shards import read_feature_set",
        "found = read_feature_set(sys.argv[1], catalogue(dict.fromkeys('abc', '1')), 'train')",
        "print([float(one[0, 0, 0]) for one in found.log_mels])",
    )
    command = [sys.executable, "-c", "\n".join(lines), features, *sys.path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=120)[0] for process in running} == {"[0.0, -1.0, -2.0]\n"}
    assert len(list(cache.rglob("*.values"))) == 1


def test_an_index_that_names_rows_its_part_lacks_is_an_error(tmp_path: Path) -> None:
    output = OutputDirectory(Store.open(str(tmp_path / "other")), "features")
    commit_part(output, ABC)
    part = next((tmp_path / "other").rglob("part-*.parquet"))
    commit_table(OutputDirectory(Store.open(str(tmp_path / "two")), "features"), feature_part({"a": "1"}), "f")
    shutil.copy(next((tmp_path / "two").rglob("part-*.parquet")), part)
    with pytest.raises(SchemaError, match="holds 1 of 3 rows that its index names"):
        read_feature_set(str(tmp_path / "other"), catalogue(ABC), "train")


def test_arrays_in_a_file_without_a_name(cache: Path) -> None:
    parts = [np.full((count, 2), count, np.float32) for count in (1, 0, 3)]
    found = spilled(iter(parts), (2,))
    assert np.array_equal(found, np.concatenate(parts))
    assert spilled(iter([]), (5,)).shape == (0, 5)
    assert not [path for path in cache.iterdir() if path.is_file()]


def test_a_spill_that_fills_the_disk_has_the_code_too(cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DiskFullError, match=os.strerror(errno.EFBIG)):
            spilled((np.zeros((1_000, 2), np.float32) for _ in range(3)), (2,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
