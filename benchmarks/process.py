"""Programs run and timed from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timed:
    """A finished program: its wall time, and the `name value` lines it printed."""

    seconds: float
    values: dict[str, float]


def run_module(module: str, *arguments: str) -> Timed:
    """Run `python -m module arguments` and return its time and its figures."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    lines = (line.split() for line in done.stdout.splitlines())
    return Timed(seconds, {line[0]: float(line[1]) for line in lines if len(line) == 2 and _is_number(line[1])})


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def cpu_seconds(pids: list[int]) -> float:
    """Return what processes have had of the processors so far (Linux)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
