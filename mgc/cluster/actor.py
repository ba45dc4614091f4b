"""What runs in an actor of the pool: chunk number in, part written, index rows out.

Two calls run in an actor at once, so that the decoder never waits: while one chunk is heard, the one before is
written and the one after is fetched. A worker hears one chunk at a time.
"""

from __future__ import annotations

import io
import threading
import time
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mgc.cluster.prometheus import time_chunk
from mgc.storage.store import Store
from mgc.tables.run_index import index_rows
from mgc.tables.run_log import OutputRun
from mgc.tables.schema import KIND_KEY

CALLS_AT_ONCE = 2
"""Of one actor: a chunk being heard, and one being written or fetched ahead."""


class ChunkWorker(Protocol):
    """What an actor does with a chunk."""

    def process(self, rows: pa.Table) -> pa.Table:
        """Return exactly one output row for each item (schema PLAN); a track's items follow one another.

        Called from `CALLS_AT_ONCE` threads.
        """


class WorkerSpec(Protocol):
    """A picklable description from which each actor makes its worker, once."""

    def start(self, run: OutputRun) -> ChunkWorker:
        """Return the worker of a run."""


class ChunkActor:
    """One actor of the pool."""

    def __init__(self, output_uri: str, run: OutputRun, spec: WorkerSpec) -> None:
        self._store = Store.open(output_uri)
        self._run = run
        # First: its decoding child imports its libraries while the plan is read.
        self._worker = spec.start(run)
        with self._store.open_input(f"{run.folder}/plan.parquet") as source:
            self._plan = pq.ParquetFile(io.BytesIO(source.read()))
        self._reading = threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do the chunks whose numbers are in column `chunk`."""
        return pa.concat_tables([self._do(chunk) for chunk in batch["chunk"].to_pylist()])

    def _do(self, chunk: int) -> pa.Table:
        started = time.perf_counter()
        with self._reading:
            rows = self._plan.read_row_group(chunk)
        part = self._worker.process(rows)
        buffer = io.BytesIO()
        # Log-mels as float16 hardly compress; the store's time counts more than its bytes.
        pq.write_table(part, buffer, compression="lz4", use_dictionary=False)
        key = self._run.part_key(chunk)
        self._store.write_atomic(key, buffer.getvalue())
        time_chunk((part.schema.metadata or {}).get(KIND_KEY, b"").decode(), time.perf_counter() - started)
        return index_rows(part, key, self._run.sequence, self._run.fingerprint)
