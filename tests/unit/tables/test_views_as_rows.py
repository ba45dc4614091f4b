"""Views through the anti-join: only what is missing is made, and rows that nobody wants are not read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from table_makers import TINY, catalogue, feature_part, write_part

from mgc.cluster.actor_pool import chunk_starts
from mgc.config import AugmentConfig
from mgc.storage.store import Store
from mgc.tables.diff import WorkPlan, plan_work
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import (
    current_index,
    current_rows,
    empty_index,
    newest,
    newest_index,
    run_part_refs,
    write_index,
)
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.work_items import clean_items, plan_items

VIEWS = AugmentConfig(views=("tempo", "overlay"))


def done(items: pl.DataFrame, **changed: str) -> pl.DataFrame:
    """Return the index of a run that made all items."""
    rows = items.select(
        "track_id",
        "view",
        "content_id",
        "recipe",
        duration_seconds=pl.lit(1.0),
        error_code=pl.lit(None, dtype=pl.String),
        error_stage=pl.lit(None, dtype=pl.String),
        part=pl.lit("runs/1/part-000000.parquet"),
        sequence=pl.lit(1, dtype=pl.Int64),
        fingerprint=pl.lit("f"),
    )
    changed_rows = rows.with_columns(**{name: pl.lit(value) for name, value in changed.items()})
    return pl.concat([empty_index(), changed_rows], how="diagonal")


def planned(tracks: pl.DataFrame, config: AugmentConfig, index: pl.DataFrame) -> WorkPlan:
    return plan_work(plan_items(tracks, config), newest(index), "f")


def names(plan: WorkPlan) -> list[tuple[str, str]]:
    return list(plan.todo.select("track_id", "view").iter_rows())


def test_views_asked_for_later_are_all_that_is_made() -> None:
    tracks = catalogue({"a": "1", "b": "1"})
    plan = planned(tracks, VIEWS, done(clean_items(tracks)))
    assert names(plan) == [("a", "overlay"), ("a", "tempo"), ("b", "overlay"), ("b", "tempo")]
    assert (plan.unchanged, plan.new, plan.tracks, plan.wanted_tracks) == (2, 4, 2, 2)


def test_views_no_longer_wanted_are_counted_and_left() -> None:
    tracks = catalogue({"a": "1", "b": "1"})
    plan = planned(tracks, AugmentConfig(), done(plan_items(tracks, VIEWS)))
    assert (plan.todo.height, plan.unchanged, plan.unwanted, plan.removed) == (0, 2, 4, 0)


def test_another_split_takes_the_views_away_and_gives_the_partner_up() -> None:
    tracks = catalogue({"a": "1", "b": "1", "c": "1"})
    index = done(plan_items(tracks, VIEWS))
    moved = tracks.with_columns(split=pl.when(pl.col("track_id") == "c").then(pl.lit("valid")).otherwise("split"))
    plan = planned(moved, VIEWS, index)
    assert plan.unwanted == 2
    before = dict(
        plan_items(tracks, VIEWS).filter(pl.col("view") == "overlay").select("track_id", "partner_id").rows()
    )
    assert names(plan) == [(name, "overlay") for name in ("a", "b") if before[name] == "c"]
    assert plan.remade == plan.todo.height


def test_an_overlay_is_made_anew_when_its_partner_changes_and_nothing_else_is() -> None:
    tracks = catalogue({"a": "1", "b": "1"})
    changed = catalogue({"a": "1", "b": "2"})
    plan = planned(changed, VIEWS, done(plan_items(tracks, VIEWS)))
    assert names(plan) == [("a", "overlay"), ("b", "clean"), ("b", "overlay"), ("b", "tempo")]
    assert (plan.changed, plan.remade) == (3, 1)


@pytest.mark.parametrize(
    ("setting", "remade"),
    [
        ({"tempo_ratio": (0.9, 1.1)}, "tempo"),
        ({"overlay_alpha": (0.6, 0.7)}, "overlay"),
        ({"gain_db": (-1, 1)}, None),
    ],
)
def test_another_range_remakes_the_views_that_drew_from_it(
    setting: dict[str, tuple[float, float]], remade: str
) -> None:
    tracks = catalogue({"a": "1", "b": "1"})
    plan = planned(tracks, VIEWS.model_copy(update=setting), done(plan_items(tracks, VIEWS)))
    assert set(plan.todo["view"]) == ({remade} if remade else set())
    assert plan.todo.height == (2 if remade else 0)


def test_a_limit_counts_tracks_and_takes_all_their_views() -> None:
    plan = planned(catalogue({"a": "1", "b": "1", "c": "1"}), VIEWS, done(clean_items(catalogue({})).head(0)))
    assert plan.limited(2)["track_id"].to_list() == ["a"] * 3 + ["b"] * 3
    assert plan.limited(None).height == 9


def test_a_chunk_never_parts_a_track() -> None:
    views = plan_items(catalogue(dict.fromkeys("abcde", "1")), VIEWS)
    assert chunk_starts(views, 7) == [0, 6, 12]
    assert chunk_starts(views, 6) == [0, 6, 12]
    assert chunk_starts(views, 1) == [0, 3, 6, 9, 12]
    assert chunk_starts(clean_items(catalogue(dict.fromkeys("abcde", "1"))), 2) == [0, 2, 4]


def test_only_wanted_views_are_read(tmp_path: Path) -> None:
    output = OutputDirectory(Store.open(str(tmp_path)), "features")
    run = output.start_run(TINY.fingerprint(), {})
    part = feature_part({"a": "1", "b": "1", "c": "1"})
    part = part.set_column(part.schema.get_field_index("view"), "view", [["clean", "tempo", "clean"]])
    index = frame_of(write_part(output, run, 0, part.cast(feature_part({}).schema)))
    write_index(output, f"{run.folder}/index.parquet", index)
    output.commit(Commit(run.run_id, run.sequence, f"{run.folder}/index.parquet", run_part_refs(run, index), {}))
    assert newest_index(output).height == 3
    where = current_index(output, catalogue({"a": "1", "b": "1"}))
    found = [row for table in current_rows(output, where, ["n_windows"]) for row in table.to_pylist()]
    assert found == [{"n_windows": 1, "track_id": "a", "view": "clean"}]
    tempo = plan_items(catalogue({"b": "1"}), AugmentConfig(views=("tempo",)))
    assert current_index(output, tempo).select("track_id", "view").rows() == [("b", "tempo")]
