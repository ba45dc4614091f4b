"""`current` over random sequences of runs: one row a live track, and an answer wherever its content had one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_process import config_of, without_ray
from tiny_predictions import history, own_rows, tag_once

from mgc.config import RetryConfig
from mgc.storage.store import Store
from mgc.tables.compact import plan_prune, prune
from mgc.tables.deletions import DeletionRule, rewrite_prediction_content_ids
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import OutputDirectory

TRACKS = ("a", "b", "c")
EAGER = config_of().model_copy(update={"retry": RetryConfig(attempts=None, wait_hours=0.0)})
RUN = st.tuples(
    st.just("run"),
    st.dictionaries(st.sampled_from(TRACKS), st.sampled_from(["1", "2", "broken"])),
    st.sets(st.sampled_from(TRACKS)),
    st.sampled_from(["old", "new"]),
    st.booleans(),
)
STEPS = st.lists(st.one_of(RUN, RUN, RUN, st.just(("prune",)), st.just(("rewrite",))), min_size=2, max_size=7)


@dataclass
class Expected:
    """What a plain loop knows of a track: its content, whether that had an answer since it came, and earlier ones."""

    content: str = ""
    answered: bool = False
    failure: str | None = None
    live: bool = True
    earlier: set[str] = field(default_factory=set)

    def tried(self, content: str, code: str | None) -> None:
        if content != self.content:
            self.earlier |= {self.content} if self.answered else set()
            self.content, self.answered = content, False
        self.answered |= code is None
        self.failure = code


def run(*steps: tuple[str, str]) -> list[tuple]:
    """Return runs of the new bundle over track a: its content, and whether the store answers."""
    return [
        ("run", {"a": content}, set() if answer == "answers" else {"a"}, "new", False) for content, answer in steps
    ]


@settings(max_examples=40, deadline=None)
@example(run(("1", "answers"), ("2", "refuses"), ("1", "refuses"), ("1", "answers")))
@example([*run(("1", "answers"), ("1", "answers")), ("run", {}, set(), "new", False), *run(("1", "refuses"))])
@example(
    [
        *run(("1", "answers")),
        ("run", {"a": "1"}, {"a"}, "old", False),
        ("run", {"a": "1"}, {"a"}, "old", False),
        ("prune",),
        ("run", {}, set(), "old", False),
        ("prune",),
        ("run", {"a": "1"}, {"a"}, "new", True),
        ("rewrite",),
        ("run", {"a": "1"}, {"a"}, "new", True),
    ]
)
@given(STEPS)
def test_a_live_track_has_one_row_and_the_last_answer_of_its_content(steps: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as uri, pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        known: dict[str, Expected] = {}
        for number, step in enumerate(steps):
            output = OutputDirectory(Store.open(uri), "predictions")
            if step[0] == "prune":
                prune(output, plan_prune(output, keep_days=-1.0))
            elif step[0] == "rewrite":
                _rewrite(uri, known, f"rewritten{number}")
            else:
                _run(uri, known, *step[1:])
            _check(uri, known)


def _run(
    uri: str, known: dict[str, Expected], contents: dict[str, str], refused: set[str], bundle: str, force: bool
) -> None:
    outcome = tag_once(
        uri, contents, bundle=bundle, config=EAGER, refused=refused, force=force, deletions=DeletionRule(1.0, True)
    )
    for track, one in known.items():
        one.live = track in contents
    made = own_rows(uri, outcome.runs)
    assert made.height == outcome.rows
    for track, content, code in made.select("track_id", "content_id", "error_code").iter_rows():
        known.setdefault(track, Expected()).tried(content, code)


def _rewrite(uri: str, known: dict[str, Expected], content: str) -> None:
    """Write tags into each file that has an answer, as `mgc write-tags` does."""
    written = {track: content for track, one in known.items() if one.live and one.answered}
    rewrite_prediction_content_ids(uri, written)
    for track in written:
        known[track].earlier.add(known[track].content)
        known[track].content, known[track].failure = content, None


def _check(uri: str, known: dict[str, Expected]) -> None:
    live = {track: one for track, one in known.items() if one.live}
    if not live:
        return
    rows = {row["track_id"]: row for row in read_predictions(uri).to_dicts()}
    assert sorted(rows) == sorted(live), "one row for each live track, and none else"
    assert read_predictions(uri).height == len(live)
    newest = {row["track_id"]: row for row in history(uri).sort("sequence").to_dicts()}
    for track, one in live.items():
        row = rows[track]
        assert (row["content_id"], row["deleted_at"]) == (one.content, None)
        back = one.content in one.earlier and row["stale_reason"] is not None
        if one.failure and (one.answered or back):
            assert (row["genre"], row["error_code"], row["stale_reason"]) == ("jazz", None, one.failure)
            assert row["stale_since"] > row["tagged_at"]
            assert newest[track]["error_code"] == one.failure, "history keeps the failure"
        else:
            assert (row["genre"], row["error_code"]) == (None if one.failure else "jazz", one.failure)
            assert (row["stale_since"], row["stale_reason"]) == (None, None)
