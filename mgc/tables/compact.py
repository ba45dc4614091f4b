"""Compacting an output directory: runs older than a number of days become one, with the newest row of each item.

Where that one failed, the last answer of its content stays too: `current` shows it.

Dropped are rows that a newer one of the same item, itself older than those days, has replaced: the table can still be
read as it was on any of the days kept. Deleted tracks keep their last row. Small parts become few large ones.

The compaction is a run: it writes parts and an index of its own, and its one commit names the runs that it stands
for (`Commit.replaces`). Until that write nothing has changed; from it on readers see the compaction, and what is
deleted after it is only waste: killed there, the next `prune` deletes the rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from mgc.errors import SchemaError
from mgc.storage.objects import ObjectInfo
from mgc.tables.parquet_batches import frame_of, in_batches, parquet_bytes
from mgc.tables.publish import publish
from mgc.tables.run_index import ITEM, answers_to_keep, current_rows, empty_index, newest, read_indices, write_index
from mgc.tables.run_log import CHECKPOINT, Commit, OutputDirectory, OutputRun, PartRef, history_run

HALF_WRITTEN_SECONDS = 24 * 3600
"""No write takes so long."""

COMPACTION = "compaction"
"""In place of a fingerprint: rows of any are put together, and no run resumes what a killed compaction wrote."""


@dataclass(frozen=True)
class PrunePlan:
    """What a pruning would do.

    Parameters
    ----------
    compacted
        Commits to put together, oldest first; none where there is nothing to gain.
    kept, dropped
        Index rows of theirs that stay, and how many go.
    waste
        Objects that no visible commit needs: of killed runs, and of earlier compactions.
    replaced
        Objects of the commits to be put together; their rows that stay are written anew.
    """

    compacted: list[Commit]
    kept: pl.DataFrame
    dropped: int
    waste: list[ObjectInfo]
    replaced: list[ObjectInfo]

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to do."""
        return not self.compacted and not self.waste


@dataclass(frozen=True)
class Pruned:
    """What a pruning did; bytes and objects before and after, of all below the output directory."""

    run_id: str | None
    dropped: int
    bytes_before: int
    bytes_after: int
    objects_before: int
    objects_after: int


def plan_prune(output: OutputDirectory, keep_days: float, now: datetime | None = None) -> PrunePlan:
    """Return what pruning would do; nothing is written.

    Parameters
    ----------
    keep_days
        Runs begun within so many days, and all after the first of them, stay as they are.
    """
    # First what there is, then who needs it: what a run writes and commits meanwhile is none of it.
    everything = list(output.store.list(""))
    names = (item.key.removesuffix(".json") for item in everything if item.key.startswith("commits/"))
    commits = output.commits(also=[name.removeprefix("commits/") for name in names])
    old = _older(commits, (now or datetime.now(UTC)) - timedelta(days=keep_days))
    index = pl.concat([empty_index(), *read_indices(output, old)])
    kept = newest(index)
    if output.kind == "predictions":
        failed = kept.filter(pl.col("error_code").is_not_null()).select(*ITEM, "content_id")
        kept = pl.concat([kept, answers_to_keep(index.join(failed, on=failed.columns, how="semi"), kept)])
    dropped = index.height - kept.height
    if len(old) < 2 and not dropped:
        old, kept = [], index.clear()
    old_run_ids = {commit.run_id for commit in old}
    needed = _runs_of([commit for commit in commits if commit.run_id not in old_run_ids]) | _resumable(
        output, commits
    )
    replaced = [item for item in everything if (run := _run_of(item.key)) in _runs_of(old) and run not in needed]
    waste = [item for item in everything if (run := _run_of(item.key)) and run not in needed | _runs_of(old)]
    return PrunePlan(old, kept, dropped, [*waste, *_half_written(output)], replaced)


def _half_written(output: OutputDirectory) -> list[ObjectInfo]:
    """Return what killed writers left under temporary names; what is young may be somebody's who lives."""
    return [item for item in output.store.leftovers() if time.time() - item.modified > HALF_WRITTEN_SECONDS]


def prune(output: OutputDirectory, plan: PrunePlan) -> Pruned:
    """Do what was planned: under the output's lease, with a plan made under it.

    Raises
    ------
    SchemaError
        A row that was to stay is not where the index says; nothing was changed.
    """
    before = list(output.store.list(""))
    run = _compact(output, plan) if plan.compacted else None
    if output.kind == "predictions":
        publish(output)
    if run:
        output.store.delete(CHECKPOINT)  # of commits that are no longer visible
    # Commits first: while one is there, its parts must be.
    for item in sorted([*plan.waste, *plan.replaced], key=lambda item: not item.key.startswith("commits/")):
        output.store.delete(item.key)
    after = list(output.store.list(""))
    return Pruned(
        run_id=run.run_id if run else None,
        dropped=plan.dropped,
        bytes_before=sum(item.size_bytes for item in before),
        bytes_after=sum(item.size_bytes for item in after),
        objects_before=len(before),
        objects_after=len(after),
    )


def _older(commits: list[Commit], moment: datetime) -> list[Commit]:
    """Return the oldest commits, up to the first that was begun at a moment or later."""
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    young = (
        number
        for number, commit in enumerate(commits)
        if not commit.replaces and commit.run_id.partition("-")[0] >= stamp
    )
    return commits[: next(young, len(commits))]


def _runs_of(commits: list[Commit]) -> set[str]:
    """Return the runs in whose folders commits have their parts and their index."""
    return {run for commit in commits for run in commit.runs}


def _resumable(output: OutputDirectory, commits: list[Commit]) -> set[str]:
    """Return the killed runs whose work the next run would resume."""
    newest = next((commit for commit in reversed(commits) if commit.parts and not commit.replaces), None)
    fingerprints = {part.fingerprint for part in newest.parts} if newest else set()
    return {run.run_id for fingerprint in fingerprints for run in output.unfinished_runs(fingerprint)}


def _run_of(key: str) -> str | None:
    """Return the run that an object belongs to; None for what is no run's, and for what all runs share."""
    folder, _, rest = key.partition("/")
    if folder == "runs":
        return rest.partition("/")[0]
    if folder in ("commits", "started"):
        return rest.removesuffix(".json").partition("-")[2]
    return history_run(key)


def _compact(output: OutputDirectory, plan: PrunePlan) -> OutputRun:
    # The runs of earlier compactions too: what is left of them, where the deletions are broken off, must neither be
    # seen nor be taken for a killed run's.
    earlier = {run_id for commit in plan.compacted for run_id in commit.replaces}
    replaces = sorted(_runs_of(plan.compacted) | earlier)
    newest_day = max(str(commit.facts.get("run_date", commit.run_id[:8])) for commit in plan.compacted)
    run = output.start_run(COMPACTION, {"replaces": replaces, "run_date": newest_day})
    index = _write_parts(output, run, plan.kept)
    index_key = f"{run.folder}/index.parquet"
    write_index(output, index_key, index)
    counts = (
        index.group_by("part").agg(pl.len(), pl.col("fingerprint").first(), pl.col("sequence").max()).sort("part")
    )
    throughputs = [commit.facts["throughput"] for commit in plan.compacted if "throughput" in commit.facts]
    facts = {**run.facts, "rows": index.height} | ({"throughput": throughputs[-1]} if throughputs else {})
    parts = [PartRef(*row) for row in counts.sort("part").iter_rows()]
    output.commit(Commit(run.run_id, run.sequence, index_key, parts, facts))
    return run


def _write_parts(output: OutputDirectory, run: OutputRun, kept: pl.DataFrame) -> pl.DataFrame:
    """Write the rows that stay, each fingerprint's apart, and return their index."""
    indices = [empty_index()]
    # A part holds an item once: the answers behind failures are written apart.
    layers = kept.with_columns(layer=pl.col("track_id").cum_count().over(ITEM))
    for number, (_, layer) in enumerate(layers.group_by(["layer", "fingerprint"], maintain_order=True)):
        rows = layer.drop("layer")
        for chunk, table in enumerate(in_batches(current_rows(output, rows))):
            key = f"{run.folder}/compact-{number:03d}-{chunk:06d}.parquet"
            output.store.write_atomic(key, parquet_bytes(table))
            by = [name for name in ITEM if name in table.column_names]
            own = frame_of(table.select(by)).join(rows, on=by, how="inner", maintain_order="left")
            indices.append(own.with_columns(part=pl.lit(key)).select(rows.columns))
    index = pl.concat(indices)
    if index.height != kept.height or kept.join(index, on=[*ITEM, "sequence"], how="anti").height:
        raise SchemaError(
            f"'{output.store.uri()}': {kept.height:,} rows were to stay, {index.height:,} were found",
            "nothing was changed; please report this",
        )
    return index
