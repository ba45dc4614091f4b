"""Tracks that left the catalogue, and those that came back: marked by rows of their own, once it is sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mgc.data.changes import WorkPlan
from mgc.data.copies import copy_rows, deleted_at
from mgc.data.outputs import OutputDirectory, Run


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
    confirm: Callable[[int, int], bool] = lambda gone, live: False

    def allows(self, plan: WorkPlan) -> bool:
        """Return whether the plan's `gone_rows` are to be marked."""
        gone = plan.gone
        if not gone or self.accepted or gone < self.ask_fraction * plan.live:
            return True
        return self.confirm(gone, plan.live)


@dataclass(frozen=True)
class Marks:
    """What is to be marked: index rows of tracks that are gone, and of tracks that are back."""

    gone: pl.DataFrame
    returned: pl.DataFrame
    refused: int = 0

    @property
    def count(self) -> int:
        """Rows to write."""
        return self.gone.height + self.returned.height


def marks_of(plan: WorkPlan, rule: DeletionRule | None) -> Marks:
    """Return what a run has to mark; nothing where there is no rule, as for features."""
    if rule is None:
        return Marks(plan.gone_rows.clear(), plan.returned_rows.clear())
    if rule.allows(plan):
        return Marks(plan.gone_rows, plan.returned_rows)
    return Marks(plan.gone_rows.clear(), plan.returned_rows, refused=plan.gone)


def write_marks(output: OutputDirectory, run: Run, marks: Marks) -> pl.DataFrame:
    """Write the marks as rows of a run, and return their index."""
    gone = copy_rows(output, run, marks.gone, deleted_at(datetime.now(UTC)), "deleted")
    return pl.concat([gone, copy_rows(output, run, marks.returned, deleted_at(None), "returned")])
