"""Run one job of mgc as a program and print when it started, got its chunks back, and ended.

    python -m benchmarks.timed_job extract CATALOGUE OUTPUT
    python -m benchmarks.timed_job tag CATALOGUE OUTPUT BUNDLE [FEATURES]
    python -m benchmarks.timed_job ray

The last only starts and stops Ray: what every job pays before it is mgc's turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks.steady import Arrivals
from mgc.catalogue.index import read_catalogue
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions, RunOutcome
from mgc.cluster.runtime import ray_session
from mgc.config import ClusterConfig, Config

TAG_CONFIG = Config(cluster=ClusterConfig(tracks_per_chunk=8))
"""Chunks small enough that a few hundred tracks make a steady state."""

Job = Callable[[Callable[[ChunkProgress], None]], RunOutcome]


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "ray":
        with ray_session(ClusterConfig()) as session:
            print(f"cpus {session.n_cpus}")
        return
    arrivals: list[tuple[float, int]] = []
    pace = Arrivals()

    def on_progress(step: ChunkProgress) -> None:
        arrivals.append((time.perf_counter(), step.items))
        if what == "tag":
            pace.note(step.items)

    outcome = _job(what, rest)(on_progress)
    first, last = arrivals[0], arrivals[-1]
    tracks = sum(count for _, count in arrivals)
    print(f"work {outcome.work_seconds:.3f}")
    print(f"audio {outcome.audio_seconds:.3f}")
    print(f"cores {outcome.cores}")
    if what == "tag":
        pace.report(outcome.cores)
    print(f"steady {(tracks - first[1]) / max(last[0] - first[0], 1e-9):.3f}")


def _job(what: str, rest: list[str]) -> Job:
    catalogue = read_catalogue(rest[0])
    if what == "extract":
        return lambda on_progress: extract_features(catalogue, rest[1], Config(), RunOptions(on_progress=on_progress))
    # Imported where it is wanted: the extraction's fixed cost must not hold the import of torch.
    from mgc.cluster.predict import tag_catalogue

    return lambda on_progress: tag_catalogue(
        catalogue, rest[2], rest[1], TAG_CONFIG, RunOptions(force=True, on_progress=on_progress), *rest[3:]
    )


if __name__ == "__main__":
    main()
