"""An incremental run: plan what changed, work through it, commit it in one write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from mgc import __version__
from mgc.cluster.actor import WorkerSpec
from mgc.cluster.runtime import RaySession, ray_session
from mgc.cluster.work import Advance, Done, run_chunks
from mgc.config import Config
from mgc.data.changes import (
    ITEM,
    Adopted,
    WorkPlan,
    adopt_unfinished,
    newest,
    plan_work,
    run_part_refs,
    visible_index,
    write_index,
)
from mgc.data.outputs import Commit, OutputDirectory, Run


@dataclass(frozen=True)
class RunOptions:
    """What the caller wants of a run.

    Parameters
    ----------
    force
        Redo everything.
    limit
        At most so many tracks, with all their views; None: all.
    gpus_per_worker
        Share of a GPU for each actor, given the session; by default none.
    on_plan
        Told what will be done before Ray starts.
    """

    force: bool = False
    limit: int | None = None
    gpus_per_worker: Callable[[RaySession, int], float] = lambda session, workers: 0.0
    on_plan: Callable[[WorkPlan, int], None] = lambda plan, adopted: None


@dataclass(frozen=True)
class Outcome:
    """What an incremental run did.

    Parameters
    ----------
    run_id
        Of the run; None where there was nothing to do.
    plan
        What was planned.
    adopted
        Items taken up from killed runs, among the plan's unchanged ones.
    index
        The run's own index rows; `error_code` tells which failed.
    audio_seconds, work_seconds, wall_seconds
        Of the rows made now; of the work without planning and start of Ray; of the whole run.
    cores
        CPUs that worked.
    """

    run_id: str | None
    plan: WorkPlan
    adopted: int
    index: pl.DataFrame
    audio_seconds: float
    work_seconds: float
    wall_seconds: float
    cores: int
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def failed_by_code(self) -> dict[str, int]:
        """Count of rows by error code, of this run."""
        failed = self.index.filter(pl.col("error_code").is_not_null())
        return dict(failed.group_by("error_code").len().sort("error_code").iter_rows())


def run_incrementally(
    output: OutputDirectory,
    items: pl.DataFrame,
    spec: WorkerSpec,
    fingerprint: str,
    config: Config,
    options: RunOptions,
    *,
    on_advance: Callable[[Advance], None] = lambda _: None,
) -> Outcome:
    """Make the rows of `items` (schema PLAN) that `output` lacks, and make them visible by one commit.

    Ray is not started where there is nothing to do.
    """
    started = time.perf_counter()
    output.store.check_writable()
    adopted = adopt_unfinished(output, fingerprint)
    have = newest(pl.concat([visible_index(output), adopted.index]))
    plan = plan_work(items, have, fingerprint, retry_failed=config.cluster.retry_failed, force=options.force)
    todo = plan.limited(options.limit)
    taken_up = _taken_up(adopted, plan, items)
    options.on_plan(plan, taken_up)
    if todo.is_empty() and not adopted.parts:
        return _outcome(None, plan, taken_up, Done(have.head(0), 0.0, 0), started)
    facts = {"mgc_version": __version__, "tracks": todo["track_id"].n_unique(), "items": todo.height}
    if todo.is_empty():
        run, done = output.start_run(fingerprint, facts), Done(have.head(0), 0.0, 0)
    else:
        with ray_session(config.cluster) as session:
            # Recorded only now: a cluster that cannot be joined leaves nothing in the output.
            run = output.start_run(fingerprint, facts)
            workers = min(config.cluster.workers or session.n_cpus, todo.height)
            gpus = options.gpus_per_worker(session, workers)
            done = run_chunks(
                output, run, todo, spec, config.cluster, session, gpus_per_worker=gpus, on_advance=on_advance
            )
    _commit(output, run, adopted, done.index)
    return _outcome(run.run_id, plan, taken_up, done, started)


def _taken_up(adopted: Adopted, plan: WorkPlan, items: pl.DataFrame) -> int:
    """Return how many items need no work because a killed run had done them."""
    wanted = items.select(ITEM).join(plan.todo, on=ITEM, how="anti")
    return wanted.join(adopted.index, on=ITEM, how="semi").height


def _commit(output: OutputDirectory, run: Run, adopted: Adopted, index: pl.DataFrame) -> None:
    whole = pl.concat([adopted.index, index])
    index_key = f"{run.folder}/index.parquet"
    write_index(output, index_key, whole)
    parts = [*adopted.parts, *run_part_refs(run, index)]
    facts = {**run.facts, "failed": int(index["error_code"].is_not_null().sum()), "rows": index.height}
    output.commit(Commit(run.run_id, run.sequence, index_key, parts, facts))


def _outcome(run_id: str | None, plan: WorkPlan, taken_up: int, done: Done, started: float) -> Outcome:
    return Outcome(
        run_id=run_id,
        plan=plan,
        adopted=taken_up,
        index=done.index,
        audio_seconds=float(done.index["duration_seconds"].sum() or 0.0),
        work_seconds=done.work_seconds,
        wall_seconds=time.perf_counter() - started,
        cores=done.workers,
    )
