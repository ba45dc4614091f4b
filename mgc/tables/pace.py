"""How long a run is likely to take, from what earlier runs in the same output directory took."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass

from mgc.tables.run_log import Commit

RUNS_LOOKED_AT = 5
"""The newest ones that tell: the machine may have changed since older ones."""


@dataclass(frozen=True)
class RunThroughput:
    """What a run measured of itself; its commit keeps it.

    Parameters
    ----------
    workers
        Actors at work.
    rows_per_worker_second
        From the first chunk back to the last; None where there was but one chunk.
    other_seconds
        All the rest of the run: planning, Ray's start, the actors' start, the commit.
    """

    workers: int
    rows_per_worker_second: float | None
    other_seconds: float

    def facts(self) -> dict[str, object]:
        """Return it as facts of a commit."""
        return {"pace": asdict(self)}


@dataclass(frozen=True)
class Forecast:
    """A guess with its ground.

    Parameters
    ----------
    seconds
        Wall time; None where no earlier run tells.
    workers
        Actors it is made for.
    runs
        Earlier runs it rests on.
    """

    seconds: float | None
    workers: int | None
    runs: int


def forecast(commits: list[Commit], rows: int, workers: int | None) -> Forecast:
    """Return how long `rows` rows are likely to take.

    Parameters
    ----------
    commits
        Of the output directory, oldest first.
    workers
        Actors; None: as many as the newest of the runs had.
    """
    paces = [RunThroughput(**commit.facts["pace"]) for commit in commits if "pace" in commit.facts]
    telling = [pace for pace in paces if pace.rows_per_worker_second][-RUNS_LOOKED_AT:]
    if not telling:
        return Forecast(None, workers, 0)
    at_work = workers or telling[-1].workers
    rate = statistics.median(pace.rows_per_worker_second or 0.0 for pace in telling)
    other = statistics.median(pace.other_seconds for pace in telling)
    return Forecast(rows / (rate * at_work) + (other if rows else 0.0), at_work, len(telling))
