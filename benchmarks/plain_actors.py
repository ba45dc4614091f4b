"""What Ray Data costs: the same job with its chunks handed to plain Ray actors.

    python -m benchmarks.plain_actors CATALOGUE OUTPUT

Everything but the way of the chunk numbers is mgc's own. It is no choice of mgc's, only a figure: without Ray Data
there is no pool that grows and shrinks with the cluster, and no retry of a chunk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.util import ActorPool

from benchmarks import timed_job
from mgc.cluster import actor_pool as work
from mgc.cluster.actor_pool import CALLS_AT_ONCE, ChunkActor, PoolSize


class PlainActors:
    """Stands where a `ray.data.Dataset` does."""

    def __init__(self, n_chunks: int, size: PoolSize, actor_arguments: tuple[Any, ...], needs: object) -> None:
        self._chunks = range(n_chunks)
        make = ray.remote(num_cpus=1, max_concurrency=CALLS_AT_ONCE)(ChunkActor)
        self._actors = [make.remote(*actor_arguments) for _ in range(size.first)]

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        def do(actor: Any, chunk: int) -> Any:
            return actor.__call__.remote(pa.table({"chunk": pa.array([chunk], pa.int64())}))

        yield from ActorPool(self._actors * CALLS_AT_ONCE).map_unordered(do, list(self._chunks))


if __name__ == "__main__":
    work._dataset = PlainActors  # type: ignore[assignment]
    work._pool_results = PlainActors.iter_batches  # type: ignore[assignment]
    sys.argv.insert(1, "extract")
    timed_job.main()
