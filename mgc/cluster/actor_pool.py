"""A run over a catalogue: chunks of items through a pool of Ray actors, each chunk one part file.

Ray Data streams chunk numbers to an actor pool; an actor reads its chunk's rows from the plan, works, writes
the part itself and returns only the part's index rows. So audio and features never pass the object store, no
write stage waits for a CPU that the pool holds (ray issue #44687), and no download stage can deadlock with
the pool. A part is written whole or not at all under a name that only its chunk decides: a chunk that Ray
runs twice writes the same file twice, and finished parts are the checkpoint from which a killed run goes on.
Ray Data's own row-level checkpoint would need its write stage, and actors of 1 GiB each to filter by.

The pool follows the cluster: Ray Data starts actors where nodes join, and lets go of those that nodes took with them.
At the end of a run, a chunk that takes far longer than the others is given to one more actor as well.
"""

from __future__ import annotations

import io
import math
import queue
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from mgc.cluster.monitoring import count_rows, time_chunk
from mgc.cluster.runtime import RaySession
from mgc.config import ClusterConfig
from mgc.errors import ClusterError, MgcError
from mgc.logs import (
    keep_worker_records,
    log,
    log_context,
    log_settings,
    log_worker_records,
    take_worker_records,
)
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import INDEX, ITEM, index_rows
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import KIND_KEY, PLAN

LOG_RECORDS = "log_records"
"""Column beside those of INDEX: what the actor logged, in the first row of a chunk."""
CHUNK, WORKER, SECONDS = "chunk", "worker", "seconds"
"""Columns beside those of INDEX: the chunk's number, its actor, and how long it took."""

STRAGGLER_FACTOR = 3.0
"""A chunk is one that lags behind if it takes so many times the median of those before it …"""
STRAGGLER_SECONDS = 60.0
"""… and so long at least: where chunks are short, a pause of the store is no reason to do one twice."""
WAIT_LINE_SECONDS = 30.0
"""Between two lines that say that the run waits for nodes."""

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
        self,
        output_uri: str,
        run: OutputRun,
        make_worker: Callable[[], ChunkWorker],
        logs: tuple[int, str],
        second: bool = False,
    ) -> None:
        keep_worker_records(*logs)
        self._store = Store.open(output_uri)
        self._run = run
        self._second = second
        self._name = uuid.uuid4().hex
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
        key = self._run.part_key(chunk, second=self._second)
        self._store.write_atomic(key, buffer.getvalue())
        seconds = time.perf_counter() - started
        time_chunk((part.schema.metadata or {}).get(KIND_KEY, b"").decode(), seconds)
        index = index_rows(part, key, self._run.sequence, self._run.fingerprint)
        records = [take_worker_records(), *[None] * (index.num_rows - 1)]
        for name, value in {CHUNK: chunk, WORKER: self._name, SECONDS: seconds}.items():
            index = index.append_column(name, pa.repeat(value, index.num_rows))
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
        Actors that worked.
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
    needs = {"CPU": 1.0, "GPU": gpus_per_worker}
    session.require_placement(needs, 1, "an actor of the pool")
    workers = min(config.workers or session.n_cpus, todo.height)
    starts = chunk_starts(todo, chunk_size(todo.height, workers, config))
    n_chunks = len(starts)
    size = PoolSize.of(n_chunks, config.workers, session)
    _write_plan(output, run, todo, starts)
    actor_arguments = (output.store.uri(), run, make_worker, log_settings())
    dataset = _dataset(n_chunks, size, actor_arguments, needs)
    tables = [INDEX.empty_table()]
    first = last = started
    try:
        with closing(_pool_results(dataset)) as results, _Stragglers(actor_arguments, needs) as stragglers:
            for rows in _finished(results, n_chunks, stragglers, _NodesNote(session, needs, size.first)):
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
    return Done(index, time.perf_counter() - started, len(stragglers.actors), last - first, steady_rows)


@dataclass(frozen=True)
class PoolSize:
    """How many actors there are at first, at least, and at most."""

    first: int
    least: int
    most: int

    @classmethod
    def of(cls, n_chunks: int, workers: int | None, session: RaySession) -> PoolSize:
        """Return as many as the settings want; else one a CPU, and on a cluster as many as its nodes come to hold.

        Those that the settings want and no node holds yet wait: it is what an autoscaler goes by.
        """
        first = min(workers or session.n_cpus, n_chunks)
        if workers or not session.joined:
            return cls(first, first, first)
        return cls(first, 1, n_chunks)


def _finished(
    results: Iterator[pa.Table | None], n_chunks: int, stragglers: _Stragglers, on_pause: Callable[[], None]
) -> Iterator[pa.Table]:
    """Yield the rows of each chunk once, from the pool or from who did a straggling chunk a second time."""
    missing = set(range(n_chunks))
    for result in results:
        if result is None:
            on_pause()
            result = stragglers.second_result(missing)
        if result is not None:
            # A block may hold several chunks, and each of them may have come back already.
            for chunk in missing.intersection(result[CHUNK].to_pylist()):
                missing.remove(chunk)
                rows = result.filter(pc.equal(result[CHUNK], chunk))
                stragglers.saw(rows)
                yield rows
        if stragglers.at_work and not missing:
            return  # the pool still waits for them


def _pool_results(dataset: ray.data.Dataset) -> Generator[pa.Table | None]:
    """Yield what the pool makes of its chunks, as it comes, and None after each second in which nothing comes."""
    results: queue.Queue[pa.Table | BaseException | None] = queue.Queue()
    thread = threading.Thread(target=_read_all, args=(dataset, results), daemon=True)
    thread.start()
    try:
        while True:
            try:
                result = results.get(timeout=1.0)
            except queue.Empty:
                yield None
                continue
            if isinstance(result, BaseException):
                raise result
            if result is None:
                thread.join()
                return
            yield result
    finally:
        # Of a run that ends before its pool does, the actors are to work no more.
        if thread.is_alive() and (executor := dataset._current_executor) is not None:
            executor.shutdown(force=True)


def _read_all(dataset: ray.data.Dataset, results: queue.Queue[pa.Table | BaseException | None]) -> None:
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            results.put(pa.table(batch))
        results.put(None)
    except BaseException as error:
        results.put(error)


class _NodesNote:
    """Says how many of the wanted actors have a node, while none has one or their number changes."""

    def __init__(self, session: RaySession, needs: dict[str, float], wanted: int) -> None:
        self._session, self._needs, self._wanted = session, needs, wanted
        self._placed = wanted
        self._next = time.perf_counter() + WAIT_LINE_SECONDS / 3

    def __call__(self) -> None:
        if time.perf_counter() < self._next:
            return
        self._next = time.perf_counter() + WAIT_LINE_SECONDS
        placed = min(self._session.refreshed().n_placed(self._needs), self._wanted)
        if placed != self._placed or not placed:
            log.warning("waiting for nodes: %d of %d workers have one", placed, self._wanted)
        self._placed = placed


class _Stragglers:
    """Gives the chunks that lag behind all others at the end of a run to one more actor; who is first counts.

    A chunk is the work of seconds; where one takes minutes its node is ill or its store stalls. Within a run that
    costs one actor's time and nothing else; at its end the whole run waits.
    """

    def __init__(self, actor_arguments: tuple[Any, ...], needs: dict[str, float]) -> None:
        self._arguments = actor_arguments
        self._needs = needs
        self._seconds: list[float] = []
        self.actors: set[str] = set()
        self._last = time.perf_counter()
        self._actor: Any = None
        self._pending: list[ray.ObjectRef[Any]] = []

    def __enter__(self) -> _Stragglers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._actor is not None:
            ray.kill(self._actor)

    @property
    def at_work(self) -> bool:
        """Whether there is a second actor."""
        return self._actor is not None

    def saw(self, rows: pa.Table) -> None:
        """Take in that a chunk came back."""
        self._seconds.append(rows[SECONDS][0].as_py())
        self.actors.add(rows[WORKER][0].as_py())
        self._last = time.perf_counter()

    def second_result(self, missing: set[int]) -> pa.Table | None:
        """Return what the second actor has finished; it begins with the missing chunks once they lag behind."""
        if self._actor is None:
            if not self._lag(missing):
                return None
            log.warning("the last chunks (%d) lag behind: one more actor does them as well", len(missing))
            self._start(sorted(missing))
        ready, self._pending = ray.wait(self._pending, timeout=0)
        return ray.get(ready[0]) if ready else None

    def _lag(self, missing: set[int]) -> bool:
        # Before the end, chunks are missing because nobody has begun with them.
        if not self._seconds or len(missing) > CALLS_AT_ONCE * len(self.actors):
            return False
        limit = max(STRAGGLER_SECONDS, STRAGGLER_FACTOR * statistics.median(self._seconds))
        return time.perf_counter() - self._last > limit

    def _start(self, chunks: list[int]) -> None:
        make = ray.remote(num_cpus=self._needs["CPU"], num_gpus=self._needs["GPU"])(ChunkActor)
        self._actor = make.remote(*self._arguments, True)
        self._pending = [self._actor.__call__.remote(pa.table({CHUNK: [chunk]})) for chunk in chunks]


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
    n_chunks: int, size: PoolSize, actor_arguments: tuple[Any, ...], needs: dict[str, float]
) -> ray.data.Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Else what an actor raised is wrapped, and lost on the way: exceptions are pickled without their causes.
    context.raise_original_map_exception = True
    # No actor is given more than it does at once, so a pool whose actors are all busy is one that may grow.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    # Chunk numbers are handed over as ready blocks: a read stage would want a CPU that the pool holds, and
    # `from_arrow` runs tasks for their schemas, which costs two processes the import of Ray Data.
    per_block = math.ceil(n_chunks / BLOCKS_AT_MOST)
    blocks = [
        pa.table({CHUNK: pa.array(range(first, min(first + per_block, n_chunks)), pa.int64())})
        for first in range(0, n_chunks, per_block)
    ]
    dataset: ray.data.Dataset = ray.data.from_blocks(blocks).map_batches(
        ChunkActor,
        fn_constructor_args=actor_arguments,
        batch_size=1,
        batch_format="pyarrow",
        # No more in flight than run at once: a chunk that waits for one actor could be done by another.
        compute=ActorPoolStrategy(
            initial_size=size.first,
            min_size=size.least,
            max_size=size.most,
            max_tasks_in_flight_per_actor=CALLS_AT_ONCE,
            max_concurrent_calls_per_actor=CALLS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
        num_cpus=needs["CPU"],
        num_gpus=needs["GPU"] or None,
    )
    return dataset


def _advance(index: pa.Table) -> ChunkProgress:
    failed = index.num_rows - index["error_code"].null_count
    return ChunkProgress(index.num_rows, failed, float(pc.sum(index["duration_seconds"]).as_py() or 0.0))


def _require_each_once(todo: pl.DataFrame, index: pl.DataFrame) -> None:
    distinct = index.select(ITEM).n_unique() if index.height else 0
    missing = todo.join(index, on=ITEM, how="anti").height
    if index.height != todo.height or distinct != todo.height or missing:
        raise ClusterError(
            f"{todo.height} rows were planned, {index.height} came out ({distinct} distinct)",
            "nothing was committed; start the command again and report this",
        )
