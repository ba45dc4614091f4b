from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from answer_makers import QUICK, genre_answers, mixed_answers, tag_answers
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.config import EvaluationConfig
from mgc.errors import SplitError
from mgc.evaluation.answers import OUTSIDE, Failure
from mgc.evaluation.evaluate import evaluate


def test_counts_of_the_split() -> None:
    found = evaluate(mixed_answers(60), QUICK)
    assert (found.tracks, found.answered, found.groups) == (62, 60, 21)
    assert found.failed_by_code == {"T201_EMPTY_FILE": 1, "T202_NOT_AUDIO": 1}
    assert found.split == "test"


def test_json_is_plain_and_complete() -> None:
    value = json.loads(json.dumps(evaluate(mixed_answers(60), QUICK).to_json(), allow_nan=False))
    assert set(value) == {
        *("format", "split", "tracks", "answered", "groups", "failed", "outside_genres", "outside_tracks"),
        *("intervals", "genre", "tags"),
    }
    assert set(value["genre"]["accuracy"]) == {"value", "low", "high"}
    assert value["intervals"]["samples"] == 200
    assert len(value["tags"]["tags"]) == 5
    assert sum(map(sum, value["genre"]["confusion"])) == value["genre"]["tracks"]


def test_undefined_figures_are_null_in_json() -> None:
    answers = tag_answers(np.array([[0, 1], [0, 0], [0, 1]]), np.random.default_rng(0).random((3, 2)))
    value = evaluate(answers, QUICK).to_json()
    assert value["genre"] is None
    assert value["tags"]["tags"][0]["pr_auc"] == {"value": None, "low": None, "high": None}  # type: ignore[index]


@settings(max_examples=15)
@given(st.permutations(range(24)), st.sampled_from(["track", "group"]))
def test_order_of_tracks_changes_nothing(order: list[int], resample: str) -> None:
    answers = mixed_answers(24, seed=3)
    config = EvaluationConfig(bootstrap_samples=20)
    shuffled = replace(answers.take(np.array(order)), failed=list(reversed(answers.failed)))
    assert evaluate(shuffled, config, resample).to_json() == evaluate(answers, config, resample).to_json()  # type: ignore[arg-type]


def test_same_seed_same_figures_and_another_seed_other_intervals() -> None:
    answers = mixed_answers(60)
    first = evaluate(answers, QUICK).to_json()
    assert first == evaluate(answers, QUICK).to_json()
    other = evaluate(answers, QUICK.model_copy(update={"seed": 1}))
    assert other.genre is not None
    assert other.genre.accuracy.to_json() != first["genre"]["accuracy"]  # type: ignore[index]


def test_interval_widens_with_confidence() -> None:
    answers = mixed_answers(80)
    widths = []
    for confidence in (0.5, 0.9, 0.99):
        found = evaluate(answers, QUICK.model_copy(update={"confidence": confidence})).genre
        assert found is not None
        assert found.accuracy.low is not None
        assert found.accuracy.high is not None
        widths.append(found.accuracy.high - found.accuracy.low)
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_nothing_labelled_says_what_to_do() -> None:
    with pytest.raises(SplitError, match="no answered track of split 'valid' has a label") as caught:
        evaluate(genre_answers([-1, -1], [0, 1], 2, split="valid"), QUICK)
    assert "--manifest" in caught.value.remedy


def test_only_unlearned_genres_names_them() -> None:
    with pytest.raises(SplitError, match="unknown to the model: polka, waltz"):
        evaluate(genre_answers([OUTSIDE], [0], 2, outside_genres=("polka", "waltz")), QUICK)


def test_all_failed() -> None:
    with pytest.raises(SplitError, match=r"no track with an answer \(1 failed\)"):
        evaluate(genre_answers([], [], 2, failed=[Failure("a", "T201", "genre0")]), QUICK)


def test_unknown_tags_are_no_labels() -> None:
    truth = np.ones((2, 1), dtype=np.int64)
    with pytest.raises(SplitError):
        evaluate(tag_answers(truth, np.ones((2, 1)), tags_known=np.zeros(2, dtype=bool)), QUICK)


def test_answers_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="genre_probabilities has shape"):
        genre_answers([0, 1], [0, 1, 1], 2)
    with pytest.raises(ValueError, match="not finite"):
        genre_answers([0], [0], 2, genre_probabilities=np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="twice"):
        genre_answers([0, 1], [0, 1], 2, track_ids=["a", "a"])
    with pytest.raises(ValueError, match="twice"):
        genre_answers([0], [0], 2, failed=[Failure("t0000", "T201")])
    with pytest.raises(ValueError, match="genre_true outside"):
        genre_answers([2], [0], 2)


def test_thousand_resamples_of_two_hundred_tracks_and_fifty_tags_take_seconds() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random((200, 50)) < 0.1
    answers = tag_answers(
        truth,
        generator.random((200, 50)),
        genres=[f"g{index}" for index in range(10)],
        genre_true=generator.integers(0, 10, 200),
        genre_probabilities=generator.dirichlet(np.ones(10), 200),
    )
    started = time.perf_counter()
    evaluate(answers, EvaluationConfig(bootstrap_samples=1_000))
    assert time.perf_counter() - started < 5.0
