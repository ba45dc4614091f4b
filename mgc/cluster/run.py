"""An incremental run: plan what changed, work through it, commit it in one write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from mgc import __version__
from mgc.audio.decode.audio_reader import decoder_mark
from mgc.cluster.actor_pool import ChunkProgress, ChunkWorker, Done, run_chunks
from mgc.cluster.runtime import RaySession, ray_session
from mgc.config import Config
from mgc.logs import log, log_context
from mgc.tables.deletions import DeletionMarks, DeletionRule, deletion_marks, write_marks
from mgc.tables.diff import WorkPlan, plan_work
from mgc.tables.lease import run_lease
from mgc.tables.retry import FailureLimit, RetryRule, stamped
from mgc.tables.run_index import (
    ITEM,
    ResumedParts,
    empty_index,
    newest,
    newest_index,
    resume_unfinished,
    run_part_refs,
    write_index,
)
from mgc.tables.run_log import Commit, OutputDirectory, OutputRun
from mgc.tables.run_records import Forecast, RunThroughput, forecast


@dataclass(frozen=True)
class RunOptions:
    """What the caller wants of a run; made once, by the command, and passed through.

    Parameters
    ----------
    force
        Redo everything.
    limit
        At most so many tracks, with all their views; None: all.
    dry_run
        Only plan and forecast: write nothing, start nothing.
    takeover
        Take the place of a run that seems to be alive.
    accept_deletions, confirm_deletions
        See `DeletionRule`; features have no deletions.
    on_plan
        Called before Ray starts with the plan and how many items are resumed; not by a dry run.
    on_progress
        Called with each finished chunk.
    """

    force: bool = False
    limit: int | None = None
    dry_run: bool = False
    takeover: bool = False
    accept_deletions: bool = False
    confirm_deletions: Callable[[int, int], bool] = lambda removed, live: False
    on_plan: Callable[[WorkPlan, int], None] = lambda plan, resumed: None
    on_progress: Callable[[ChunkProgress], None] = lambda step: None


@dataclass(frozen=True)
class CatalogueJob:
    """What a run makes of a catalogue's items, and where.

    Parameters
    ----------
    output
        Where the rows go.
    items
        Schema PLAN: the rows wanted.
    fingerprint
        Of what makes the rows: the feature settings or the bundle.
    make_worker
        Picklable; each actor calls it once.
    config
        Of the run: retries, lease, workers.
    gpus_per_worker
        Share of a GPU for each actor, given the session and the number of actors.
    deletions
        When tracks that left the catalogue are marked so; None: never, as for features.
    publish
        Called under the lease once everything is committed: makes what readers open. Its second argument raises where
        another run has taken over.
    """

    output: OutputDirectory
    items: pl.DataFrame
    fingerprint: str
    make_worker: Callable[[], ChunkWorker]
    config: Config
    gpus_per_worker: Callable[[RaySession, int], float] = lambda session, workers: 0.0
    deletions: DeletionRule | None = None
    publish: Callable[[OutputDirectory, Callable[[], None]], object] = lambda output, require_lease: None


@dataclass(frozen=True)
class RunOutcome:
    """What an incremental run did.

    Parameters
    ----------
    run_id
        Of the run; None where there was nothing to do.
    fingerprint
        Of what made the rows: the feature settings or the bundle, as the run began with them.
    plan
        What was planned.
    resumed
        Items resumed from killed runs, among the plan's unchanged ones.
    index
        The run's own index rows; `error_code` is set where one failed.
    audio_seconds, work_seconds, wall_seconds
        Of the rows made now; of the work without planning and start of Ray; of the whole run.
    cores
        CPUs that worked.
    commit
        That made the rows visible; None where there was nothing to do.
    forecast
        Of a dry run: how long the work is likely to take.
    deleted, restored, refused
        Tracks marked deleted; live again; to be deleted, and not marked because they are too many.
    """

    run_id: str | None
    fingerprint: str
    plan: WorkPlan
    resumed: int
    index: pl.DataFrame
    audio_seconds: float
    work_seconds: float
    wall_seconds: float
    cores: int
    commit: Commit | None = None
    forecast: Forecast | None = None
    deleted: int = 0
    restored: int = 0
    refused: int = 0

    @property
    def failed_by_code(self) -> dict[str, int]:
        """Count of rows by error code, of this run."""
        failed = self.index.filter(pl.col("error_code").is_not_null())
        return dict(failed.group_by("error_code").len().sort("error_code").iter_rows())

    @property
    def failed_examples(self) -> dict[str, str]:
        """URI of one track for each error code, of this run."""
        failed = self.index.filter(pl.col("error_code").is_not_null()).select(*ITEM, "error_code")
        named = failed.join(self.plan.todo.select(*ITEM, "uri"), on=ITEM)
        return dict(named.group_by("error_code").agg(pl.col("uri").min()).iter_rows())


def run_incrementally(job: CatalogueJob, options: RunOptions) -> RunOutcome:
    """Make the rows of the job's items that its output lacks, and make them visible by one commit.

    Ray is not started where there is nothing to do.

    Raises
    ------
    FailuresError
        More items than `cluster.max_failed_fraction` failed; nothing was committed, finished parts are kept.
    """
    started = time.perf_counter()
    output, cluster = job.output, job.config.cluster
    if options.dry_run:
        run_plan = _plan_run(job, options)
        estimate = forecast(output.commits(), run_plan.todo.height, cluster.workers)
        return replace(_nothing_done(job, run_plan, started), forecast=estimate)
    output.store.check_writable()
    output.mark()
    with run_lease(output.store, cluster.lease_seconds, takeover=options.takeover) as lease:
        # Only now: of a run that ended since, all counts, and none that lives is taken for a killed one.
        run_plan = _plan_run(job, options)
        marks = run_plan.marks
        if run_plan.todo.is_empty() and not run_plan.resumed.parts and not marks.count:
            job.publish(output, lease.require)
            output.write_checkpoint()
            output.note_completed(None, marks.refused)
            log.info("nothing to do: %d items are current", run_plan.plan.unchanged)
            return replace(_nothing_done(job, run_plan, started), refused=marks.refused)

        def advance(step: ChunkProgress) -> None:
            if lease.lost:
                lease.require()
            options.on_progress(step)

        run, done = _work(job, run_plan, advance)
        with log_context(run_id=run.run_id):
            marked = write_marks(output, run, marks)
            lease.require()
            commit = _commit(job, run, run_plan, done, marked, started)
            job.publish(output, lease.require)
            output.write_checkpoint()
            output.note_completed(run.run_id, marks.refused)
            log.info("run ended well: %d rows, %d tracks marked deleted", done.index.height, marks.removed.height)
        outcome = replace(_outcome(job, run.run_id, run_plan, done, started), commit=commit)
        return replace(outcome, deleted=marks.removed.height, restored=marks.restored.height, refused=marks.refused)


@dataclass(frozen=True)
class _RunPlan:
    """What there is (the newest rows, and those of killed runs), what there is to do, and what to mark."""

    rule: RetryRule
    committed: pl.DataFrame
    have: pl.DataFrame
    resumed: ResumedParts
    plan: WorkPlan
    todo: pl.DataFrame
    n_resumed: int
    marks: DeletionMarks


def _plan_run(job: CatalogueJob, options: RunOptions) -> _RunPlan:
    config = job.config
    rule = RetryRule.of(config.retry, decoder_mark(config.decode), everything=config.cluster.retry_failed)
    resumed = resume_unfinished(job.output, job.fingerprint)
    # A run that ended because too much failed is resumed in what went through: the rest may succeed now.
    resumed = replace(resumed, index=resumed.index.filter(~rule.blames_run()))
    committed = newest_index(job.output)
    resumed = replace(resumed, index=stamped(resumed.index, committed, rule))
    have = newest(pl.concat([committed, resumed.index])) if resumed.parts else committed
    plan = plan_work(job.items, have, job.fingerprint, retry=rule, force=options.force)
    n_resumed = _count_resumed(resumed, plan, job.items) if resumed.parts else 0
    # The user is asked before progress is shown and before any work; never by a dry run.
    marks = deletion_marks(plan, None if options.dry_run else job.deletions)
    if not options.dry_run:
        options.on_plan(plan, n_resumed)
    return _RunPlan(rule, committed, have, resumed, plan, plan.limited(options.limit), n_resumed, marks)


def _work(
    job: CatalogueJob, run_plan: _RunPlan, on_progress: Callable[[ChunkProgress], None]
) -> tuple[OutputRun, Done]:
    output, cluster, todo = job.output, job.config.cluster, run_plan.todo
    facts = {"mgc_version": __version__, "tracks": todo["track_id"].n_unique(), "items": todo.height}
    if todo.is_empty():
        return output.start_run(job.fingerprint, facts), Done(empty_index(), 0.0, 0)
    limit = FailureLimit(
        cluster.max_failed_fraction, run_plan.rule, todo, run_plan.committed, resumed=run_plan.n_resumed
    )
    with ray_session(cluster) as session:
        # Recorded only now: a cluster that cannot be joined leaves no run in the output.
        run = output.start_run(job.fingerprint, facts)
        with log_context(run_id=run.run_id):
            log.info("run begun: %d items of %d tracks", todo.height, facts["tracks"])
        gpus = job.gpus_per_worker(session, min(cluster.workers or session.n_cpus, todo.height))
        done = run_chunks(
            output,
            run,
            todo,
            job.make_worker,
            cluster,
            session,
            gpus_per_worker=gpus,
            on_progress=on_progress,
            on_index=limit.count,
        )
    return run, done


def _count_resumed(resumed: ResumedParts, plan: WorkPlan, items: pl.DataFrame) -> int:
    """Return how many items need no work because a killed run had done them."""
    wanted = items.select(ITEM).join(plan.todo, on=ITEM, how="anti")
    return wanted.join(resumed.index, on=ITEM, how="semi").height


def _commit(
    job: CatalogueJob, run: OutputRun, run_plan: _RunPlan, done: Done, marked: pl.DataFrame, started: float
) -> Commit:
    output = job.output
    index = stamped(done.index, run_plan.have, run_plan.rule)
    index_key = f"{run.folder}/index.parquet"
    write_index(output, index_key, pl.concat([run_plan.resumed.index, index, marked]))
    parts = [*run_plan.resumed.parts, *run_part_refs(run, pl.concat([index, marked]))]
    facts = {**run.facts, "failed": int(index["error_code"].is_not_null().sum()), "rows": index.height}
    if marked.height:
        deleted = int(marked["deleted"].sum())
        facts |= {"deleted": deleted, "restored": marked.height - deleted}
    if done.workers:
        facts |= _pace(done, time.perf_counter() - started).facts()
    commit = Commit(run.run_id, run.sequence, index_key, parts, facts)
    output.commit(commit)
    return commit


def _pace(done: Done, wall_seconds: float) -> RunThroughput:
    rate = done.steady_rows / done.steady_seconds / done.workers if done.steady_rows else None
    return RunThroughput(done.workers, rate, wall_seconds - done.steady_seconds)


def _nothing_done(job: CatalogueJob, run_plan: _RunPlan, started: float) -> RunOutcome:
    return _outcome(job, None, run_plan, Done(empty_index(), 0.0, 0), started)


def _outcome(job: CatalogueJob, run_id: str | None, run_plan: _RunPlan, done: Done, started: float) -> RunOutcome:
    return RunOutcome(
        run_id=run_id,
        fingerprint=job.fingerprint,
        plan=run_plan.plan,
        resumed=run_plan.n_resumed,
        index=done.index,
        audio_seconds=float(done.index["duration_seconds"].sum() or 0.0),
        work_seconds=done.work_seconds,
        wall_seconds=time.perf_counter() - started,
        cores=done.workers,
    )
