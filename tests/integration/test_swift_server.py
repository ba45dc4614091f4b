"""The S3 server of the tests is a real one: s3fs finds objects, parts, listings and errors as on any store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import s3fs
from swift_server import SwiftServer

pytestmark = pytest.mark.s3
MEBIBYTE = 1024**2


def connect(server: SwiftServer, key: str, secret: str) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        key=key,
        secret=secret,
        endpoint_url=server.endpoint_url,
        config_kwargs={
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"max_attempts": 1},
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@pytest.fixture
def store(swift: SwiftServer, swift_env: dict[str, str]) -> s3fs.S3FileSystem:
    return connect(swift, swift.access_key, swift.secret_key)


def test_what_is_put_is_got(store: s3fs.S3FileSystem, bucket: str) -> None:
    content = bytes(range(256)) * 500
    key = f"{bucket}/käse & brot/track 01.mp3"
    store.pipe_file(key, content)
    assert store.cat_file(key) == content
    assert store.cat_file(key, start=256, end=260) == b"\x00\x01\x02\x03"
    info = store.info(key)
    assert (info["size"], info["type"]) == (len(content), "file")


def test_the_etag_follows_the_content(store: s3fs.S3FileSystem, bucket: str) -> None:
    store.pipe_file(f"{bucket}/a", b"one")
    first = store.info(f"{bucket}/a")["ETag"]
    store.pipe_file(f"{bucket}/b", b"one")
    store.pipe_file(f"{bucket}/a", b"two")
    assert store.info(f"{bucket}/b")["ETag"] == first
    assert store.info(f"{bucket}/a")["ETag"] != first


def test_a_listing_holds_each_object_at_once(store: s3fs.S3FileSystem, bucket: str) -> None:
    keys = [f"{bucket}/{genre}/{number:03}.ogg" for genre in ("folk", "techno") for number in range(12)]
    for key in keys:
        store.pipe_file(key, key.encode())
    assert store.find(bucket) == keys
    assert store.ls(bucket, detail=False) == [f"{bucket}/folk", f"{bucket}/techno"]
    assert store.find(f"{bucket}/folk") == keys[:12]


def test_a_large_file_goes_up_in_parts(store: s3fs.S3FileSystem, bucket: str) -> None:
    content = os.urandom(1_000) * 12_000
    key = f"{bucket}/large.wav"
    with store.open(key, "wb", block_size=5 * MEBIBYTE) as file:
        for start in range(0, len(content), MEBIBYTE):
            file.write(content[start : start + MEBIBYTE])
    info = store.info(key)
    assert info["size"] == len(content)
    assert info["ETag"].strip('"').endswith("-3"), "written in one piece: the parts were not used"
    assert store.cat_file(key) == content


def test_what_is_deleted_is_gone(store: s3fs.S3FileSystem, bucket: str) -> None:
    for name in ("a/1", "a/2", "b/1"):
        store.pipe_file(f"{bucket}/{name}", b"x")
    store.rm(f"{bucket}/a", recursive=True)
    assert store.find(bucket) == [f"{bucket}/b/1"]
    with pytest.raises(FileNotFoundError):
        store.cat_file(f"{bucket}/a/1")


def test_a_missing_bucket_is_not_found(store: s3fs.S3FileSystem) -> None:
    with pytest.raises(FileNotFoundError):
        store.ls("no-such-bucket-here")
    with pytest.raises(FileNotFoundError):
        store.pipe_file("no-such-bucket-here/a", b"x")


def test_a_wrong_secret_is_refused(swift: SwiftServer, bucket: str) -> None:
    store = connect(swift, swift.access_key, "wrong")
    with pytest.raises(PermissionError):
        store.ls(bucket)


def test_an_unknown_key_is_refused(swift: SwiftServer, bucket: str) -> None:
    store = connect(swift, "nobody:here", "wrong")
    with pytest.raises(PermissionError):
        store.ls(bucket)


def test_the_guest_may_neither_list_nor_read_nor_write(
    swift: SwiftServer, store: s3fs.S3FileSystem, bucket: str
) -> None:
    store.pipe_file(f"{bucket}/a", b"x")
    guest = connect(swift, swift.guest_access_key, swift.guest_secret_key)
    with pytest.raises(PermissionError):
        guest.ls(bucket)
    with pytest.raises(PermissionError):
        guest.cat_file(f"{bucket}/a")
    with pytest.raises(PermissionError):
        guest.pipe_file(f"{bucket}/b", b"y")


def test_the_environment_is_enough(bucket: str) -> None:
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.pipe_file(f"{bucket}/from-env", b"x")
    assert store.find(bucket) == [f"{bucket}/from-env"]


def test_stop_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    reason = SwiftServer.unavailable_reason(tmp_path)
    if reason:
        pytest.skip(reason)
    with SwiftServer(tmp_path) as server:
        pids = [process.pid for process in server._processes.values()]
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_servers_end_with_the_script_that_started_them(tmp_path: Path, ending: signal.Signals) -> None:
    reason = SwiftServer.unavailable_reason(tmp_path)
    if reason:
        pytest.skip(reason)
    script = Path(__file__).parents[1] / "swift_server.py"
    with subprocess.Popen(
        [sys.executable, str(script), "--bucket", "music"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        endpoint_url = first_line.removeprefix("export AWS_ENDPOINT_URL=").strip()
        with urllib.request.urlopen(f"{endpoint_url}/healthcheck", timeout=10) as answer:
            assert answer.read() == b"OK"
        process.send_signal(ending)
    assert _gone(endpoint_url, tmp_path, seconds=10)


def _gone(endpoint_url: str, folder: Path, seconds: float) -> bool:
    """Return True as soon as the server answers no more and its data are deleted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{endpoint_url}/healthcheck", timeout=1).close()
        except (urllib.error.URLError, ConnectionError):
            if not list(folder.iterdir()):
                return True
        time.sleep(0.1)
    return False


def test_a_folder_without_attributes_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-folder"
    reason = SwiftServer.unavailable_reason(missing)
    assert reason is not None
    assert str(missing) in reason
    with pytest.raises(RuntimeError, match="no user extended attributes"):
        SwiftServer(missing).start()
