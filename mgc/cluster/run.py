"""An incremental run: plan what changed, work through it, commit it; of a large catalogue a slice at a time.

First every slice of the catalogue is planned, and its counts alone are kept: so what there is to do is known, and
asked about, once. Then the work is done in groups of slices. How many there are depends on what there is to do: a
thousand tracks that changed among a million are one group, one pool of actors and one commit. Each group is planned
when its turn comes, and committed whole; so no more than a group is in memory, and a kill loses none that was
committed.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import polars as pl

from mgc import __version__
from mgc.audio.decode.audio_reader import decoder_mark
from mgc.cluster.actor_pool import ChunkProgress, ChunkWorker, Done, run_chunks
from mgc.cluster.runtime import RaySession, ray_session
from mgc.config import Config
from mgc.logs import log, log_context
from mgc.tables import slices
from mgc.tables.deletions import DeletionMarks, DeletionRule, write_marks
from mgc.tables.diff import PlanTotals, WorkPlan, plan_work
from mgc.tables.lease import RunLease, run_lease
from mgc.tables.parquet_batches import frame_of, give_back_memory
from mgc.tables.retry import FailureLimit, RetryRule, stamped
from mgc.tables.run_index import (
    ITEM,
    ResumedParts,
    empty_index,
    index_facts,
    newest,
    newest_index,
    resume_unfinished,
    run_part_refs,
    write_checkpoint,
    write_index,
)
from mgc.tables.run_log import Commit, OutputDirectory, OutputRun
from mgc.tables.run_records import Forecast, RunThroughput, forecast
from mgc.tables.schema import PLAN
from mgc.tables.slices import Slices, Span

ITEMS_A_WORKER = 1_000
"""Of a group, at least: beside minutes of work the start of an actor is short, and the wait for the last one, too."""


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
    on_plan: Callable[[PlanTotals, int], None] = lambda plan, resumed: None
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
        Called under the lease once all is committed, and between two groups where a file of what readers open is
        complete. Its second argument raises where another run has taken over.
    """

    output: OutputDirectory
    items: Slices
    fingerprint: str
    make_worker: Callable[[], ChunkWorker]
    config: Config
    gpus_per_worker: Callable[[RaySession, int], float] = lambda session, workers: 0.0
    deletions: DeletionRule | None = None
    publish: Callable[[OutputDirectory, Callable[[], None]], object] = lambda output, require_lease: None


@dataclass
class RunOutcome:
    """What an incremental run did, over all its commits.

    Parameters
    ----------
    fingerprint
        Of what made the rows: the feature settings or the bundle, as the run began with them.
    plan
        What was planned.
    resumed
        Items resumed from killed runs, among the plan's unchanged ones.
    run_id, sequence
        Of the last commit; None and 0 where there was nothing to do.
    runs
        Whose rows the commits made visible: each group's run, and the killed runs whose parts were resumed.
    rows, tracks
        Made now, failed ones included; and of how many tracks.
    failed_by_code, failed_examples
        Of these: rows by error code, and the URI of one track for each.
    audio_seconds, work_seconds, wall_seconds
        Of the rows made now; of the work without planning and start of Ray; of the whole run.
    cores
        CPUs that worked, at the most.
    forecast
        Of a dry run: how long the work is likely to take.
    deleted, restored, refused
        Tracks marked deleted; live again; to be deleted, and not marked because they are too many.
    """

    fingerprint: str
    plan: PlanTotals
    resumed: int = 0
    run_id: str | None = None
    sequence: int = 0
    runs: set[str] = field(default_factory=set)
    rows: int = 0
    tracks: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)
    failed_examples: dict[str, str] = field(default_factory=dict)
    audio_seconds: float = 0.0
    work_seconds: float = 0.0
    wall_seconds: float = 0.0
    cores: int = 0
    forecast: Forecast | None = None
    deleted: int = 0
    restored: int = 0
    refused: int = 0

    def _add(self, commit: Commit, done: Done, group: _Group) -> None:
        """Take in what a commit made visible."""
        index, marks = done.index, group.marks
        self.run_id, self.sequence, self.runs = commit.run_id, commit.sequence, self.runs | commit.runs
        self.rows += index.height
        self.tracks += index["track_id"].n_unique()
        failed = index.filter(pl.col("error_code").is_not_null()).select(*ITEM, "error_code")
        counts = Counter(self.failed_by_code) + Counter(dict(failed["error_code"].value_counts().iter_rows()))
        self.failed_by_code = dict(sorted(counts.items()))
        named = failed.join(group.todo.select(*ITEM, "uri"), on=ITEM).group_by("error_code").agg(pl.col("uri").min())
        self.failed_examples = dict(named.iter_rows()) | self.failed_examples
        self.audio_seconds += float(index["duration_seconds"].sum() or 0.0)
        self.work_seconds += done.work_seconds
        self.cores = max(self.cores, done.workers)
        self.deleted += marks.removed.height
        self.restored += marks.restored.height


def run_incrementally(job: CatalogueJob, options: RunOptions) -> RunOutcome:
    """Make the rows of the job's items that its output lacks, and make them visible by one commit a group of slices.

    Ray is not started where there is nothing to do.

    Raises
    ------
    FailuresError
        More items of a group than `cluster.max_failed_fraction` failed; nothing of it was committed, finished parts
        are kept. What was committed before it stays.
    """
    started = time.perf_counter()
    output, cluster = job.output, job.config.cluster
    if options.dry_run:
        outcome = _Planner(job, options).outcome
        outcome.forecast = forecast(output.commits(), outcome.plan.chosen, cluster.workers)
        outcome.wall_seconds = time.perf_counter() - started
        return outcome
    output.store.check_writable()
    output.mark()
    give_back_memory()
    with run_lease(output.store, cluster.lease_seconds, takeover=options.takeover) as lease, ExitStack() as stack:
        # Only now: of a run that ended since, all counts, and none that lives is taken for a killed one.
        planner = _Planner(job, options)
        outcome = planner.outcome
        # The user is asked before progress is shown and before any work; never by a dry run.
        planner.decide_deletions()
        options.on_plan(outcome.plan, outcome.resumed)
        session = stack.enter_context(ray_session(cluster)) if outcome.plan.chosen else None
        began, shown = started, ""
        while not planner.is_done:
            end = _do_group(job, options, planner, session, lease, began)
            began = time.perf_counter()
            give_back_memory()
            # Not after each: a file of `current` is written whole, and of a large library it holds many groups.
            if not planner.is_done and end[:1] != shown:
                shown = end[:1]
                job.publish(output, lease.require)
        job.publish(output, lease.require)
        write_checkpoint(output)
        output.note_completed(outcome.run_id, outcome.refused)
        if outcome.run_id is None:
            log.info("nothing to do: %d items are current", outcome.plan.unchanged)
        else:
            with log_context(run_id=outcome.run_id):
                log.info("run ended well: %d rows, %d tracks marked deleted", outcome.rows, outcome.deleted)
        outcome.wall_seconds = time.perf_counter() - started
        return outcome


@dataclass(frozen=True)
class _Part:
    """What a group has to do in a slice of the catalogue, and what was there before.

    Parameters
    ----------
    todo
        Items to be worked on, schema PLAN.
    removed, restored
        Index rows of tracks to be marked.
    failed, failed_committed
        Rows of the items of `todo` that failed before; those of them that are committed.
    resumed, n_resumed
        Index rows of killed runs' parts; items that need no work because of them.
    """

    todo: pl.DataFrame
    removed: pl.DataFrame
    restored: pl.DataFrame
    failed: pl.DataFrame
    failed_committed: pl.DataFrame
    resumed: pl.DataFrame
    n_resumed: int


@dataclass(frozen=True)
class _Turn:
    """A slice whose work is yet to come: tracks of the limit that are left for it, and rows to make and to mark."""

    span: Span
    limit: int | None
    rows: int
    removed: int


@dataclass(frozen=True)
class _Group:
    """Slices that are worked on and committed together, and killed runs' parts that their commit takes with it."""

    todo: pl.DataFrame
    marks: DeletionMarks
    failed: pl.DataFrame
    failed_committed: pl.DataFrame
    resumed: ResumedParts
    n_resumed: int
    end: str


class _Planner:
    """Plans all slices, one after another, and later each again when its turn comes.

    What the first slices have to do is kept, as long as it is no more than a slice's: where there is little to do,
    all is planned once.
    """

    def __init__(self, job: CatalogueJob, options: RunOptions) -> None:
        self._job, self._force = job, options.force
        config = job.config
        self.rule = RetryRule.of(config.retry, decoder_mark(config.decode), everything=config.cluster.retry_failed)
        resumed = resume_unfinished(job.output, job.fingerprint)
        # A run that ended because too much failed is resumed in what went through: the rest may succeed now.
        self._resumed = replace(resumed, index=resumed.index.filter(~self.rule.blames_run()))
        self._commits = job.output.commits()
        self._turns: deque[_Turn] = deque()
        self._held: dict[Span, _Part] = {}
        self.outcome = RunOutcome(job.fingerprint, PlanTotals())
        self._plan_all(options.limit)

    def _plan_all(self, limit: int | None) -> None:
        held, resumed = 0, [empty_index()]
        for span in self._job.items.spans:
            part = self._part(span, limit, self.outcome.plan)
            resumed.append(part.resumed)
            self.outcome.resumed += part.n_resumed
            turn = _Turn(span, limit, part.todo.height + part.restored.height, part.removed.height)
            held += turn.rows + turn.removed
            if held <= slices.SLICE_TRACKS or not self._held:
                self._held[span] = part
            self._turns.append(turn)
            limit = None if limit is None else limit - part.todo["track_id"].n_unique()
        self._resumed = replace(self._resumed, index=pl.concat(resumed))

    def _part(self, span: Span, limit: int | None, totals: PlanTotals | None = None) -> _Part:
        items = self._job.items.read(span)
        committed = newest_index(self._job.output, self._commits, span)
        resumed = stamped(span.of(self._resumed.index), committed, self.rule)
        have = newest(pl.concat([committed, resumed])) if resumed.height else committed
        plan = plan_work(items, have, self._job.fingerprint, retry=self.rule, force=self._force)
        todo = plan.limited(limit)
        if totals is not None:
            totals.add(plan, todo.height)
        marks = self._job.deletions is not None
        return _Part(
            todo=todo,
            removed=plan.removed_rows if marks else plan.removed_rows.clear(),
            restored=plan.restored_rows if marks else plan.restored_rows.clear(),
            failed=_failed_of(todo, have),
            failed_committed=_failed_of(todo, committed),
            resumed=resumed,
            n_resumed=_count_resumed(resumed, plan, items),
        )

    def decide_deletions(self) -> None:
        """Find out whether missing tracks are to be marked deleted: asked once, over all slices."""
        rule, plan = self._job.deletions, self.outcome.plan
        if rule is not None and not rule.allows(plan.removed, plan.live):
            self.outcome.refused = plan.removed

    def _rows(self, turn: _Turn) -> int:
        return turn.rows + (0 if self.outcome.refused else turn.removed)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do, to mark or to resume."""
        return not self._resumed.parts and not any(map(self._rows, self._turns))

    def next_group(self, most_rows: int) -> _Group:
        """Plan the next slices of which there is something to do, of about so many rows at most."""
        parts: list[_Part] = []
        rows, end = 0, ""
        while self._turns and (not rows or rows + self._rows(self._turns[0]) <= most_rows):
            turn = self._turns.popleft()
            part = self._held.pop(turn.span, None)
            if self._rows(turn):
                parts.append(part or self._part(turn.span, turn.limit))
                rows, end = rows + self._rows(turn), turn.span.end or ""
        none = empty_index()
        removed = [] if self.outcome.refused else [part.removed for part in parts]
        return _Group(
            pl.concat([_NO_ITEMS, *(part.todo.select(_NO_ITEMS.columns) for part in parts)]),
            DeletionMarks(pl.concat([none, *removed]), pl.concat([none, *(part.restored for part in parts)])),
            pl.concat([none, *(part.failed for part in parts)]),
            pl.concat([none, *(part.failed_committed for part in parts)]),
            self._resumed,
            sum(part.n_resumed for part in parts),
            end,
        )

    def committed(self, commit: Commit) -> None:
        """Go on from a commit: it shows what was resumed, too."""
        self._resumed = ResumedParts([], empty_index())
        self._commits = self._job.output.commits(also=[commit.name])


_NO_ITEMS = frame_of(PLAN.empty_table())


def _failed_of(todo: pl.DataFrame, index: pl.DataFrame) -> pl.DataFrame:
    return index.filter(pl.col("error_code").is_not_null()).join(todo.select(ITEM), on=ITEM, how="semi")


def _count_resumed(resumed: pl.DataFrame, plan: WorkPlan, items: pl.DataFrame) -> int:
    """Return how many items need no work because a killed run had done them."""
    if resumed.is_empty():
        return 0
    wanted = items.select(ITEM).join(plan.todo, on=ITEM, how="anti")
    return wanted.join(resumed, on=ITEM, how="semi").height


def _do_group(
    job: CatalogueJob,
    options: RunOptions,
    planner: _Planner,
    session: RaySession | None,
    lease: RunLease,
    started: float,
) -> str:
    """Do the next group and commit it; return where its slices end."""
    if session and session.joined:
        session = session.refreshed()  # it may have grown since the group before
    workers = job.config.cluster.workers or (session.n_cpus if session else 0)
    group = planner.next_group(max(slices.SLICE_TRACKS, ITEMS_A_WORKER * workers))

    def advance(step: ChunkProgress) -> None:
        if lease.lost:
            lease.require()
        options.on_progress(step)

    run, done = _work(job, group, planner.rule, session, advance)
    with log_context(run_id=run.run_id):
        marked = write_marks(job.output, run, group.marks)
        lease.require()
        commit = _commit(job, run, group, planner.rule, done, marked, started)
    planner.outcome._add(commit, done, group)
    planner.committed(commit)
    return group.end


def _work(
    job: CatalogueJob,
    group: _Group,
    rule: RetryRule,
    session: RaySession | None,
    on_progress: Callable[[ChunkProgress], None],
) -> tuple[OutputRun, Done]:
    output, cluster, todo = job.output, job.config.cluster, group.todo
    facts = {"mgc_version": __version__, "tracks": todo["track_id"].n_unique(), "items": todo.height}
    # Recorded only now: a cluster that cannot be joined leaves no run in the output.
    run = output.start_run(job.fingerprint, facts)
    if todo.is_empty() or session is None:
        return run, Done(empty_index(), 0.0, 0)
    limit = FailureLimit(cluster.max_failed_fraction, rule, todo, group.failed_committed, resumed=group.n_resumed)
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


def _commit(
    job: CatalogueJob,
    run: OutputRun,
    group: _Group,
    rule: RetryRule,
    done: Done,
    marked: pl.DataFrame,
    started: float,
) -> Commit:
    output = job.output
    made = stamped(done.index, group.failed, rule)
    index_key, index = f"{run.folder}/index.parquet", pl.concat([group.resumed.index, made, marked])
    write_index(output, index_key, index)
    parts = [*group.resumed.parts, *run_part_refs(run, pl.concat([made, marked]))]
    failed = int(made["error_code"].is_not_null().sum())
    facts = {**run.facts, "failed": failed, "rows": made.height, **index_facts(index)}
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
