"""Runs over catalogues of several slices: as those over one, but planned and committed a group at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import config_of, run_tiny, without_ray
from table_makers import catalogue
from tiny_predictions import files, history, identities, ids, killed_at, output_of, tag_once

from mgc.cluster import run as cluster_run
from mgc.cluster.run import RunOptions
from mgc.config import ClusterConfig
from mgc.errors import FailuresError
from mgc.tables import run_index, run_log
from mgc.tables.deletions import DeletionRule, rewrite_prediction_content_ids
from mgc.tables.predictions import read_predictions
from mgc.tables.run_index import empty_index, newest_index, read_index, write_checkpoint
from mgc.tables.slices import ALL_IDS, Slices, Span, spans_by_digits

SLICE = 4


def in_slices(patch: pytest.MonkeyPatch, tracks: int = SLICE) -> None:
    patch.setattr("mgc.tables.slices.SLICE_TRACKS", tracks)
    patch.setattr(run_index, "SMALL_INDEX_ROWS", tracks // 2)
    patch.setattr(cluster_run, "ITEMS_A_WORKER", 1)


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    in_slices(monkeypatch)


def facts(rows: pl.DataFrame) -> list[Any]:
    """Return what rows say that depends neither on the clock nor on how many commits brought them."""
    return sorted(
        rows.select("track_id", "content_id", "uri", "error_code", pl.col("deleted_at").is_null()).rows(), key=str
    )


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Items that each pool of actors was given."""
    given_items: list[int] = []
    real = cluster_run.run_chunks

    def counted(output: Any, run: Any, todo: pl.DataFrame, *others: Any, **named: Any) -> Any:
        given_items.append(todo.height)
        return real(output, run, todo, *others, **named)

    monkeypatch.setattr(cluster_run, "run_chunks", counted)
    return given_items


def test_a_catalogue_is_committed_slice_by_slice_and_readers_see_each_whole(tmp_path: Path, pools: list[int]) -> None:
    uri, contents, seen = str(tmp_path), ids(30), []

    def look(_: object) -> None:
        seen.append(len(identities(uri)) if (tmp_path / "current").exists() else 0)

    outcome = tag_once(uri, contents, on_progress=look)
    assert pools == [4, 4, 4, 4, 4, 4, 4, 2]
    assert (outcome.rows, outcome.tracks, outcome.plan.new, outcome.plan.items) == (30, 30, 30, 30)
    commits = output_of(uri).commits()
    assert [commit.run_id for commit in commits][-1] == outcome.run_id
    assert outcome.runs == {commit.run_id for commit in commits}
    assert seen == sorted(seen)
    assert set(seen) <= set(range(0, 30, 4)), "whole slices"
    assert len(set(seen)) > 4, "long before the end"
    assert identities(uri) == contents
    assert history(uri)["track_id"].is_unique().all()
    assert tag_once(uri, contents).run_id is None
    assert sorted({path.name for path in tmp_path.glob("runs/*/*")}) == ["index.parquet"]


def test_a_night_of_few_changes_is_one_pool_and_one_commit(tmp_path: Path, pools: list[int]) -> None:
    uri, contents = str(tmp_path), ids(40)
    tag_once(uri, contents)
    before, spread = files(tmp_path), sorted(contents)[::14]
    pools.clear()
    asked: list[tuple[int, int]] = []
    changed = contents | dict.fromkeys(spread, "2")
    gone = sorted(contents)[20]
    del changed[gone]
    outcome = tag_once(uri, changed, on_plan=lambda plan, resumed: asked.append((plan.chosen, plan.unchanged)))
    assert pools == [3]
    assert asked == [(3, 36)]
    assert (outcome.plan.changed, outcome.deleted, len(outcome.runs)) == (3, 1, 1)
    assert identities(uri) == changed
    after = files(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {track[0] for track in (*spread, gone)}


def test_the_work_for_many_actors_is_not_cut_small(
    tmp_path: Path, pools: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_run, "ITEMS_A_WORKER", 5)
    config = config_of()
    wide = config.model_copy(update={"cluster": config.cluster.model_copy(update={"workers": 3})})
    tag_once(str(tmp_path), ids(30), config=wide)
    assert pools == [12, 12, 6], "slices of 4, fifteen items a group at the most"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_a_run_killed_at_any_write_goes_on_and_what_was_committed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.tables.lease._process_mark", lambda pid: None)
    quick = config_of(lease_seconds=0.05)
    first = {"a1": "1", "a2": "1", "b1": "1", "c1": "1", "gone": "1", "bad": "broken"}
    second = {"a1": "2", "a2": "1", "b1": "2", "c1": "1", "d1": "1", "e1": "1", "e2": "1", "f1": "1", "bad": "broken"}
    whole = str(tmp_path / "whole")
    in_slices(monkeypatch, 100)
    for contents in (first, second):
        tag_once(whole, contents)
    in_slices(monkeypatch, 3)
    for at in range(0, 300, 4):
        uri = str(tmp_path / str(at))
        tag_once(uri, first)
        was_killed = killed_at(monkeypatch, at, lambda uri=uri: tag_once(uri, second))  # type: ignore[misc]
        done = {key: one for key, one in committed(uri).items() if second.get(key) == one}
        assert read_predictions(uri)["track_id"].is_unique().all(), at
        again = tag_once(uri, second, config=quick)
        assert again.rows + again.resumed <= len(second), at
        assert committed(uri) == second | {"gone": "1"}, at
        assert not done.keys() & set(made_by(uri, again.runs)) - {"bad"}, "what was committed was not done again"
        assert tag_once(uri, second, config=quick).run_id is None, at
        assert facts(read_predictions(uri)) == facts(read_predictions(whole)), at
        assert facts(history(uri)) == facts(history(whole)), at
        shutil.rmtree(uri)
        if not was_killed:
            assert at > 30
            return
    raise AssertionError("it never came to its end")


def committed(uri: str) -> dict[str, str]:
    return dict(newest_index(output_of(uri)).select("track_id", "content_id").iter_rows())


def made_by(uri: str, runs: set[str]) -> list[str]:
    """Return the tracks that runs made, those left out that they resumed."""
    output = output_of(uri)
    indices = [read_index(output, one.index_key) for one in output.commits() if one.run_id in runs]
    own = pl.col("part").str.split("/").list.get(1).is_in([one.run_id for one in output.commits()])
    return (
        pl.concat([empty_index(), *indices]).filter(own & pl.col("part").str.contains("/part-"))["track_id"].to_list()
    )


def test_parts_of_a_killed_run_that_lie_across_slices_are_all_resumed_by_the_first_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pools: list[int]
) -> None:
    uri, contents = str(tmp_path), ids(20)
    config = config_of()
    long = config.model_copy(update={"cluster": ClusterConfig(tracks_per_chunk=7, lease_seconds=0.05)})
    chunks = 0

    def stop(_: object) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            raise KeyboardInterrupt

    in_slices(monkeypatch, 100)
    with pytest.raises(KeyboardInterrupt):
        tag_once(uri, contents, config=long, on_progress=stop)
    in_slices(monkeypatch)
    pools.clear()
    parts = list(tmp_path.glob("runs/*/part-*"))
    killed = len(parts) * 5  # items of a run of twenty are cut in four
    assert chunks == 2
    outcome = tag_once(uri, contents, config=long)
    assert (outcome.resumed, outcome.rows) == (killed, 20 - killed)
    assert sum(pools) == 20 - killed, "nothing was done twice"
    assert len(pools) > 1
    first, *others = output_of(uri).commits()
    assert sum(part.rows for part in first.parts) == killed + pools[0]
    assert all(commit.runs == {commit.run_id} for commit in others)
    assert identities(uri) == contents
    assert history(uri).height == 20


def test_a_limit_goes_over_slices(tmp_path: Path, pools: list[int]) -> None:
    uri, contents = str(tmp_path), ids(20)
    seen: list[int] = []
    outcome = tag_once(uri, contents, limit=6, on_plan=lambda plan, resumed: seen.append(plan.chosen))
    assert (outcome.rows, outcome.plan.items, seen, pools) == (6, 20, [6], [4, 2])
    assert sorted(identities(uri)) == sorted(contents)[:6]
    assert tag_once(uri, contents, limit=9).rows == 9
    assert tag_once(uri, contents, dry_run=True).plan.chosen == 5
    assert tag_once(uri, contents).rows == 5
    assert identities(uri) == contents


def test_deletions_over_slices_are_asked_about_once_and_come_back(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(24)
    tag_once(uri, contents)
    half = dict(sorted(contents.items())[::2])
    asked: list[tuple[int, int]] = []

    def answer(yes: bool) -> Callable[[int, int], bool]:
        return lambda removed, live: asked.append((removed, live)) or yes  # type: ignore[func-returns-value]

    refused = tag_once(uri, half, deletions=DeletionRule(0.5, confirm=answer(False)))
    assert (refused.refused, refused.deleted, refused.run_id, asked) == (12, 0, None, [(12, 24)])
    assert len(identities(uri)) == 24
    done = tag_once(uri, half, deletions=DeletionRule(0.5, confirm=answer(True)))
    assert (done.refused, done.deleted, done.rows) == (0, 12, 0)
    assert len(done.runs) == 3
    assert identities(uri) == half
    back = tag_once(uri, contents)
    assert (back.restored, back.rows) == (12, 0)
    assert identities(uri) == contents
    assert tag_once(uri, contents).run_id is None


def test_a_slice_of_which_too_much_fails_ends_the_run_and_those_before_it_stay(tmp_path: Path) -> None:
    uri, contents = str(tmp_path), ids(60)
    last = sorted(contents)[30:]
    with pytest.MonkeyPatch.context() as patch:
        in_slices(patch, 30)
        with pytest.raises(FailuresError):
            tag_once(uri, contents, refused=last)
        assert sorted(identities(uri)) == sorted(contents)[:30]
        after = tag_once(uri, contents)
        assert (after.plan.unchanged - after.resumed, after.rows) == (30, 30)
    assert identities(uri) == contents


def test_features_are_made_in_slices_too(tmp_path: Path, pools: list[int]) -> None:
    contents = ids(10)
    outcome = run_tiny(str(tmp_path), catalogue(contents))
    assert (outcome.rows, pools) == (10, [4, 4, 2])
    assert run_tiny(str(tmp_path), catalogue(contents)).run_id is None
    assert run_tiny(str(tmp_path), catalogue(dict(sorted(contents.items())[:2])), RunOptions()).plan.removed == 8


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("run"),
            st.dictionaries(st.sampled_from(["0a", "3", "9", "a1", "a2", "f", "z"]), st.sampled_from("123")),
            st.sets(st.sampled_from(["0a", "3", "a1", "f"]), max_size=2),
            st.sampled_from(["new", "old"]),
            st.one_of(st.none(), st.integers(1, 4)),
        ),
        st.tuples(st.just("rewrite"), st.sampled_from(["0a", "a1", "z"]), st.sampled_from("45")),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(1, 3))
def test_readers_see_the_same_whatever_a_slice_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]], size: int
) -> None:
    places = {tracks: str(tmp_path_factory.mktemp("out")) for tracks in (size, 100)}
    for number, step in enumerate(steps):
        for tracks, uri in places.items():
            with pytest.MonkeyPatch.context() as patch:
                without_ray(patch)
                in_slices(patch, tracks)
                patch.setattr(run_log, "CHECKPOINT_COMMITS", 1)
                if step[0] == "rewrite":
                    rewrite_prediction_content_ids(uri, {step[1]: step[2]})
                    continue
                _, contents, refused, bundle, limit = step
                tag_once(
                    uri,
                    contents,
                    bundle=bundle,
                    refused=refused,
                    limit=limit,
                    root=f"/music{number % 2}",
                    deletions=DeletionRule(1.0, True),
                )
        columns = ["genre", "stale_reason", "bundle_fingerprint"]
        sliced, whole = (read(uri) for uri in places.values())
        assert facts(sliced) == facts(whole)
        assert sliced.select("track_id", *columns).equals(whole.select("track_id", *columns))
        assert facts(history(places[size])) == facts(history(places[100]))


def read(uri: str) -> pl.DataFrame:
    empty = not (Path(uri) / "current").exists()
    return (
        read_predictions(uri).sort("track_id")
        if not empty
        else history(uri).with_columns(stale_reason=pl.lit(None, pl.String))
    )


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_index_of_a_span_is_what_the_whole_one_says_of_it(
    checkpoint: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, contents = str(tmp_path), ids(40)
    in_slices(monkeypatch, 15)
    tag_once(uri, contents)
    tag_once(uri, contents | {sorted(contents)[7]: "2"}, refused=sorted(contents)[7:9])
    tag_once(uri, dict(sorted(contents.items())[3:]))
    monkeypatch.setattr(run_log, "CHECKPOINT_COMMITS", 0)
    if checkpoint:
        output = output_of(uri)
        newest_index(output, span=Span("3", "5"))
        write_checkpoint(output)
        monkeypatch.setattr(run_log, "CHECKPOINT_WHOLE_BYTES", 0)
    else:
        (tmp_path / run_log.CHECKPOINT).unlink(missing_ok=True)
    monkeypatch.setattr("mgc.tables.slices.SLICE_TRACKS", 10_000)
    whole = newest_index(output_of(uri)).sort("track_id")
    assert whole.height == 40
    monkeypatch.setattr("mgc.tables.slices.SLICE_TRACKS", SLICE)
    output = output_of(uri)
    for span in (*spans_by_digits(100), Span("3", "5"), Span("4"), ALL_IDS, Span("q")):
        found = newest_index(output, output.commits(), span).sort("track_id")
        assert found.equals(span.of(whole)), span
    assert (output.checkpoint is not None) == checkpoint


def test_spans_follow_one_another_and_leave_no_id_out() -> None:
    for rows in (0, 4, 5, 64, 65, 2_000):
        spans = spans_by_digits(rows)
        assert len(spans) == (1 if rows <= 4 else 16 if rows <= 64 else 256 if rows <= 1_024 else 4_096)
        assert (spans[0].first, spans[-1].end) == ("", None)
        assert all(one.end == other.first for one, other in pairwise(spans))
    inner = spans_by_digits(64, Span("a", "b"), "a")
    assert (inner[0], inner[-1], len(inner)) == (Span("a", "a1"), Span("af", "b"), 16)


def test_a_tables_slices_part_no_track(tmp_path: Path) -> None:
    table = pl.DataFrame({"track_id": [f"t{number // 3}" for number in range(30)], "view": ["v"] * 30})
    slices = Slices.of(table.sample(fraction=1.0, shuffle=True, seed=0))
    parts: Iterator[pl.DataFrame] = map(slices.read, slices.spans)
    tracks = [set(part["track_id"]) for part in parts]
    assert sum(map(len, tracks)) == 10
    assert set.union(*tracks) == set(table["track_id"])
