"""Peak memory and time of one actor (worker and decoding child) on a ten-hour file of each format."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.long_files import KINDS, make_long_files
from benchmarks.material import figure
from benchmarks.process import run_module

HOURS, SHORT_MINUTES = 10.0, 4.0


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print peak and time of ten hours, and the time of four minutes, for each format; then the worst peak."""
    worst = 0.0
    for kind in KINDS:
        long = make_long_files(folder / "long", HOURS, [kind])[kind]
        short = make_long_files(folder / "short", SHORT_MINUTES / 60, [kind])[kind]
        there = [run_module("benchmarks.one_actor", str(long)).values for _ in range(rounds)]
        here = [run_module("benchmarks.one_actor", str(short)).values for _ in range(rounds)]
        name = kind.replace(" ", "_")
        figure(f"actor_peak_mb_{name}", [values["peak_mb"] for values in there], "MB")
        figure(f"ten_hours_seconds_{name}", [values["seconds"] for values in there], "s")
        figure(f"four_minutes_seconds_{name}", [values["seconds"] for values in here], "s")
        worst = max(worst, *(values["peak_mb"] for values in there))
        for made in ("long", "short"):
            shutil.rmtree(folder / made)
    figure("actor_peak_mb", [worst], "MB")
