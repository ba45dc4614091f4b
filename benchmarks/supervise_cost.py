"""What the supervised child costs on good files: the same clips in this process and through the child, in turn."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.material import figure
from mgc.audio.extraction import extract
from mgc.audio.sandbox.supervisor import SupervisedExtractor
from mgc.config import Config

CLIPS = 60


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `supervised_over_inline`: time through the child over time without it, a round's median over clips."""
    config = Config()
    data = [path.read_bytes() for path in sorted(clips.iterdir())[:CLIPS]]
    # The child has one thread, as actors do; so has this process then.
    with threadpool_limits(1), SupervisedExtractor(config.features, config.decode) as child:
        child.extract(data[0])
        extract(data[0], config.features, config.decode)
        ratios, cpu_ratios, milliseconds = [], [], []
        for _ in range(rounds):
            inline, supervised, cpu_inline, cpu_supervised = [], [], 0.0, 0.0
            for clip in data:
                before = _cpu_seconds(child)
                started = time.perf_counter()
                extract(clip, config.features, config.decode)
                inline.append(time.perf_counter() - started)
                between = _cpu_seconds(child)
                started = time.perf_counter()
                child.extract(clip)
                supervised.append(time.perf_counter() - started)
                cpu_inline += between - before
                cpu_supervised += _cpu_seconds(child) - between
            ratios.append(statistics.median(b / a for a, b in zip(inline, supervised, strict=True)))
            cpu_ratios.append(cpu_supervised / cpu_inline)
            milliseconds.append(1e3 * statistics.median(supervised))
    figure("supervised_over_inline", ratios, "ratio")
    figure("supervised_over_inline_cpu", cpu_ratios, "ratio")
    figure("supervised_clip_ms", milliseconds, "ms")


def _cpu_seconds(child: SupervisedExtractor) -> float:
    """Return what this process and the child have had of the processors, which other work does not change much."""
    nanoseconds = Path("/proc", str(child.child_pid), "schedstat").read_text().split()[0]
    return time.process_time() + int(nanoseconds) / 1e9
