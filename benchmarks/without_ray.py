"""The tagging job without Ray: the same actors as plain processes that take chunk numbers from a queue.

    python -m benchmarks.without_ray CATALOGUE OUTPUT BUNDLE

What it lacks against the job is Ray's part: a cluster, actors that are replaced, chunks that are tried again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

# As Ray does for an actor of one CPU, before any library counts the cores.
os.environ["OMP_NUM_THREADS"] = "1"

import pyarrow as pa

from benchmarks.steady import Arrivals
from benchmarks.timed_job import TAG_CONFIG
from mgc.catalogue.index import read_catalogue
from mgc.cluster.actor_pool import CALLS_AT_ONCE, ChunkActor, ChunkWorker, _write_plan, chunk_size, chunk_starts
from mgc.cluster.predict import PredictWorker
from mgc.models.bundle_files import read_bundle_files
from mgc.storage.store import Store
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.work_items import clean_items


def main() -> None:
    catalogue, output_uri, bundle_uri = sys.argv[1:]
    workers = len(os.sched_getaffinity(0))
    output = OutputDirectory(Store.open(output_uri), "predictions")
    stored = read_bundle_files(bundle_uri)
    run = output.start_run(stored.manifest.fingerprint, {})
    todo = clean_items(read_catalogue(catalogue))
    starts = chunk_starts(todo, chunk_size(todo.height, workers, TAG_CONFIG.cluster))
    _write_plan(output, run, todo, starts)
    config = TAG_CONFIG.model_copy(update={"features": stored.features})
    make_worker = partial(PredictWorker, stored.uri, stored.manifest.fingerprint, config)
    context = multiprocessing.get_context("spawn")
    chunks, done = context.SimpleQueue(), context.Queue()
    for chunk in [*range(len(starts)), *[None] * (workers * CALLS_AT_ONCE)]:
        chunks.put(chunk)
    arguments = (output.store.uri(), run, make_worker, chunks, done)
    pool = [context.Process(target=_work, args=arguments, daemon=False) for _ in range(workers)]
    for process in pool:
        process.start()
    arrivals = Arrivals()
    for _ in starts:
        arrivals.note(_next(done, pool))
    arrivals.report(workers)
    for process in pool:
        process.join()


def _next(done: Any, pool: list[Any]) -> int:
    """Return what a finished chunk gave; a process that died ends the program, which would wait for it."""
    while True:
        try:
            return int(done.get(timeout=1.0))
        except queue.Empty:
            if dead := [process.exitcode for process in pool if process.exitcode]:
                raise SystemExit(f"a worker ended with status {dead[0]}") from None


def _work(output_uri: str, run: OutputRun, make_worker: Callable[[], ChunkWorker], chunks: Any, done: Any) -> None:
    actor = ChunkActor(output_uri, run, make_worker, (logging.WARNING, "text"))

    def call() -> None:
        while (chunk := chunks.get()) is not None:
            done.put(actor(pa.table({"chunk": pa.array([chunk], pa.int64())})).num_rows)

    calls = [threading.Thread(target=call) for _ in range(CALLS_AT_ONCE)]
    for thread in calls:
        thread.start()
    for thread in calls:
        thread.join()


if __name__ == "__main__":
    main()
