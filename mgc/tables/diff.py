"""What there is to do: the anti-join of wanted items with what an output directory already holds.

An item is a (track, view). A row is current if its item is wanted and its `content_id`, its `recipe` (which names
the content of an overlay's partner) and the fingerprint of what made it are unchanged. That one join is resume,
incremental run and re-tag, all in one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from mgc.tables.retry import RetryRule
from mgc.tables.run_index import ITEM, item_key

EXAMPLES = 3
"""Tracks named for each reason to work."""


@dataclass(frozen=True)
class WorkPlan:
    """What there is to do for a catalogue, or for a slice of it, and why.

    Parameters
    ----------
    todo
        Items to work on (schema PLAN), in the order of (track_id, view).
    unchanged, new, changed, remade, retried
        Items whose row is current; never seen; of other content; made with another recipe or fingerprint; failed
        and tried again.
    removed_rows
        Index rows of tracks that are no longer in the catalogue and not marked deleted yet.
    restored_rows
        Index rows of tracks that were marked deleted and are back as they were; they count as unchanged.
    live
        Tracks that have a row and are not marked deleted.
    unwanted
        Views that have a row, of tracks in the catalogue, but are no longer wanted: nothing reads them.
    wanted_tracks
        Tracks of which anything is wanted.
    made_by
        Fingerprints of what made the rows that are to be remade, where it was something else.
    examples
        Some URIs for each reason to work: new, changed, remade, retried.
    """

    todo: pl.DataFrame
    unchanged: int
    new: int
    changed: int
    remade: int
    retried: int
    removed_rows: pl.DataFrame
    restored_rows: pl.DataFrame
    live: int = 0
    unwanted: int = 0
    wanted_tracks: int = 0
    made_by: tuple[str, ...] = ()
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def tracks(self) -> int:
        """Tracks to work on."""
        return self.todo["track_id"].n_unique()

    @property
    def removed(self) -> int:
        """Tracks that are no longer in the catalogue and not marked deleted yet."""
        return self.removed_rows["track_id"].n_unique()

    @property
    def restored(self) -> int:
        """Tracks that were marked deleted and are back as they were."""
        return self.restored_rows["track_id"].n_unique()

    def limited(self, limit: int | None) -> pl.DataFrame:
        """Return the items of the first `limit` tracks; all where it is None."""
        if limit is None:
            return self.todo
        first = self.todo["track_id"].unique(maintain_order=True).head(limit)
        return self.todo.filter(pl.col("track_id").is_in(first.implode()))


@dataclass
class PlanTotals:
    """What a run has to do over all slices of its catalogue, and why, in counts; see `WorkPlan`.

    Parameters
    ----------
    items, tracks
        To work on, in all.
    chosen
        Items that this run works on: all, or those of the first tracks.
    """

    items: int = 0
    tracks: int = 0
    chosen: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    remade: int = 0
    retried: int = 0
    removed: int = 0
    restored: int = 0
    live: int = 0
    unwanted: int = 0
    wanted_tracks: int = 0
    made_by: tuple[str, ...] = ()
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, plan: WorkPlan, chosen: int) -> None:
        """Take in the plan of a slice, of which so many items are chosen."""
        self.items += plan.todo.height
        self.chosen += chosen
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(plan, name))
        self.made_by = tuple(sorted({*self.made_by, *plan.made_by}))
        for reason, uris in plan.examples.items():
            self.examples[reason] = sorted([*self.examples.get(reason, ()), *uris])[:EXAMPLES]


_SUMMED = (
    "tracks", "unchanged", "new", "changed", "remade", "retried", "removed", "restored", "live", "unwanted",
    "wanted_tracks",
)  # fmt: skip


def plan_work(
    items: pl.DataFrame,
    index: pl.DataFrame,
    fingerprint: str,
    *,
    retry: RetryRule | None = None,
    force: bool = False,
) -> WorkPlan:
    """Return what has to be done for `items` given the `newest` rows there are.

    Parameters
    ----------
    items
        What is wanted, schema PLAN.
    index
        At most one row an item, schema INDEX.
    fingerprint
        What rows are to be made with.
    retry
        Which failed items are tried again; None: none.
    force
        Redo everything.
    """
    had = index.select(
        *ITEM,
        pl.col("content_id").alias("had_content"),
        ((pl.col("fingerprint") != fingerprint) | pl.lit(force)).alias("remake"),
        pl.col("recipe").alias("had_recipe"),
        (retry.due() if retry else pl.lit(False)).alias("retry"),
    )
    # Only what is compared is joined: items carry URIs and tags, a million of them.
    by = item_key(items, index)
    wanted = items.select(*by, "content_id", "recipe")
    joined = wanted.join(had.drop(set(ITEM) - set(by)), on=by, how="left", maintain_order="left")
    reason = joined.select(_reason()).to_series()
    counts = dict(reason.value_counts().iter_rows())
    work = reason != "unchanged"
    todo = items.filter(work).select(items.columns).sort(ITEM)
    deleted = index["deleted"].fill_null(False)
    live, dead = (index.filter(~deleted), index.filter(deleted)) if deleted.any() else (index, index.clear())
    unrequested = live.join(wanted.select(by), on=by, how="anti")
    removed = (
        unrequested.join(items.select("track_id"), on="track_id", how="anti") if unrequested.height else unrequested
    )
    restored = dead.join(wanted.select(by).filter(~work), on=by, how="semi") if dead.height else dead
    return WorkPlan(
        todo=todo,
        unchanged=counts.get("unchanged", 0),
        new=counts.get("new", 0),
        changed=counts.get("changed", 0),
        remade=counts.get("remade", 0),
        retried=counts.get("retried", 0),
        removed_rows=removed,
        restored_rows=restored,
        live=_tracks(live, by),
        unwanted=unrequested.height - removed.height,
        wanted_tracks=_tracks(items, by),
        made_by=_makers(live, fingerprint) if counts.get("remade") else (),
        examples=_examples(items.filter(work).select("uri").with_columns(reason.filter(work).alias("reason"))),
    )


def _makers(live: pl.DataFrame, fingerprint: str) -> tuple[str, ...]:
    return tuple(live.filter(pl.col("fingerprint") != fingerprint)["fingerprint"].unique().sort())


def _tracks(items: pl.DataFrame, by: list[str]) -> int:
    """Return how many tracks there are; items of one view each are tracks."""
    return items.height if len(by) == 1 else items["track_id"].n_unique()


def _reason() -> pl.Expr:
    return (
        pl.when(pl.col("had_content").is_null())
        .then(pl.lit("new"))
        .when(pl.col("had_content") != pl.col("content_id"))
        .then(pl.lit("changed"))
        .when(pl.col("remake") | (pl.col("had_recipe") != pl.col("recipe")))
        .then(pl.lit("remade"))
        .when(pl.col("retry"))
        .then(pl.lit("retried"))
        .otherwise(pl.lit("unchanged"))
        .alias("reason")
    )


def _examples(work: pl.DataFrame) -> dict[str, list[str]]:
    first = work.unique(["reason", "uri"]).sort("uri")
    return dict(first.group_by("reason").agg(pl.col("uri").head(EXAMPLES)).iter_rows())
