"""Benchmarks of tagging: what they count is what they say, and the GPU's runs where there is no GPU to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

BUSY = """
import sys, time
while time.process_time() < 0.3:
    pass
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def busy_child() -> Iterator[subprocess.Popen[str]]:
    """Yield a child that used three tenths of a second of a processor, and still lives."""
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        yield child
        child.communicate()


def test_the_tree_counts_children_that_live_and_no_stranger(busy_child: subprocess.Popen[str]) -> None:
    from benchmarks.steady import tree_cpu_seconds

    assert 0.25 < tree_cpu_seconds(busy_child.pid) < 10
    assert tree_cpu_seconds(os.getpid()) >= tree_cpu_seconds(busy_child.pid)
    assert tree_cpu_seconds(1 << 30) == 0


def test_the_pace_leaves_out_both_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import steady

    clock, used = iter([0.0, 10.0, 12.0, 14.0, 30.0, 31.0]), iter([0.0, 1.0, 1.5, 2.0, 9.0, 9.0])
    monkeypatch.setattr(steady.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(steady, "tree_cpu_seconds", lambda root: next(used))
    arrivals = steady.Arrivals()
    for tracks in (8, 8, 8, 8, 8, 3):
        arrivals.note(tracks)
    arrivals.report(workers=2)
    # From the second chunk back to the fourth: 16 tracks in 4 s of the clock and 1 s of processors.
    assert capsys.readouterr().out == "pace 4.0000\ncpu_ms 62.5000\n"
    with pytest.raises(SystemExit, match="too few"):
        arrivals.report(workers=4)


def test_the_gpu_benchmark_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu

    torch.set_num_threads(1)  # so little work only waits for other threads
    monkeypatch.setattr(gpu, "SONG_SECONDS", 30.0)
    monkeypatch.setattr(gpu, "BATCHES", (8,))
    gpu.run(tmp_path, tmp_path, rounds=1, device="cpu", tracks=2)
    values = {line.split()[1]: float(line.split()[2]) for line in capsys.readouterr().out.splitlines()}
    assert values["gpu_decode_cores_student"] == pytest.approx(
        values["gpu_xrealtime_student"] / values["gpu_extract_xrealtime_per_core"], rel=1e-2
    )
    assert values["gpu_xrealtime_student"] > values["gpu_xrealtime_ensemble"] > 0
