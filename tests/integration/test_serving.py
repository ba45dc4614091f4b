"""`mgc serve` as a process with Ray Serve: two hundred requests at once, hostile ones among them, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audio_samples import music
from hostile_files import HOSTILE_FILES
from model_makers import bundle_contents

from mgc.audio.decode.sndfile import encode
from mgc.errors import TrackCode
from mgc.models.bundle import write_bundle

pytest.importorskip("starlette", reason="Ray Serve is not installed: mgc-tagger[serve]")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

HOME = Path(__file__).parents[2]
REQUESTS = 200
MAY_TAKE_LONG = {"nine_hours_of_silence.flac"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def request(port: int, method: str, path: str, content: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=400)
    try:
        connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    write_bundle(str(folder / "bundle"), bundle_contents(2))
    (folder / "store").mkdir()
    (folder / "store" / "song.flac").write_bytes(encode(music(1.5, 16_000, seed=0), 16_000, "flac"))
    command = ["serve", "-b", str(folder / "bundle"), "--port", str(port), "--max-upload", "2"]
    with (folder / "printed.txt").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "mgc", *command, "--store", str(folder / "store")],
            stdout=printed,
            stderr=printed,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HOME), *sys.path]), "PYTHONUNBUFFERED": "1"},
        )
        try:
            deadline = time.monotonic() + 400
            while "Serving" not in (folder / "printed.txt").read_text():
                assert process.poll() is None, (folder / "printed.txt").read_text()
                assert time.monotonic() < deadline, "the service does not start"
                time.sleep(0.5)
            yield process, port, folder
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def test_the_json_is_that_of_mgc_tag(served: tuple[subprocess.Popen[str], int, Path]) -> None:
    _, port, folder = served
    uri = str(folder / "store" / "song.flac")
    tag = [sys.executable, "-m", "mgc", "tag", uri, "-b", str(folder / "bundle"), "--json"]
    done = subprocess.run(tag, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(HOME)})
    status, answer = request(port, "POST", "/tag", json.dumps({"uri": uri}).encode(), content_type="application/json")
    assert (status, json.loads(answer)) == (200, json.loads(done.stdout))


def test_two_hundred_requests_at_once_are_all_answered_and_the_replica_survives(
    served: tuple[subprocess.Popen[str], int, Path],
) -> None:
    _, port, folder = served
    song = (folder / "store" / "song.flac").read_bytes()
    hostile = {name: file.make() for name, file in HOSTILE_FILES.items()}
    small = {name: data for name, data in hostile.items() if len(data) < 2 * 1024**2}
    wanted = [("POST", "/tag", data) for data in small.values()]
    wanted += [("POST", "/tag", bytes(3 * 1024**2)), ("PUT", "/tag", b"x"), ("GET", "/nothing", b"")]
    wanted += [("POST", "/tag", song)] * (REQUESTS - 2 - len(wanted))
    together = threading.Barrier(REQUESTS)

    def stalled(start: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 400) as client:
            together.wait()
            client.sendall(start)
            return client.recv(65_536)

    def asked(one: tuple[str, str, bytes]) -> tuple[int, bytes]:
        together.wait()
        try:
            return request(port, *one)
        except ConnectionError:
            if len(one[2]) > 2 * 1024**2:  # refused before all of it was sent
                return 413, b""
            raise

    head = b"POST /tag HTTP/1.1\r\nhost: x\r\n"
    stalls = [head + b"content-length: 1000\r\n\r\nRIFF", head + b"transfer-encoding: chunked\r\n\r\n5\r\nRIFF"]
    with ThreadPoolExecutor(REQUESTS) as clients:
        stalling = [clients.submit(stalled, start) for start in stalls]
        answered = list(clients.map(asked, wanted))
        assert [one.result(0).split(b"\r\n")[0] for one in stalling] == [b"HTTP/1.1 408 Request Timeout"] * 2
    statuses = [status for status, _ in answered]
    for (name, file), (status, answer) in zip(
        [(name, HOSTILE_FILES[name]) for name in small], answered[: len(small)], strict=True
    ):
        assert status in (200, 422, 504), (name, status, answer)
        code = json.loads(answer)["error_code"]
        assert status == {None: 200, "T207_DECODE_TIMEOUT": 504}.get(code, 422), name
        allowed = {file.code, TrackCode.DECODE_TIMEOUT} if name in MAY_TAKE_LONG else {file.code}
        assert code in {one and one.value for one in allowed}, name
    assert statuses[len(small) : len(small) + 3] == [413, 405, 404]
    good = answered[len(small) + 3 :]
    assert [status for status, _ in good] == [200] * len(good)
    assert len({answer for _, answer in good}) == 1, "the same answer to the last bit, whatever is predicted with it"
    assert request(port, "POST", "/tag", song) == good[0]


def test_it_ends_by_sigterm(served: tuple[subprocess.Popen[str], int, Path]) -> None:
    process, port, folder = served
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    with pytest.raises(ConnectionError):
        request(port, "GET", "/health")
    assert "Traceback" not in (folder / "printed.txt").read_text()
