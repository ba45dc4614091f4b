"""A run over a catalogue: chunks of items through a pool of Ray actors, each chunk one part file.

Ray Data streams chunk numbers to an actor pool; an actor reads its chunk's rows from the plan, works, writes
the part itself and returns only the part's index rows. So audio and features never pass the object store, no
write stage waits for a CPU that the pool holds (ray issue #44687), and no download stage can deadlock with
the pool. A part is written whole or not at all under a name that only its chunk decides: a chunk that Ray
runs twice writes the same file twice, and finished parts are the checkpoint from which a killed run goes on.
Ray Data's own row-level checkpoint would need its write stage, and actors of 1 GiB each to filter by.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from mgc.cluster.monitoring import count_rows, time_chunk
from mgc.cluster.runtime import RaySession
from mgc.config import ClusterConfig
from mgc.errors import ClusterError, MgcError
from mgc.logs import LOGGER, keep_worker_records, log_context, log_worker_records, take_worker_records
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import INDEX, ITEM, index_rows
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import KIND_KEY, PLAN

LOG_RECORDS = "log_records"
"""Column beside those of INDEX: what the actor logged, in the first row of a chunk."""

CALLS_AT_ONCE = 2
"""Of one actor, so that its decoder never waits: while it works on one chunk, the one before is written and the one
after is fetched."""

BLOCKS_AT_MOST = 10_000
"""Chunks are grouped into at most so many Ray blocks, whatever the catalogue's size."""


class ChunkWorker(Protocol):
    """What an actor does with a chunk."""

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        """Return exactly one output row of `run` for each item (schema PLAN); a track's items follow one another.

        Called from `CALLS_AT_ONCE` threads.
        """


class ChunkActor:
    """One actor of the pool: chunk numbers in, parts written, index rows out."""

    def __init__(
        self, output_uri: str, run: OutputRun, make_worker: Callable[[], ChunkWorker], log_level: int
    ) -> None:
        keep_worker_records(log_level)
        self._store = Store.open(output_uri)
        self._run = run
        # First: its decoding child imports its libraries while the plan is read.
        self._worker = _or_error(make_worker)
        with self._store.open_input(f"{run.folder}/plan.parquet") as source:
            self._plan = pq.ParquetFile(io.BytesIO(source.read()))
        self._reading = threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do the chunks whose numbers are in column `chunk`."""
        return pa.concat_tables([self._do(chunk) for chunk in batch["chunk"].to_pylist()])

    def _do(self, chunk: int) -> pa.Table:
        if isinstance(self._worker, MgcError):
            raise self._worker
        started = time.perf_counter()
        with self._reading:
            rows = self._plan.read_row_group(chunk)
        with log_context(run_id=self._run.run_id):
            part = self._worker.process(rows, self._run)
        buffer = io.BytesIO()
        # Log-mels as float16 hardly compress; the store's time counts more than its bytes.
        pq.write_table(part, buffer, compression="lz4", use_dictionary=False)
        key = self._run.part_key(chunk)
        self._store.write_atomic(key, buffer.getvalue())
        time_chunk((part.schema.metadata or {}).get(KIND_KEY, b"").decode(), time.perf_counter() - started)
        index = index_rows(part, key, self._run.sequence, self._run.fingerprint)
        records = [take_worker_records(), *[None] * (index.num_rows - 1)]
        return index.append_column(LOG_RECORDS, pa.array(records, pa.list_(pa.string())))


def _or_error(make_worker: Callable[[], ChunkWorker]) -> ChunkWorker | MgcError:
    """Return the worker, or why there is none: what an actor's constructor raises, Ray Data tries again and wraps."""
    try:
        return make_worker()
    except MgcError as error:
        return error


@dataclass(frozen=True)
class ChunkProgress:
    """What a finished chunk adds to the progress: rows, how many of them failed, and their audio."""

    items: int
    failed: int
    audio_seconds: float


@dataclass(frozen=True)
class Done:
    """What a run did.

    Parameters
    ----------
    index
        Schema INDEX, the run's own rows.
    work_seconds
        Wall time from the first chunk handed out to the last one back, actors' start included.
    workers
        Actors at work.
    steady_seconds, steady_rows
        Wall time from the first chunk back to the last one, and the rows that came in it.
    """

    index: pl.DataFrame
    work_seconds: float
    workers: int
    steady_seconds: float = 0.0
    steady_rows: int = 0


def chunk_size(n_items: int, n_workers: int, config: ClusterConfig) -> int:
    """Return items a chunk: four chunks a worker where items are few, so that workers end together."""
    return max(1, min(config.tracks_per_chunk, math.ceil(n_items / (4 * n_workers))))


def chunk_starts(todo: pl.DataFrame, size: int) -> list[int]:
    """Return the first row of each chunk of about `size` rows: a track's rows are never parted.

    So a track is fetched and decoded once, for all its views.
    """
    counts = todo.group_by("track_id", maintain_order=True).len()["len"].to_list()
    if len(counts) == todo.height:
        return list(range(0, todo.height, size))
    starts, position, held = [0], 0, 0
    for count in counts:
        if held and held + count > size:
            starts.append(position)
            held = 0
        held += count
        position += count
    return starts


def run_chunks(
    output: OutputDirectory,
    run: OutputRun,
    todo: pl.DataFrame,
    make_worker: Callable[[], ChunkWorker],
    config: ClusterConfig,
    session: RaySession,
    *,
    gpus_per_worker: float = 0.0,
    on_progress: Callable[[ChunkProgress], None] = lambda _: None,
    on_index: Callable[[pl.DataFrame], None] = lambda _: None,
) -> Done:
    """Work through `todo` (schema PLAN, by track) and return the index of what was written.

    Parameters
    ----------
    on_progress, on_index
        Called with what a finished chunk adds to the progress, and with its index rows; either may end the run.

    Raises
    ------
    ClusterError
        An item came back not exactly once, or Ray lost the job.
    """
    started = time.perf_counter()
    session.require_placement({"CPU": 1.0, "GPU": gpus_per_worker}, 1, "an actor of the pool")
    workers = min(config.workers or session.n_cpus, todo.height)
    starts = chunk_starts(todo, chunk_size(todo.height, workers, config))
    n_chunks = len(starts)
    workers = min(workers, n_chunks)
    _write_plan(output, run, todo, starts)
    dataset = _dataset(output, run, n_chunks, workers, make_worker, gpus_per_worker)
    tables = [INDEX.empty_table()]
    first = last = started
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            rows = pa.table(batch)
            log_worker_records(text for texts in rows[LOG_RECORDS].to_pylist() for text in texts or ())
            table = rows.select(INDEX.names).cast(INDEX)
            tables.append(table)
            last = time.perf_counter()
            first = last if len(tables) == 2 else first
            count_rows(output.kind, table)
            on_progress(_advance(table))
            on_index(frame_of(table))
    except ray.exceptions.RayError as error:
        if (own := _own_error(error)) is not None:
            raise own from error
        raise ClusterError(
            f"the run lost its workers: {str(error).strip().splitlines()[-1]}",
            "start the command again: it resumes what was finished",
        ) from error
    index = frame_of(pa.concat_tables(tables))
    _require_each_once(todo, index)
    steady_rows = index.height - sum(table.num_rows for table in tables[:2])
    return Done(index, time.perf_counter() - started, workers, last - first, steady_rows)


def _own_error(error: BaseException) -> MgcError | None:
    """Return the error of mgc that ended an actor's work, out of Ray's wrappings; None where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        # Ray makes errors that are both its own and mgc's; what they wrap is the error that was raised.
        if isinstance(seen, MgcError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _write_plan(output: OutputDirectory, run: OutputRun, todo: pl.DataFrame, starts: list[int]) -> None:
    buffer = io.BytesIO()
    plan = todo.to_arrow().select(PLAN.names).cast(PLAN)
    with pq.ParquetWriter(buffer, PLAN) as writer:
        for start, stop in zip(starts, [*starts[1:], todo.height], strict=True):
            writer.write_table(plan.slice(start, stop - start), row_group_size=stop - start)
    output.store.write_atomic(f"{run.folder}/plan.parquet", buffer.getvalue())


def _dataset(
    output: OutputDirectory,
    run: OutputRun,
    n_chunks: int,
    workers: int,
    make_worker: Callable[[], ChunkWorker],
    gpus_per_worker: float,
) -> ray.data.Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Else what an actor raised is wrapped, and lost on the way: exceptions are pickled without their causes.
    context.raise_original_map_exception = True
    # Chunk numbers are handed over as ready blocks: a read stage would want a CPU that the pool holds, and
    # `from_arrow` runs tasks for their schemas, which costs two processes the import of Ray Data.
    per_block = math.ceil(n_chunks / BLOCKS_AT_MOST)
    blocks = [
        pa.table({"chunk": pa.array(range(first, min(first + per_block, n_chunks)), pa.int64())})
        for first in range(0, n_chunks, per_block)
    ]
    dataset: ray.data.Dataset = ray.data.from_blocks(blocks).map_batches(
        ChunkActor,
        fn_constructor_args=(output.store.uri(), run, make_worker, LOGGER.getEffectiveLevel()),
        batch_size=1,
        batch_format="pyarrow",
        # No more in flight than run at once: a chunk that waits for one actor could be done by another.
        compute=ActorPoolStrategy(
            size=workers,
            max_tasks_in_flight_per_actor=CALLS_AT_ONCE,
            max_concurrent_calls_per_actor=CALLS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
        num_cpus=1,
        num_gpus=gpus_per_worker or None,
    )
    return dataset


def _advance(index: pa.Table) -> ChunkProgress:
    failed = index.num_rows - index["error_code"].null_count
    return ChunkProgress(index.num_rows, failed, float(pa.compute.sum(index["duration_seconds"]).as_py() or 0.0))


def _require_each_once(todo: pl.DataFrame, index: pl.DataFrame) -> None:
    distinct = index.select(ITEM).n_unique() if index.height else 0
    missing = todo.join(index, on=ITEM, how="anti").height
    if index.height != todo.height or distinct != todo.height or missing:
        raise ClusterError(
            f"{todo.height} rows were planned, {index.height} came out ({distinct} distinct)",
            "nothing was committed; start the command again and report this",
        )
