"""The items of work: which views of which tracks are wanted, with every number of each view decided.

An item is a (track, view). What it is made of is the track's content and its recipe, which names the content of an
overlay's partner too: where any of it changes, the item is made anew, and nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from mgc.audio.views import draw_recipe, hashed
from mgc.config import AugmentConfig
from mgc.config.view_settings import CLEAN, View, parse_view
from mgc.tables.parquet_batches import frame_of
from mgc.tables.schema import CATALOGUE, PLAN

_MOST_NUMBERED = 1_000
"""Views of a kind that balancing gives a track at most."""


def clean_items(catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return one item a track, its clean view; schema PLAN."""
    none = pl.lit(None, dtype=pl.String)
    return catalogue.select(CATALOGUE.names).with_columns(
        view=pl.lit(CLEAN),
        recipe=pl.lit(""),
        partner_id=none,
        partner_uri=none,
        partner_content_id=none,
        features_part=none,
    )


def plan_items(catalogue: pl.DataFrame, config: AugmentConfig) -> pl.DataFrame:
    """Return every wanted (track, view) of a catalogue.

    The clean view of every track; the other views of tracks in `config.splits`, and further numbered ones for rare
    genres (`config.balance_to_share`). An overlay needs a partner of the same split and genre: a track without a
    genre, or alone in it, has none.

    Returns
    -------
    pl.DataFrame
        Schema PLAN, in the order of (track_id, view).
    """
    items = [clean_items(catalogue)]
    augmented = catalogue.filter(pl.col("split").is_in(list(config.splits)))
    views = [view for view in map(parse_view, config.views) if view.kinds]
    if views and augmented.height:
        rows = list(_rows(_classes(augmented, views), config))
        drawn = pl.DataFrame(rows, schema=frame_of(PLAN.empty_table()).select(*_DRAWN).schema, orient="row")
        items.append(augmented.select(CATALOGUE.names).join(drawn, on="track_id"))
    return pl.concat(items, how="diagonal").select(PLAN.names).sort("track_id", "view")


_DRAWN = ("track_id", "view", "recipe", "partner_id", "partner_uri", "partner_content_id")


@dataclass(frozen=True)
class _Class:
    """The tracks of one split and genre: ids, places and contents side by side, and the views they may have."""

    split: str
    genre: str | None
    track_ids: list[str]
    uris: list[str]
    content_ids: list[str]
    views: list[View]

    @property
    def rows(self) -> int:
        """Rows of the class before balancing, clean ones included."""
        return len(self.track_ids) * (1 + len(self.views))


def _classes(tracks: pl.DataFrame, views: list[View]) -> list[_Class]:
    classes = []
    for part in tracks.sort("track_id").partition_by("split", "genre", maintain_order=True):
        genre = part["genre"][0]
        may_mix = genre is not None and part.height > 1
        one = _Class(
            split=part["split"][0],
            genre=genre,
            track_ids=part["track_id"].to_list(),
            uris=part["uri"].to_list(),
            content_ids=part["content_id"].to_list(),
            views=[view for view in views if may_mix or not view.mixes],
        )
        classes.append(one)
    return classes


def _rows(classes: list[_Class], config: AugmentConfig) -> Iterator[tuple[str | None, ...]]:
    for one in classes:
        partners = _Partners(one)
        for view in one.views:
            yield from (_row(one, place, view, partners, config) for place in range(len(one.track_ids)))
        if config.balance_to_share is not None and one.genre is not None:
            most = max(other.rows for other in classes if other.split == one.split and other.genre is not None)
            missing = math.ceil(config.balance_to_share * most) - one.rows
            for view, places in _further(one, missing, config.seed):
                yield from (_row(one, place, view, partners, config) for place in places)


def _further(one: _Class, missing: int, seed: int) -> Iterator[tuple[View, list[int]]]:
    """Yield numbered views and the tracks that get them until `missing` rows are made."""
    highest = {
        view.kinds: max(other.number for other in one.views if other.kinds == view.kinds) for view in one.views
    }
    for number in range(1, _MOST_NUMBERED + 1):
        for kinds, last in highest.items():
            if missing <= 0:
                return
            view = View(kinds, last + number)
            # Who gets the last ones is drawn too, so that a track more in the catalogue changes few of them.
            order = sorted(range(len(one.track_ids)), key=lambda place: hashed(seed, view.name, one.track_ids[place]))
            yield view, order[:missing]
            missing -= len(one.track_ids)


class _Partners:
    """Draws an overlay's partner: the next track on a ring on which each has a place that its id decides.

    So a track that comes or goes changes the partner of its neighbours alone, not of the whole class.
    """

    def __init__(self, one: _Class) -> None:
        places = np.array([hashed("ring", track_id) for track_id in one.track_ids], dtype=np.uint64)
        self._order = np.argsort(places, kind="stable")
        self._places = places[self._order]

    def of(self, place: int, *names: object) -> int:
        """Return another track's place in the class."""
        at = int(np.searchsorted(self._places, np.uint64(hashed(*names, "partner"))))
        found = int(self._order[at % len(self._order)])
        return found if found != place else int(self._order[(at + 1) % len(self._order)])


def _row(one: _Class, place: int, view: View, partners: _Partners, config: AugmentConfig) -> tuple[str | None, ...]:
    track_id = one.track_ids[place]
    if not view.mixes:
        return track_id, view.name, draw_recipe(view, track_id, config).to_text(), None, None, None
    other = partners.of(place, config.seed, track_id, view.name)
    partner_id, uri, content_id = one.track_ids[other], one.uris[other], one.content_ids[other]
    recipe = draw_recipe(view, track_id, config, f"{partner_id}@{content_id}")
    return track_id, view.name, recipe.to_text(), partner_id, uri, content_id
