"""A run that finds nothing changed, over 10,000, 100,000 and a million tracks: wall time and peak of `mgc tag`.

The whole command is timed, the start of Python and its imports included; Ray is not started, for there is nothing to
do. The history is one of thirty runs (`benchmarks.made_history`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median

from benchmarks.made_history import make_history
from benchmarks.material import figure
from benchmarks.untrained import write_untrained_bundle
from mgc.models.bundle import load_bundle

SIZES = (10_000, 100_000, 1_000_000)
RUNS = 30
KILOBYTES_A_MEGABYTE = 1024


@dataclass(frozen=True)
class RunTimes:
    """Wall and processor time, and peak memory, of one `mgc tag`."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print time and peak for each size, and how both grow from the smallest to the largest."""
    bundle = folder / "diff-bundle"
    write_untrained_bundle(str(bundle))
    fingerprint = load_bundle(str(bundle)).fingerprint
    found = {}
    for size in SIZES:
        place = make_history(folder / f"diff-{size}", size, fingerprint, RUNS)
        catalogue, output = place / "catalogue.parquet", str(place / "predictions")
        runs = [timed_run(catalogue, bundle, output) for _ in range(rounds)]
        found[size] = RunTimes(*(median(values) for values in zip(*map(astuple, runs), strict=True)))
        shutil.rmtree(place)
        seconds, cpu_seconds, peak_mb = astuple(found[size])
        print(f"{size:>9,} tracks   {seconds:6.1f} s   {cpu_seconds:6.1f} CPU s   {peak_mb:7.0f} MB", flush=True)
    smallest, largest = found[SIZES[0]], found[SIZES[-1]]
    figure("diff_million_seconds", [largest.seconds], "s")
    figure("diff_million_cpu_seconds", [largest.cpu_seconds], "s")
    figure("diff_million_peak_mb", [largest.peak_mb], "MB")
    figure("diff_growth_seconds", [largest.seconds / smallest.seconds], f"× from {SIZES[0]:,} to {SIZES[-1]:,}")
    figure("diff_growth_peak", [largest.peak_mb / smallest.peak_mb], f"× from {SIZES[0]:,} to {SIZES[-1]:,}")


def timed_run(catalogue: Path, bundle: Path, output: str) -> RunTimes:
    """Run `mgc tag` where there is nothing to do."""
    command = ["tag", str(catalogue), "-b", str(bundle), "-o", output]
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "mgc", *command], stdout=subprocess.PIPE, text=True) as program:
        output = program.stdout.read() if program.stdout else ""
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if program.returncode or "nothing to do" not in output:
        raise SystemExit(f"mgc {' '.join(command)} was to find nothing to do, and said:\n{output}")
    return RunTimes(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KILOBYTES_A_MEGABYTE)
