"""Which failed tracks are tried again: by error code, how often they failed, how long ago, and what decoded them.

A fetch that failed says little about the track: it is tried again, each time after a longer wait, until it has failed
too often. Bytes that cannot be decoded fail again, unless what decodes them has changed. A track whose content
changes is always tried anew (`mgc.tables.diff`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mgc.config import RetryConfig

RETRY_COLUMNS = ("deleted", "attempts", "tried_at", "decoder")
"""What an index says of a row beyond where it is."""


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
        # The code is written T103_FETCH_FAILED; settings may name it by its number.
        listed = pl.col("error_code").str.split("_").list.first().is_in(_numbers(self.config.codes))
        again = listed & few & self._waited(tries)
        other_decoder = (pl.col("decoder") != self.decoder).fill_null(False) if self.decoder else pl.lit(False)
        return failed & (pl.lit(self.everything) | again | other_decoder)

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
