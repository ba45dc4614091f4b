"""Running a job as a user does, and killing it or its workers with SIGKILL at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

JOBS = Path(__file__).parents[2] / "jobs"
POLL_SECONDS = 0.02


def job(script: str, *arguments: str, settings: list[str]) -> list[str]:
    """Return the command line of a job with `--set` for each setting."""
    return [sys.executable, str(JOBS / script), *arguments, *(w for item in settings for w in ("--set", item))]


def run(command: list[str]) -> str:
    """Run a command to its end and return what it said; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command; it is dead at the end of the block, whatever happens in it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background have it ignored
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill_driver_when(command: list[str], is_time: Callable[[], bool], seconds: float = 120.0) -> None:
    """Start a command and SIGKILL it as soon as it is time; it must not have ended by itself."""
    with started(command) as driver:
        wait_until(is_time, seconds, lambda: driver.poll() is None)
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "killed too late to show anything"


def wait_until(is_time: Callable[[], bool], seconds: float, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Wait for a moment that must come within so many seconds, while what it belongs to goes on."""
    deadline = time.monotonic() + seconds
    while not is_time():
        assert time.monotonic() < deadline, f"the moment to kill did not come in {seconds} s"
        assert goes_on(), "it ended by itself"
        time.sleep(POLL_SECONDS)


def descendants(pid: int, title: str) -> list[int]:
    """Return the processes below `pid` whose command line holds `title` (Linux)."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        children = [int(child) for task in _tasks(parent) for child in _read(task / "children").split()]
        found += [child for child in children if title in _read(Path(f"/proc/{child}/cmdline"))]
        waiting += children
    return found


def features_of(output: Path, tracks: pl.DataFrame) -> pl.DataFrame:
    """Return what readers see of a catalogue's tracks, features included, by track."""
    directory = OutputDirectory(Store.open(str(output)), "features")
    rows = [frame_of(table) for table in current_rows(directory, current_index(directory, tracks))]
    return pl.concat(rows).sort("track_id")


def _tasks(pid: int) -> list[Path]:
    folder = Path(f"/proc/{pid}/task")
    return list(folder.iterdir()) if folder.is_dir() else []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return ""
