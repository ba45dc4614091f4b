"""How long what is left of an experiment is likely to take, by what its cells have taken so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mgc.studies.runs import Cell


class CellTimeEstimator:
    """Seconds of cells by system, and a forecast from them.

    Parameters
    ----------
    slots
        Cells that run side by side.
    """

    def __init__(self, slots: int) -> None:
        self._slots = max(1, slots)
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def record(self, system: str, seconds: float) -> None:
        """Take in a finished cell."""
        self._seconds[system].append(seconds)

    def seconds_left(self, waiting: Iterable[Cell], running: Iterable[tuple[Cell, float]]) -> float | None:
        """Return the likely time to the end; None before any cell is finished.

        A system none of whose cells is finished yet counts as the mean of those that are.

        Parameters
        ----------
        running
            Cells at work and the share of each that is done.
        """
        everything = [seconds for some in self._seconds.values() for seconds in some]
        if not everything:
            return None
        usual = sum(everything) / len(everything)

        def expected(cell: Cell) -> float:
            own = self._seconds.get(cell.system.name)
            return sum(own) / len(own) if own else usual

        at_work = list(running)
        left = [(1.0 - min(1.0, share)) * expected(cell) for cell, share in at_work]
        work = sum(map(expected, waiting)) + sum(left)
        # One long cell at the end keeps its slot, however idle the others are.
        return max(work / self._slots, max(left, default=0.0))
