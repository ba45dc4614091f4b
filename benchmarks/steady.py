"""A job's pace between its start and its end, by the clock and by what its processes had of the processors.

Two calls run in each actor at once, so at any moment some chunks are half done. Between two moments at which every
actor is at work that evens out; so the first and the last chunks of each worker are left out.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Arrivals:
    """When chunks came back, and what the whole tree of processes had used by then."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float, int]] = []

    def note(self, tracks: int) -> None:
        self._seen.append((time.perf_counter(), tree_cpu_seconds(os.getpid()), tracks))

    def report(self, workers: int) -> None:
        """Print `pace`, tracks a second, and `cpu_ms`, of all processes together, a track."""
        first, last = workers - 1, len(self._seen) - 1 - workers
        if last <= first:
            raise SystemExit(f"{len(self._seen)} chunks are too few for a pace of {workers} workers: give more clips")
        (began, used, _), (ended, had, _) = self._seen[first], self._seen[last]
        tracks = sum(count for _, _, count in self._seen[first + 1 : last + 1])
        print(f"pace {tracks / (ended - began):.4f}")
        print(f"cpu_ms {1e3 * (had - used) / tracks:.4f}")


def tree_cpu_seconds(root: int) -> float:
    """Return the processor time of a process and all that descend from it, those that ended included."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = sum(int(field) for field in fields[11:15])
    return sum(used for pid, used in ticks.items() if _descends(pid, root, parents)) / TICKS


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root
