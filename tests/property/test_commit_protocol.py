"""A model of the commit protocol, run against the real code: writers that meet, crash and see late listings.

Each writer is a run or a pruning of its own, held before every write, deletion, listing and commit until the model
lets it go on; so two or three of them are interleaved, killed and left behind at any point. Runs and publishers take
no notice of the lease: it saves work, and the invariants hold without it. Only prunings come one at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from greenlet import getcurrent, greenlet
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from in_process import config_of, without_ray
from tiny_predictions import history, one_after_another, output_of, tag_once

from mgc.errors import MgcError
from mgc.storage.objects import ObjectInfo
from mgc.storage.store import Store
from mgc.tables import compact, lease, run_index, run_log
from mgc.tables import publish as published
from mgc.tables.compact import plan_prune, prune
from mgc.tables.deletions import DeletionRule
from mgc.tables.lease import run_lease
from mgc.tables.publish import open_current, publish
from mgc.tables.run_log import Commit, IndexSnapshot, OutputDirectory

pytestmark = pytest.mark.slow

TRACKS = ("a", "b", "c", "d")
WRITERS = 3
HELD = ((Store, "write_atomic"), (Store, "delete"), (Store, "list"), (Store, "sync"), (published, "_commit"))
CONFIG = config_of(lease_seconds=3_600.0)
TO_THE_END = 1_000
STEPS = st.one_of(st.integers(1, 30), st.just(TO_THE_END))
"""How far a writer gets before another one goes on; often to its end."""


_LIVE_CONTENT = pl.when(~pl.col("deleted").fill_null(False)).then("content_id").alias("content")


class KilledError(BaseException):
    """What SIGKILL is to the code: nothing catches it."""


class Writer(greenlet):
    """A process at work, on one folder with others; the dead neither read nor write."""

    killed = False
    late = prunes = False
    """The newest of what it lists next is not there yet."""


class Protocol(RuleBasedStateMachine):
    """Runs, prunings and publishing over one output directory."""

    mutation: Callable[[pytest.MonkeyPatch], None] = staticmethod(lambda patch: None)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="mgc-protocol-")
        self.writers: list[Writer] = []
        self.contents = dict.fromkeys(TRACKS[:3], "0")
        self.committed: dict[str, int] = {}
        self.done: dict[str, set[str | None]] = {}
        self.shown: dict[str, int] = {}
        self.version = -1
        self.patch = pytest.MonkeyPatch()
        without_ray(self.patch)
        self.patch.setattr(os, "fsync", lambda handle: None)
        self.patch.setattr(lease, "_process_mark", lambda pid: None)
        self.patch.setattr(lease.RunLease, "require", lambda held: None)
        self.patch.setattr(published, "WAITS_SECONDS", (0.0,) * 5)
        self.patch.setattr(run_log, "CHECKPOINT_COMMITS", 0)
        self.patch.setattr(published, "prefetched", one_after_another)
        type(self).mutation(self.patch)
        self._hold_writers()

    def _hold_writers(self) -> None:
        for owner, name in HELD:
            real = getattr(owner, name)

            def held(*arguments: Any, real: Callable[..., Any] = real) -> Any:
                if isinstance(writer := getcurrent(), Writer):
                    writer.parent.switch()
                    if writer.killed:
                        raise KilledError
                found = real(*arguments)
                return _without_newest(writer, found) if real.__name__ == "list" else found

            self.patch.setattr(owner, name, held)
        commit = OutputDirectory.commit

        def seen(output: OutputDirectory, one: Commit) -> None:
            commit(output, one)
            if not one.replaces:
                rows = run_index.read_index(output, one.index_key)
                for track, sequence, content in rows.select("track_id", "sequence", _LIVE_CONTENT).iter_rows():
                    last = self.committed.get(track, 0)
                    self.committed[track] = max(sequence, last)
                    if sequence >= last:  # of runs that raced, either may count
                        self.done[track] = {content} | (self.done[track] if sequence == last else set())

        self.patch.setattr(OutputDirectory, "commit", seen)

    @property
    def output(self) -> OutputDirectory:
        return output_of(self.folder)

    def _begin(self, work: Callable[[], object]) -> None:
        def until_it_ends() -> None:
            with suppress(KilledError, MgcError):  # whose parts a pruning took away ends so
                work()

        writer = Writer(until_it_ends)
        writer.switch()
        self.writers.append(writer)

    @precondition(lambda self: len(self.writers) < WRITERS)
    @rule(changed=st.sampled_from(TRACKS), steps=STEPS)
    def a_run_begins(self, changed: str, steps: int) -> None:
        """The catalogue has a track more, or one of another content."""
        self.contents[changed] = f"{int(self.contents.get(changed, 0)) + 1}"
        contents = dict(self.contents)
        self._begin(lambda: _tag(self.folder, contents))
        self._go_on(self.writers[-1], steps)

    @precondition(lambda self: self.committed and not any(one.prunes for one in self.writers))
    @rule(steps=STEPS)
    def a_pruning_begins(self, steps: int) -> None:
        self._begin(lambda: _prune(self.folder))
        self.writers[-1].prunes = True
        self._go_on(self.writers[-1], steps)

    @precondition(lambda self: self.committed and len(self.writers) < WRITERS)
    @rule(steps=STEPS)
    def somebody_publishes(self, steps: int) -> None:
        self._begin(lambda: publish(self.output))
        self._go_on(self.writers[-1], steps)

    @precondition(lambda self: self.writers)
    @rule(chosen=st.integers(0, WRITERS - 1), steps=STEPS, late=st.booleans())
    def a_writer_goes_on(self, chosen: int, steps: int, late: bool) -> None:
        writer = self.writers[chosen % len(self.writers)]
        writer.late = late
        self._go_on(writer, steps)

    def _go_on(self, writer: Writer, steps: int) -> None:
        for _ in range(steps):
            if writer:  # until its end
                writer.switch()
                self.readers_see_a_whole_table()
        self.writers = [one for one in self.writers if one]

    @precondition(lambda self: self.writers)
    @rule(chosen=st.integers(0, WRITERS - 1))
    def a_writer_is_killed(self, chosen: int) -> None:
        _kill(self.writers.pop(chosen % len(self.writers)))

    @precondition(lambda self: self.version >= 0)
    @rule(chosen=st.integers(0, 10))
    def somebody_deletes_a_file_of_current_between_runs(self, chosen: int) -> None:
        self._all_die()
        table = open_current(Store.open(self.folder))
        if table and table.files:
            keys = sorted(table.files)
            Path(self.folder, keys[chosen % len(keys)]).unlink(missing_ok=True)
        self.all_is_well_after_a_run_to_its_end()

    @rule()
    def all_is_well_after_a_run_to_its_end(self) -> None:
        """Whatever was killed, the next run ends with every track once, and nothing of any commit is lost."""
        self._all_die()
        finished = {
            track: self.committed[track] for track, what in self.contents.items() if self.done.get(track) == {what}
        }
        _tag(self.folder, self.contents)
        assert finished.items() <= self.committed.items(), "what was committed is not done again"
        self.readers_see_a_whole_table()
        rows = DeltaTable(f"{self.folder}/current").to_pyarrow_table(columns=["track_id", "content_id"]).to_pylist()
        assert {row["track_id"]: row["content_id"] for row in rows} == self.contents
        kept = history(self.folder)
        assert not kept.select("track_id", "run_id", "sequence").is_duplicated().any(), "a row is once in history"
        newest = dict(kept.group_by("track_id").agg(pl.col("sequence").max()).iter_rows())
        assert newest.keys() >= self.committed.keys()
        assert all(newest[track] >= sequence for track, sequence in self.committed.items()), "no commit is lost"
        assert tag_once(self.folder, self.contents, config=CONFIG).run_id is None, "and there is nothing to do"

    def _all_die(self) -> None:
        while self.writers:
            _kill(self.writers.pop())

    @invariant()
    def readers_see_a_whole_table(self) -> None:
        """One row a track, of a commit, never older than what was shown before, whatever writers are amid of."""
        if not Path(self.folder, "current", "_delta_log").exists():
            return
        table = DeltaTable(f"{self.folder}/current")
        if table.version() == self.version:
            return
        rows = table.to_pyarrow_table(columns=["track_id", "sequence"]).to_pylist()
        shown = {row["track_id"]: row["sequence"] for row in rows}
        assert len(shown) == len(rows), "a track has more than one row"
        assert all(sequence <= self.committed[track] for track, sequence in shown.items()), "of no commit"
        assert shown.keys() >= self.shown.keys(), "a track is missing"
        assert all(shown[track] >= sequence for track, sequence in self.shown.items()), "of yesterday"
        self.shown, self.version = shown, table.version()

    def teardown(self) -> None:
        self._all_die()
        self.patch.undo()
        lease._HELD.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _tag(folder: str, contents: dict[str, str]) -> None:
    tag_once(folder, contents, config=CONFIG, takeover=True, deletions=DeletionRule(1.0))


def _prune(folder: str) -> None:
    output = output_of(folder)
    with run_lease(output.store, 3_600.0, takeover=True) as held:
        plan = plan_prune(output, -1.0)
        held.require()
        if not plan.is_empty:
            prune(output, plan)


def _kill(writer: Writer) -> None:
    writer.killed = True
    while writer:
        writer.switch()


def _without_newest(writer: object, items: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
    """Return a listing; of a writer that it is late for, without the last of what is there."""
    found = list(items)
    if isinstance(writer, Writer) and writer.late and found and found[0].key.startswith(("commits/", "runs/")):
        writer.late = False
        found.remove(max(found, key=lambda item: item.modified))
    return iter(found)


def _check(examples: int, steps: int, machine: type[Protocol] = Protocol) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        ),
    )


@pytest.mark.timeout(1_800)
def test_every_invariant_holds_however_writers_meet_and_die() -> None:
    _check(40, 20)


def in_slices(patch: pytest.MonkeyPatch) -> None:
    """A run is several commits, and the index is read a span of ids at a time."""
    patch.setattr("mgc.tables.slices.SLICE_TRACKS", 2)
    patch.setattr("mgc.cluster.run.ITEMS_A_WORKER", 1)
    patch.setattr(run_index, "SMALL_INDEX_ROWS", 1)
    patch.setattr(run_log, "CHECKPOINT_WHOLE_BYTES", 0)


@pytest.mark.timeout(1_800)
def test_every_invariant_holds_where_runs_are_done_in_slices() -> None:
    _check(20, 15, _mutated(in_slices))


def test_a_pruning_deletes_nothing_of_a_run_that_came_and_went_while_it_planned() -> None:
    for at in range(1, 12):
        model = Protocol()
        try:
            model.a_run_begins("b", TO_THE_END)
            model.a_pruning_begins(at)
            if not model.writers:
                return
            model.a_run_begins("d", TO_THE_END)
            model.a_writer_goes_on(0, TO_THE_END, late=False)
            model.somebody_publishes(TO_THE_END)
            model.readers_see_a_whole_table()
            assert set(model.shown) == set(TRACKS)
        finally:
            model.teardown()


MEETINGS = ("run", "pruning")


def _meet(machine: type[Protocol], held: str, *, killed: bool) -> None:
    """Hold a writer at each of its steps, let a run come and go, and the first go on, or not."""
    for at in range(1, TO_THE_END):
        model = machine()
        try:
            model.a_run_begins("a", TO_THE_END)
            if held == "run":
                model.a_run_begins("d", at)  # a track more: a file that nothing stands in for
            else:
                model.a_run_begins("b", TO_THE_END)
                model.a_pruning_begins(at)
            if not model.writers:
                return
            model.a_run_begins("c", TO_THE_END)
            if not killed:
                model.a_writer_goes_on(0, TO_THE_END, late=False)
            model.all_is_well_after_a_run_to_its_end()
        finally:
            model.teardown()


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("held", MEETINGS)
def test_a_writer_that_is_held_at_any_step_while_a_run_comes_and_goes_undoes_nothing(held: str, killed: bool) -> None:
    _meet(Protocol, held, killed=killed)


def _mutated(mutation: Callable[[pytest.MonkeyPatch], None]) -> type[Protocol]:
    return type("Mutated", (Protocol,), {"mutation": staticmethod(mutation)})


def reads_the_version_last(patch: pytest.MonkeyPatch) -> None:
    """The rows are derived first, and committed on whatever version is there by then."""
    real = published._commit

    def commit(store: Store, seen: published.CurrentTable, change: published._Change, *others: Any) -> None:
        newest = open_current(store)
        if newest and seen.table:
            seen = published.CurrentTable(newest.table, seen.files | newest.files, seen.record)
        real(store, seen, change, *others)

    patch.setattr(published, "_commit", commit)


def writes_each_commits_parts_to_history(patch: pytest.MonkeyPatch) -> None:
    def all_parts(commits: list[Commit]) -> dict[str, published._HistoryFiles]:
        return {commit.name: published._HistoryFiles(commit, commit.parts) for commit in commits}

    patch.setattr(published, "_history_files", all_parts)


def prunes_before_it_commits(patch: pytest.MonkeyPatch) -> None:
    real = compact._compact

    def late(output: OutputDirectory, plan: compact.PrunePlan) -> object:
        for item in plan.replaced:
            if item.key.startswith("commits/"):
                output.store.delete(item.key)
        return real(output, plan)

    patch.setattr(compact, "_compact", late)


def shows_a_run_before_its_index(patch: pytest.MonkeyPatch) -> None:
    waiting: list[tuple[Any, ...]] = []
    write, commit = run_index.write_index, OutputDirectory.commit

    def commit_first(output: OutputDirectory, one: Commit) -> None:
        commit(output, one)
        while waiting:
            write(*waiting.pop())

    patch.setattr("mgc.cluster.run.write_index", lambda *arguments: waiting.append(arguments))
    patch.setattr(OutputDirectory, "commit", commit_first)


def takes_the_oldest_row(patch: pytest.MonkeyPatch) -> None:
    def oldest(index: pl.DataFrame) -> pl.DataFrame:
        return index.sort("sequence").unique(run_index.ITEM, keep="first", maintain_order=True)

    patch.setattr(run_index, "newest", oldest)


def numbers_all_runs_alike(patch: pytest.MonkeyPatch) -> None:
    real = OutputDirectory._records

    def none_started(output: OutputDirectory, folder: str) -> dict[str, tuple[int, str]]:
        return {} if folder == "started" else real(output, folder)

    patch.setattr(OutputDirectory, "_records", none_started)


def believes_any_checkpoint(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IndexSnapshot, "is_of", lambda snapshot, commits: True)


def drops_parts_before_they_are_in_the_history(patch: pytest.MonkeyPatch) -> None:
    real = published._write_history

    def dropping(output: OutputDirectory, files: published._HistoryFiles) -> None:
        for part in files.parts:
            output.store.delete(part.key)
        real(output, files)

    patch.setattr(published, "_write_history", dropping)


def looks_for_no_lost_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(published.CurrentTable, "is_whole", lambda table, there: True)


def believes_what_it_published_once(patch: pytest.MonkeyPatch) -> None:
    """What was published is noted apart, before `current` changes."""
    real, noted = published._publish, set()

    def publish_once(output: OutputDirectory, *others: Any) -> int | None:
        names = tuple(commit.name for commit in output.commits())
        if names in noted:
            return None
        noted.add(names)
        return real(output, *others)

    patch.setattr(published, "_publish", publish_once)


MUTATIONS = [
    reads_the_version_last,
    writes_each_commits_parts_to_history,
    prunes_before_it_commits,
    shows_a_run_before_its_index,
    takes_the_oldest_row,
    numbers_all_runs_alike,
    believes_any_checkpoint,
    drops_parts_before_they_are_in_the_history,
    looks_for_no_lost_file,
    believes_what_it_published_once,
]


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mutation_of_the_protocol_is_caught(mutation: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever invariant it breaks
        _searched(_mutated(mutation))


def _searched(machine: type[Protocol]) -> None:
    for held in MEETINGS:
        for killed in (False, True):
            _meet(machine, held, killed=killed)
    _check(60, 20, machine)
