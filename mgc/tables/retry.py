"""What failures of a run lead to: another try of a track, or, where too many fail, the end of the run.

Which failed tracks are tried again depends on error code, how often they failed, how long ago, and what decoded them.

A fetch that failed says little about the track: it is tried again, each time after a longer wait, until it has failed
too often. Bytes that cannot be decoded fail again, unless what decodes them has changed. A track whose content
changes is always tried anew (`mgc.tables.diff`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from mgc.config import RetryConfig
from mgc.errors import FailuresError, error_meaning
from mgc.storage.objects import UNREACHABLE

RETRY_COLUMNS = ("deleted", "attempts", "tried_at", "decoder")
"""What an index says of a row beyond where it is."""

FEWEST_ITEMS = 20
"""In a run of fewer any number may fail."""

_CONTENT = ["track_id", "view", "content_id"]


@dataclass(frozen=True)
class RetryRule:
    """When a failed row is worth another try.

    Parameters
    ----------
    config
        The policy.
    decoder
        What decodes now (`mgc.audio.decode.audio_reader`); empty: not known, and no reason to try.
    now
        This machine's clock.
    everything
        Try every failed row.
    """

    config: RetryConfig
    decoder: str
    now: datetime
    everything: bool = False

    @classmethod
    def of(cls, config: RetryConfig, decoder: str = "", *, everything: bool = False) -> RetryRule:
        """Return the rule as of now."""
        return cls(config, decoder, datetime.now(UTC), everything)

    def due(self) -> pl.Expr:
        """Return whether an index row (schema INDEX) failed and is to be tried again."""
        failed = pl.col("error_code").is_not_null()
        tries = pl.col("attempts").fill_null(1).clip(1)
        few = pl.lit(True) if self.config.attempts is None else tries < self.config.attempts
        again = self._listed() & few & self._waited(tries)
        other_decoder = (pl.col("decoder") != self.decoder).fill_null(False) if self.decoder else pl.lit(False)
        return failed & (pl.lit(self.everything) | again | other_decoder)

    def blames_run(self) -> pl.Expr:
        """Return whether an index row failed by something else than its file: any code but T2xx, or one to retry."""
        of_file = pl.col("error_code").str.starts_with("T2") & ~self._listed()
        return (pl.col("error_code").is_not_null() & ~of_file).fill_null(False)

    def _listed(self) -> pl.Expr:
        # The code is written T103_FETCH_FAILED; settings may name it by its number.
        return pl.col("error_code").str.split("_").list.first().is_in(_numbers(self.config.codes))

    def _waited(self, tries: pl.Expr) -> pl.Expr:
        """Return whether the wait after so many failures is over: 0, 1, 3, 7 … times `wait_hours`."""
        doubled = (pl.lit(2.0).pow((tries - 1).clip(0, 40)) - 1) * self.config.wait_hours
        hours = pl.min_horizontal(doubled, pl.lit(self.config.longest_wait_hours))
        waited = (pl.lit(self.now) - pl.col("tried_at")).dt.total_seconds() / 3_600
        # A try in the future is one by another clock: no reason to wait for it.
        return (waited.is_null() | (waited < 0) | (waited >= hours)).fill_null(True)


def _numbers(codes: tuple[str, ...]) -> list[str]:
    return [code.partition("_")[0] for code in codes]


def stamped(index: pl.DataFrame, before: pl.DataFrame, rule: RetryRule) -> pl.DataFrame:
    """Return a run's own index rows with `attempts`, `tried_at` and `decoder` filled in for failed rows.

    Parameters
    ----------
    before
        The `newest` rows there were, schema INDEX: a failure of the same content by the same fingerprint adds up.
    """
    failed = pl.col("error_code").is_not_null()
    if not index["error_code"].is_not_null().any():
        return index
    same = ["track_id", "view", "content_id", "fingerprint"]
    had = before.filter(failed).select(*same, pl.col("attempts").fill_null(1).alias("had"))
    counted = index.join(had, on=same, how="left", maintain_order="left")
    return counted.with_columns(
        attempts=pl.when(failed).then(pl.col("had").fill_null(0) + 1).cast(pl.Int32),
        tried_at=pl.when(failed).then(pl.lit(rule.now)).cast(index.schema["tried_at"]),
        decoder=pl.when(failed).then(pl.lit(rule.decoder or None, dtype=pl.String)),
    ).select(index.columns)


@dataclass
class FailureLimit:
    """Ends a run of which too much fails by something else than the files: a token that expired, a bucket in repair.

    Tracks that are known to fail, as they are, count neither as failed nor among all: links that lead nowhere end no
    run.

    Parameters
    ----------
    max_fraction
        Of the items, that may fail.
    rule
        Says which failures count.
    todo
        Items to be worked on, schema PLAN.
    committed
        The `newest` rows that earlier runs committed, schema INDEX.
    resumed
        Items of killed or ended runs that went through, and so count among all.
    """

    max_fraction: float
    rule: RetryRule
    todo: pl.DataFrame
    committed: pl.DataFrame
    resumed: int = 0
    _failed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        failed = self.committed.filter(pl.col("error_code").is_not_null())
        reachable = self.todo.filter(pl.col("content_id") != UNREACHABLE)
        self._fresh = reachable.select(*_CONTENT, "uri").join(failed, on=_CONTENT, how="anti")
        self._items = self._fresh.height + self.resumed

    def count(self, index: pl.DataFrame) -> None:
        """Take in index rows that were made just now.

        Raises
        ------
        FailuresError
            So many have failed that the run cannot come below the limit any more.
        """
        failed = index.filter(self.rule.blames_run())
        if failed.is_empty() or self._items < FEWEST_ITEMS:
            return
        fresh = failed.select(*_CONTENT, "error_code").join(self._fresh, on=_CONTENT)
        self._failed.update(fresh["error_code"].to_list())
        if self._failed.total() > self.max_fraction * self._items:
            raise self._error(fresh["error_code"][0], fresh["uri"][0])

    def _error(self, code: str, uri: str) -> FailuresError:
        counts = ", ".join(f"{name} {count:,} times" for name, count in self._failed.most_common())
        meaning = error_meaning(code)
        return FailuresError(
            f"{self._failed.total():,} of {self._items:,} items failed ({counts}; '{uri}'), more than the share of "
            f"{self.max_fraction:g} (cluster.max_failed_fraction): the run was ended, and none of them committed",
            f"{meaning.remedy if meaning else ''} What went through is kept: the same command resumes it and tries "
            "the others. If so many are meant to fail, --set cluster.max_failed_fraction=1",
        )
