"""`mgc serve` under load: requests a second, and how long one takes, alone and among sixteen at once."""

from __future__ import annotations

import http.client
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.material import figure
from benchmarks.untrained import write_untrained_bundle

CLIENTS = 16
REQUESTS = 96
START_SECONDS = 600.0


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print requests a second and latencies of uploads of 30 s MP3 clips, for one client and for sixteen."""
    bundle = folder / "served-bundle"
    write_untrained_bundle(str(bundle))
    contents = [path.read_bytes() for path in sorted(clips.iterdir())[:REQUESTS]]
    with _served(bundle) as port:
        _all(port, contents[:CLIENTS], CLIENTS)
        for clients in (1, CLIENTS):
            rates, medians, tails = [], [], []
            for _ in range(rounds):
                started = time.perf_counter()
                taken = _all(port, contents, clients)
                rates.append(len(taken) / (time.perf_counter() - started))
                medians.append(statistics.median(taken))
                tails.append(statistics.quantiles(taken, n=20)[-1])
            figure(f"serve_{clients}_clients_requests", rates, "1/s")
            figure(f"serve_{clients}_clients_p50", medians, "s")
            figure(f"serve_{clients}_clients_p95", tails, "s")


def _all(port: int, contents: list[bytes], clients: int) -> list[float]:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda content: _seconds(port, content), contents))


def _seconds(port: int, content: bytes) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/tag", content)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}")
    return time.perf_counter() - started


@contextmanager
def _served(bundle: Path) -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    # On a busy machine a good file may take longer than a service gives it: that is not what is measured.
    patient = ["--set", "decode.time_limit_seconds=120"]
    command = [sys.executable, "-m", "mgc", "serve", "-b", str(bundle), "--port", str(port), *patient]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the service does not start")
            time.sleep(0.5)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
