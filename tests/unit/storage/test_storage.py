from __future__ import annotations

import inspect
import os
import pickle
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from failing_s3 import failing_s3
from s3fs import S3FileSystem

from mgc.config import DecodeConfig
from mgc.errors import Stage, StorageError, TrackCode, TrackError
from mgc.storage.local_files import replace_file, stat_id
from mgc.storage.objects import TEMPORARY_PREFIX, AccessDeniedError, ObjectInfo, ObjectNotFoundError
from mgc.storage.store import Store, content_hash, fetch_track, split_uri

NOBODY = 65_534


def store_with(folder: Path, *keys: str) -> Store:
    store = Store.open(str(folder))
    for key in keys:
        store.write_atomic(key, key.encode())
    return store


@contextmanager
def without_permission(folder: Path) -> Iterator[None]:
    """Run as a user who may not enter `folder`; root may enter all, so root becomes nobody for a while."""
    folder.chmod(0o000)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_files_are_listed_in_the_key_order_of_s3(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a/x", "a-b/x", "a.wav", "B", "é", "a/é/z")
    assert [item.key for item in store.list()] == ["B", "a-b/x", "a.wav", "a/x", "a/é/z", "é"]
    assert [item.key for item in store.list("a/")] == ["a/x", "a/é/z"]
    assert [item.key for item in store.list("a")] == ["a-b/x", "a.wav", "a/x", "a/é/z"]
    assert list(store.list("none/")) == []


def test_a_listed_file_has_size_time_and_an_id_that_changes_with_it(tmp_path: Path) -> None:
    store = store_with(tmp_path, "song.wav")
    os.utime(tmp_path / "song.wav", ns=(0, 1_700_000_000_123_456_789))
    assert list(store.list()) == [
        ObjectInfo("song.wav", 8, "8-1700000000123456789", pytest.approx(1_700_000_000.123))
    ]
    assert store.stat("song.wav") == next(store.list())


def test_links_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    store = store_with(tmp_path / "root", "a/x.wav")
    store_with(tmp_path / "elsewhere", "y.wav")
    (tmp_path / "root/a/again").symlink_to(tmp_path / "root", target_is_directory=True)
    (tmp_path / "root/other").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "root/dangling.wav").symlink_to(tmp_path / "nothing")
    assert [item.key for item in store.list()] == ["a/x.wav", "other/y.wav"]


def walked(store: Store) -> list[str | tuple[str, str]]:
    return [
        item.key if isinstance(item, ObjectInfo) else (item.key, item.why) for item in store.walk(lambda key: False)
    ]


LINKED = "link to a folder that is listed already"


def test_folders_that_link_to_each_other_are_listed_once_each(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(8)]
    store = store_with(tmp_path, *(f"{name}/song.mp3" for name in names))
    for name in names:
        for other in set(names) - {name}:
            (tmp_path / name / f"to-{other}").symlink_to(f"../{other}", target_is_directory=True)
    assert [item.key for item in store.list()] == [f"{name}/song.mp3" for name in names]
    assert sum(item[1] == LINKED for item in walked(store) if isinstance(item, tuple)) == 56


def test_folders_outside_that_link_to_each_other_are_listed_under_the_first_link(tmp_path: Path) -> None:
    store = store_with(tmp_path / "root", "own.mp3")
    store_with(tmp_path / "disk", "one/1.mp3", "two/2.mp3")
    for name, other in [("one", "two"), ("two", "one")]:
        (tmp_path / "disk" / name / "other").symlink_to(f"../{other}", target_is_directory=True)
    for name in ("first", "second"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "disk" / "one", target_is_directory=True)
    found = ["first/1.mp3", "first/other/2.mp3", ("first/other/other/", LINKED), "own.mp3", ("second/", LINKED)]
    assert walked(store) == found


def test_a_link_into_an_excluded_folder_is_followed(tmp_path: Path) -> None:
    store = store_with(tmp_path, ".data/rock/1.mp3")
    (tmp_path / "rock").symlink_to(".data/rock", target_is_directory=True)
    items = store.walk(lambda key: key.startswith("."))
    assert [(item.key, isinstance(item, ObjectInfo)) for item in items] == [(".data/", False), ("rock/1.mp3", True)]


def test_what_is_no_file_is_walked_over_by_name(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "dangling.wav").symlink_to("nothing")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    found = ["a.wav", ("dangling.wav", "not there"), ("loop.txt", "not there"), ("pipe.wav", "not a regular file")]
    assert walked(store) == found
    assert [item.key for item in store.list()] == ["a.wav"]
    with pytest.raises(TrackError, match="it is a link that leads nowhere") as caught:
        store.fetch("dangling.wav", 10)
    assert caught.value.track_code is TrackCode.NOT_FOUND


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_a_file_that_is_read_only_stays_as_it_is(tmp_path: Path, mode: int) -> None:
    store = store_with(tmp_path, "a.parquet")
    before = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").chmod(mode)
    with pytest.raises(AccessDeniedError, match="it is read-only"):
        store.write_atomic("a.parquet", b"new")
    with pytest.raises(StorageError, match="it is read-only"):
        replace_file(str(tmp_path / "a.parquet"), b"new", stat_id(str(tmp_path / "a.parquet")))
    assert (tmp_path / "a.parquet").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "a.parquet"]
    (tmp_path / "a.parquet").chmod(0o644)
    store.write_atomic("a.parquet", b"new")
    assert (tmp_path / "a.parquet").read_bytes() == b"new"


def test_names_are_on_the_disk_once_a_write_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    Store.open(str(tmp_path)).write_atomic("folder/a", b"new")
    assert synced[1:] == [str(tmp_path / "folder")]
    assert TEMPORARY_PREFIX in synced[0]


def test_a_folder_that_vanishes_while_it_is_listed_is_passed_over(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    listed = store.list()
    assert next(listed).key == "a/1.wav"
    shutil.rmtree(tmp_path / "b")
    assert [item.key for item in listed] == ["c/3.wav"]


def test_folders_deeper_than_python_recurses_are_listed(tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1_200):
            Path("d").mkdir()
            os.chdir("d")
        Path("song.wav").write_bytes(b"any")
        listed = [item.key for item in Store.open(str(tmp_path)).list()]
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # shutil.rmtree recurses
    assert listed == ["d/" * 1_200 + "song.wav"]


@pytest.mark.parametrize("name", ["~tilde.mp3", "~nobody"])
def test_a_tilde_in_front_of_a_name_is_no_home(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert Store.open(name).root == str(tmp_path / name)
    assert (Store.open("~").root, Store.open("~/Music").root) == ("/home/me", "/home/me/Music")


def test_a_named_pipe_is_neither_listed_nor_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    store = Store.open(str(tmp_path))
    assert list(store.list()) == []
    assert not store.exists("pipe.wav")
    with pytest.raises(TrackError, match="not a regular file") as caught:
        store.fetch("pipe.wav", 10)
    assert caught.value.track_code is TrackCode.FETCH_FAILED


def test_more_names_than_are_sorted_at_once_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.local_files.NAMES_AT_ONCE", 7)
    names = [f"{number:03d}" for number in range(50)]
    store = store_with(tmp_path, *reversed(names))
    assert [item.key for item in store.list()] == names


def test_a_write_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a/table")
    with pytest.raises(TypeError):
        store.write_atomic("a/table", "no bytes")  # type: ignore[arg-type]
    assert store.read_bytes("a/table") == b"a/table"
    store.write_atomic("a/table", memoryview(b"new"))
    assert store.read_bytes("a/table") == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["table"]


def test_written_files_have_the_mode_that_the_user_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store_with(tmp_path, "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_a_killed_write_left_is_not_listed(tmp_path: Path) -> None:
    store = store_with(tmp_path, "file")
    (tmp_path / f"{TEMPORARY_PREFIX}0123").write_bytes(b"half")
    assert [item.key for item in store.list()] == ["file"]


def test_ranges_and_whole_reads(tmp_path: Path) -> None:
    store = store_with(tmp_path, "0123456789")
    key = "0123456789"
    assert store.read_bytes(key) == b"0123456789"
    assert store.read_bytes(key, 2, 5) == b"234"
    assert store.read_bytes(key, 8) == b"89"
    assert store.read_bytes(key, 5, 5) == b""
    assert store.read_bytes(key, 20, 30) == b""
    assert store.glimpse(key, 4).head == b"0123"
    with store.open_input(key) as source:
        source.seek(7)
        assert source.read(2) == b"78"


def test_what_is_missing_is_told_apart_from_what_is_wrong(tmp_path: Path) -> None:
    store = store_with(tmp_path, "file")
    assert store.exists("file")
    assert not store.exists("none")
    assert not store.exists(".")
    with pytest.raises(ObjectNotFoundError, match=r"'.*none' does not exist"):
        store.read_bytes("none")
    with pytest.raises(StorageError, match="a file is in the way"):
        store.write_atomic("file/below", b"")


def test_deleting_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a/1", "a/b/2", "c")
    store.delete("c")
    store.delete("c")
    store.delete_tree("a/")
    store.delete_tree("a")
    assert list(store.list()) == []
    with pytest.raises(StorageError, match="will not delete all"):
        store.delete_tree("/")


def test_a_store_travels_by_pickle(tmp_path: Path) -> None:
    store = store_with(tmp_path, "file")
    assert pickle.loads(pickle.dumps(store)).read_bytes("file") == b"file"


def test_arrow_reads_and_writes_in_the_same_place(tmp_path: Path) -> None:
    place = Store.open(str(tmp_path)).arrow_filesystem()
    pq.write_table(pa.table({"a": [1, 2]}), f"{place.path}/t.parquet", filesystem=place.filesystem)
    with Store.open(str(tmp_path)).open_input("t.parquet") as source:
        assert pq.read_table(source)["a"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a b/c/", "s3://bucket/a b/c"),
        ("file:///a%20b/c", "/a b/c"),
        ("file://localhost/c/", "/c"),
        ("/a/../b", "/b"),
    ],
)
def test_roots_are_written_one_way(uri: str, root: str) -> None:
    assert Store.open(uri).root == root
    assert Store.open(uri).uri() == root
    assert Store.open(uri).uri("k/é") == f"{root}/k/é"


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store.open("music").root == str(tmp_path / "music")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/a", "not gs://"),
        ("http://host/a", "not http://"),
        ("s3://", "no bucket"),
        ("s3:///key", "no bucket"),
        ("file://host/a", "another machine"),
    ],
)
def test_other_uris_are_refused_by_name(uri: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        Store.open(uri)


def test_a_uri_is_split_into_root_and_key(tmp_path: Path) -> None:
    assert split_uri("s3://bucket/a//b.wav") == ("s3://bucket", "a//b.wav")
    assert split_uri("/music/a/b.wav") == ("/music/a", "b.wav")
    assert split_uri(str(tmp_path / "x")).root == str(tmp_path)
    for uri in ("s3://bucket", "s3://bucket/a/", "/"):
        with pytest.raises(StorageError, match="names no file"):
            split_uri(uri)


def test_a_track_is_fetched_by_its_uri(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a/song.wav")
    content_id = store.stat("a/song.wav").content_id
    assert fetch_track(store.uri("a/song.wav"), DecodeConfig(max_file_bytes=100), content_id) == b"a/song.wav"
    assert store.fetch("a/song.wav", 10) == b"a/song.wav"
    assert store.fetch("a/song.wav", 10, content_hash(store, "a/song.wav", 10)) == b"a/song.wav"


def test_a_hash_is_of_all_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_with(tmp_path, "0123456789")
    # $ printf 0123456789 | b2sum -l 128
    whole = content_hash(store, "0123456789", 10)
    monkeypatch.setattr("mgc.storage.store.HASH_BYTES_AT_ONCE", 3)
    assert content_hash(store, "0123456789", 10) == whole == "blake2b:42e3751db34b3d102c382fa96db38bbb"


def test_why_a_track_was_not_fetched(tmp_path: Path) -> None:
    store = store_with(tmp_path, "song.wav")
    (tmp_path / "folder.wav").mkdir()
    why = {
        TrackCode.NOT_FOUND: ("none.wav", 100, None),
        TrackCode.TOO_LARGE: ("song.wav", 7, None),
        TrackCode.FETCH_FAILED: ("folder.wav", 100, None),
        TrackCode.CHANGED_SINCE_INDEX: ("song.wav", 100, "8-1"),
    }
    for code, (key, max_bytes, content_id) in why.items():
        with pytest.raises(TrackError) as caught:
            store.fetch(key, max_bytes, content_id)
        assert caught.value.track_code is code
        assert caught.value.stage is Stage.FETCH
        assert str(tmp_path) not in caught.value.message
    with pytest.raises(TrackError, match="hash differently") as caught:
        store.fetch("song.wav", 100, "blake2b:00")
    assert caught.value.track_code is TrackCode.CHANGED_SINCE_INDEX


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    store = store_with(tmp_path / "root", "song.wav")
    with without_permission(tmp_path / "root"):
        with pytest.raises(TrackError) as caught:
            store.fetch("song.wav", 100)
        with pytest.raises(AccessDeniedError, match=r"no permission to list .*root"):
            store.check_readable()
        with pytest.raises(AccessDeniedError, match="no permission to write"):
            store.check_writable()
        with pytest.raises(AccessDeniedError, match="no permission"):
            list(store.list())
    assert caught.value.track_code is TrackCode.ACCESS_DENIED


def test_a_folder_below_that_may_not_be_listed_is_not_passed_over() -> None:
    # Not tmp_path: pytest closes its folders to others, and root must become one to be refused.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = store_with(Path(folder), "a/1.wav", "b/2.wav", "c/3.wav")
        with without_permission(Path(folder) / "b"):
            listed = store.list()
            assert next(listed).key == "a/1.wav"
            with pytest.raises(AccessDeniedError, match=r"no permission to list '.*/b/'"):
                next(listed)


def test_checks_before_any_work(tmp_path: Path) -> None:
    store_with(tmp_path, "file").check_readable()
    store_with(tmp_path, "file").check_writable()
    Store.open(str(tmp_path / "not/yet")).check_writable()
    assert not (tmp_path / "not").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ObjectNotFoundError, match=r"'.*none' does not exist"):
        Store.open(str(tmp_path / "none")).check_readable()
    with pytest.raises(StorageError, match="a file is in the way"):
        Store.open(str(tmp_path / "file")).check_readable()
    with pytest.raises(StorageError, match="a file is in the way"):
        Store.open(str(tmp_path / "file/below")).check_writable()


def test_an_archived_object_is_to_be_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    with failing_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = Store.open("s3://music/catalogue")
        store.write_atomic("a.wav", b"bytes")
        server.denied, server.denial = lambda key: True, "InvalidObjectState"
        with pytest.raises(TrackError, match="archived") as caught:
            store.fetch("a.wav", max_bytes=100)
        assert caught.value.track_code is TrackCode.ARCHIVED
        with pytest.raises(StorageError, match="restore it: aws s3api restore-object"):
            store.read_bytes("a.wav")


def test_each_call_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with failing_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = Store.open("s3://music/catalogue")
        calls: list[Callable[[], object]] = [
            lambda: store.write_atomic("a.wav", b"bytes"),
            lambda: store.read_bytes("a.wav"),
            lambda: store.read_bytes("a.wav", 1, 3),
            lambda: store.glimpse("a.wav", 4),
            lambda: store.fetch("a.wav", max_bytes=100),
            lambda: store.fetch("a.wav", max_bytes=100, whole_bytes=1),
            lambda: store.stat("a.wav"),
            lambda: list(store.list()),
        ]
        requests = []
        for call in calls:
            before = server.requests
            call()
            requests.append(server.requests - before)
        assert requests == [1] * len(calls)


@pytest.mark.parametrize(("name", "first"), [("_call_s3", ["method"]), ("_pipe_file", ["path", "data"])])
def test_s3fs_has_the_coroutines_that_its_public_calls_wrap(name: str, first: list[str]) -> None:
    """They can be given a time limit, which the public calls cannot."""
    coroutine = getattr(S3FileSystem, name)
    assert inspect.iscoroutinefunction(coroutine)
    assert list(inspect.signature(coroutine).parameters)[1 : 1 + len(first)] == first
