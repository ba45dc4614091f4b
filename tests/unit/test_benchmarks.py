"""The benchmarks are not run here, but they must not rot: each is imported, and that of an actor extracts a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from audio_samples import short_wav

ROOT = Path(__file__).parents[2]
NEEDS = {"daft_job": "daft"}
"""Module → the package that it needs and that nothing else does."""

IMPORTS = """
import importlib, importlib.util, pathlib
needs = {needs!r}
for path in sorted(pathlib.Path("benchmarks").glob("*.py")):
    if path.stem not in needs or importlib.util.find_spec(needs[path.stem]):
        importlib.import_module("benchmarks." + path.stem)
        print(path.stem)
"""


def test_every_benchmark_can_be_imported() -> None:
    code = IMPORTS.format(needs=NEEDS)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 20


def test_an_actor_extracts_one_file(tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(short_wav())
    command = [sys.executable, "-m", "benchmarks.one_actor", str(tmp_path / "short.wav")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert float(found["duration"]) == 0.5
    assert 50 < float(found["peak_mb"]) < 1_000
