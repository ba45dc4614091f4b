"""Tracks that left the catalogue, and those that came back: marked by rows of their own, once it is sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mgc.tables.copies import copy_rows, deleted_at
from mgc.tables.diff import WorkPlan
from mgc.tables.run_log import OutputDirectory, OutputRun


@dataclass(frozen=True)
class DeletionRule:
    """When tracks that are no longer in the catalogue are marked deleted.

    Parameters
    ----------
    ask_fraction
        Share of the tracks from which on it is not believed: a folder that was not mounted looks the same.
    accepted
        The user said so beforehand.
    confirm
        Asked with the number gone and the number of tracks; a job that nobody watches says no.
    """

    ask_fraction: float
    accepted: bool = False
    confirm: Callable[[int, int], bool] = lambda removed, live: False

    def allows(self, plan: WorkPlan) -> bool:
        """Return whether the plan's `removed_rows` are to be marked."""
        removed = plan.removed
        if not removed or self.accepted or removed < self.ask_fraction * plan.live:
            return True
        return self.confirm(removed, plan.live)


@dataclass(frozen=True)
class DeletionMarks:
    """What is to be marked: index rows of tracks that are gone, and of tracks that are back."""

    removed: pl.DataFrame
    restored: pl.DataFrame
    refused: int = 0

    @property
    def count(self) -> int:
        """Rows to write."""
        return self.removed.height + self.restored.height


def deletion_marks(plan: WorkPlan, rule: DeletionRule | None) -> DeletionMarks:
    """Return what a run has to mark; nothing where there is no rule, as for features."""
    if rule is None:
        return DeletionMarks(plan.removed_rows.clear(), plan.restored_rows.clear())
    if rule.allows(plan):
        return DeletionMarks(plan.removed_rows, plan.restored_rows)
    return DeletionMarks(plan.removed_rows.clear(), plan.restored_rows, refused=plan.removed)


def write_marks(output: OutputDirectory, run: OutputRun, marks: DeletionMarks) -> pl.DataFrame:
    """Write the marks as rows of a run, and return their index."""
    removed = copy_rows(output, run, marks.removed, deleted_at(datetime.now(UTC)), "deleted")
    return pl.concat([removed, copy_rows(output, run, marks.restored, deleted_at(None), "restored")])
