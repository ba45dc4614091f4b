"""The anti-join of changes against a plain loop over dictionaries."""

from __future__ import annotations

from random import Random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from table_makers import catalogue

from mgc.config import RetryConfig
from mgc.tables.diff import WorkPlan, plan_work
from mgc.tables.parquet_batches import frame_of
from mgc.tables.retry import RetryRule
from mgc.tables.run_index import INDEX, newest
from mgc.tables.work_items import clean_items

TRACKS = st.sampled_from([f"t{number}" for number in range(8)])
CONTENTS = st.sampled_from(["1", "2"])
FAILURES = st.sampled_from([None, "fetch", "decode"])
HISTORY = st.lists(st.tuples(TRACKS, CONTENTS, FAILURES, st.sampled_from(["old", "new"])), max_size=30)


def index_of(history: list[tuple[str, str, str | None, str]]) -> pl.DataFrame:
    rows = [
        {
            "track_id": track_id,
            "view": "clean",
            "content_id": content_id,
            "recipe": "",
            "duration_seconds": None,
            "error_code": {"fetch": "T103_FETCH_FAILED", "decode": "T203_DECODE_FAILED", None: None}[stage],
            "error_stage": stage,
            "part": f"runs/{sequence}/part-0",
            "sequence": sequence,
            "fingerprint": fingerprint,
            "deleted": False,
            "attempts": None,
            "tried_at": None,
            "decoder": None,
        }
        for sequence, (track_id, content_id, stage, fingerprint) in enumerate(history)
    ]
    return (
        frame_of(INDEX.empty_table()) if not rows else pl.DataFrame(rows, schema=frame_of(INDEX.empty_table()).schema)
    )


def expected(contents: dict[str, str], history: list[tuple[str, str, str | None, str]], retry: bool) -> set[str]:
    last = {track_id: rest for track_id, *rest in history}
    todo = set()
    for track_id, content_id in contents.items():
        if track_id not in last:
            todo.add(track_id)
            continue
        had_content, stage, fingerprint = last[track_id]
        if had_content != content_id or fingerprint != "new" or stage == "fetch" or (stage and retry):
            todo.add(track_id)
    return todo


@given(st.dictionaries(TRACKS, CONTENTS, min_size=1), HISTORY, st.booleans())
def test_the_join_agrees_with_a_loop(
    contents: dict[str, str], history: list[tuple[str, str, str | None, str]], retry: bool
) -> None:
    plan = plan_work(
        clean_items(catalogue(contents)),
        newest(index_of(history)),
        "new",
        retry=RetryRule.of(RetryConfig(), everything=retry),
    )
    assert set(plan.todo["track_id"]) == expected(contents, history, retry)
    assert plan.todo["track_id"].is_sorted()
    assert _sum(plan) == len(contents)
    assert plan.removed == len({row[0] for row in history} - set(contents))


def _sum(plan: WorkPlan) -> int:
    assert plan.todo.height == plan.new + plan.changed + plan.remade + plan.retried
    return plan.unchanged + plan.todo.height


@given(st.dictionaries(TRACKS, CONTENTS, min_size=1), HISTORY)
def test_force_redoes_everything(contents: dict[str, str], history: list[tuple[str, str, str | None, str]]) -> None:
    plan = plan_work(clean_items(catalogue(contents)), newest(index_of(history)), "new", force=True)
    assert set(plan.todo["track_id"]) == set(contents)
    assert plan.unchanged == 0


RACED = st.lists(
    st.tuples(TRACKS, CONTENTS, FAILURES, st.integers(1, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=30
)


@given(RACED, st.randoms(use_true_random=False))
def test_every_reader_sees_the_same_row_however_runs_raced(
    rows: list[tuple[str, str, str | None, int, str]], random: Random
) -> None:
    """Runs of one sequence, parts that two runs resumed at different times: the order of reading decides nothing."""
    index = index_of([(track, content, stage, "new") for track, content, stage, _, _ in rows]).with_columns(
        sequence=pl.Series([row[3] for row in rows], dtype=pl.Int64),
        part=pl.Series([f"runs/{row[4]}/part-0" for row in rows]),
    )
    shuffled = index[random.sample(range(index.height), index.height)]
    one, other = (newest(frame).sort("track_id") for frame in (index, shuffled))
    assert one.equals(other)
    assert one["track_id"].to_list() == sorted({row[0] for row in rows})
    for track_id, sequence in one.select("track_id", "sequence").iter_rows():
        assert sequence == max(row[3] for row in rows if row[0] == track_id)
