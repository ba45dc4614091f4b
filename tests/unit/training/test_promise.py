"""What a bundle promises holds on artists never met; what it lists does not contradict itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_makers import TAXONOMY, TRAINING, feature_set
from scipy.stats import binomtest

from benchmarks.promises_held import CASES, Case, bounded, empirical, held
from mgc.cluster.members import HELD, in_fold, learnt
from mgc.config import FeatureConfig, load_config
from mgc.models.bundle import BundleContents
from mgc.models.ensemble import Decision, at_most_one
from mgc.models.forward import TrackOutputs
from mgc.models.model_card import promise_lines
from mgc.training.assemble import FoldPredictions, assemble, held_out_part, stops_training
from mgc.training.losses import LabelArrays, encode_labels
from mgc.training.promise import (
    Judged,
    find_exclusive,
    intraclass_correlation,
    lower_bound,
    promise_precision,
    promise_tags,
    tag_thresholds,
)


def judged(right: list[bool], groups: list[int] | None = None) -> Judged:
    """Return predictions from the surest down."""
    n = len(right)
    return Judged(np.linspace(0.99, 0.5, n), np.array(right), np.array(groups or range(n), dtype=np.int64))


def test_the_bound_is_clopper_and_pearsons() -> None:
    for hits, tracks in ((40, 40), (37, 40), (1, 9)):
        expected = binomtest(hits, tracks, alternative="greater").proportion_ci(0.95, method="exact").low
        assert lower_bound(hits / tracks, tracks, 0.05) == pytest.approx(expected)
    assert lower_bound(0.0, 10, 0.05) == 0.0


def test_all_that_can_be_promised_is_answered() -> None:
    found = promise_precision(judged([True] * 200 + [False] * 100), 0.9)
    assert (found.precision, found.target, found.needed) == (0.9, 0.9, None)
    assert 0.5 < found.coverage < 0.75
    assert found.bound >= 0.9
    assert found.accuracy is not None
    assert found.accuracy > 0.95
    assert (found.tracks, found.groups) == (300, 300)
    whole = promise_precision(judged([True] * 300), 0.95)
    assert (whole.below, whole.coverage) == (0.0, 1.0)


def test_tracks_of_one_artist_do_not_make_a_promise() -> None:
    alone, of_five = [True] * 300, [place % 5 for place in range(300)]
    assert promise_precision(judged(alone), 0.95).precision == 0.95
    found = promise_precision(judged(alone, of_five), 0.95)
    assert (found.precision, found.groups) == (0.5, 5), "0.05 to the power of a fifth is 0.55"


def test_where_tracks_do_not_suffice_less_is_promised_and_what_it_would_take_is_said() -> None:
    found = promise_precision(judged([True] * 60), 0.99)
    assert found.precision == 0.9
    assert found.needed is not None
    assert promise_precision(judged([True] * found.needed), 0.99).precision == 0.99
    lines = promise_lines({"promise": {"on": "the rest", "genre": found.to_json(), "tags": None}})
    assert "90% of the genres it states are right on artists never met, so it promises. 99% was wanted." in lines[0]
    assert f"99% would need about {found.needed:,} tracks." in lines[0]
    assert "Seen on 60 tracks of 60 groups: 100.0% right" in lines[0]
    assert lines[1] == "Promised on the rest."


@pytest.mark.parametrize("right", [[], [True], [False] * 40, [True, False] * 20])
def test_nothing_is_promised_where_nothing_can_be(right: list[bool]) -> None:
    found = promise_precision(judged(right), 0.95)
    assert (found.precision, found.below, found.coverage) == (None, 1.0, 0.0)
    assert "Nothing can be promised" in promise_lines({"promise": {"on": "x", "genre": found.to_json()}})[0]


def test_equal_probabilities_are_answered_together() -> None:
    tied = Judged(np.repeat([0.9, 0.6], 100), np.arange(200) < 100, np.arange(200))
    found = promise_precision(tied, 0.9)
    assert (found.below, found.coverage) == (pytest.approx(0.75), 0.5)


def test_intraclass_correlation() -> None:
    groups = np.repeat(np.arange(50), 4)
    alike = np.repeat(np.arange(50) % 2 == 0, 4)
    assert intraclass_correlation(alike, groups) == pytest.approx(1.0)
    assert intraclass_correlation(np.arange(200) % 4 < 2, groups) == 0.0
    assert intraclass_correlation(np.ones(200, dtype=bool), groups) == 1.0, "nothing tells how alike they are"
    drawn = np.random.default_rng(0).beta(0.8 / 0.25, 0.2 / 0.25, 3_000)
    right = np.random.default_rng(1).random(12_000) < np.repeat(drawn, 4)
    assert intraclass_correlation(right, np.repeat(np.arange(3_000), 4)) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("name", ["GTZAN, train and valid", "MIDI, valid", "flat 0.845, effect 0.2"])
def test_promises_hold_in_nine_draws_of_ten(name: str) -> None:
    case = next(one for one in CASES if one.name == name)
    broken, promised, _ = held(case, bounded, 0.85, 120)
    assert broken <= 0.12
    assert promised > 0.7
    assert held(case, empirical, 0.85, 60)[0] > 0.3, "which cannot be said of the best empirical precision"


def test_a_harder_case_answers_less_and_not_worse() -> None:
    easy = Case("easy", 150, (1, 2, 4), 2.0)
    hard = replace(easy, level=0.5)
    assert held(easy, bounded, 0.9, 20)[2] > held(hard, bounded, 0.9, 20)[2] > 0.1


def tags_of(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities of a frequent, a rare and a useless tag, and who has them."""
    rng = np.random.default_rng(seed)
    probabilities = np.stack(
        [rng.beta(0.5, 0.5, n), rng.beta(0.2, 4.0, n), np.full(n, 0.3) + rng.uniform(0, 0.01, n)], 1
    )
    return probabilities, rng.random(probabilities.shape) < probabilities


def test_thresholds_of_tags_have_their_precision_and_list_no_tag_everywhere() -> None:
    probabilities, truth = tags_of(2_000)
    at = tag_thresholds(probabilities, truth, 0.8)
    listed = probabilities >= at
    assert truth[listed[:, 0], 0].mean() == pytest.approx(0.8, abs=0.02)
    assert at[2] == 1.0, "never as right as that"
    assert tag_thresholds(probabilities, np.zeros_like(truth), 0.5).tolist() == [1.0] * 3, "seen on no track"
    always = tag_thresholds(probabilities, np.ones_like(truth), 0.5)
    assert not (probabilities >= always).all(axis=0).any()
    assert tag_thresholds(np.full((9, 1), 0.9), np.ones((9, 1), dtype=bool), 0.5).tolist() == [1.0]


def test_few_positives_lean_on_what_is_stated() -> None:
    probabilities = np.linspace(0.6, 0.05, 12)[:, np.newaxis]
    lucky = (np.arange(12) < 2)[:, np.newaxis]
    # Two of two seen, ten more as stated: 0.66 at the second; 0.8 is not reached by so little luck.
    assert tag_thresholds(probabilities, lucky, 0.8)[0] == 1.0
    assert tag_thresholds(probabilities, lucky, 0.6)[0] < 0.6


def test_the_list_of_tags_keeps_its_promise_on_others() -> None:
    probabilities, truth = tags_of(600)
    groups = np.arange(600) // 2
    found = promise_tags(probabilities, truth, groups, groups % 5, (), 0.7)
    assert found.promise.precision == 0.7
    other, has = tags_of(5_000, seed=1)
    listed = other >= found.thresholds
    assert has[listed].mean() >= 0.7
    assert has[listed].sum() / has.sum() == pytest.approx(found.promise.coverage, abs=0.08)
    little = promise_tags(probabilities[:12], truth[:12], groups[:12], groups[:12] % 5, (), 0.7)
    assert little.promise.precision is None


def test_exclusive_tags_are_found_in_labels() -> None:
    n = 300
    tempo = np.arange(n) % 3
    loud = np.random.default_rng(0).random(n) < 0.4
    rare = np.arange(n) < 4
    truth = np.stack([tempo == 0, loud, tempo == 1, rare & ~loud, tempo == 2], axis=1)
    assert find_exclusive(truth) == ((0, 2, 4),)
    assert find_exclusive(np.zeros((0, 3), dtype=bool)) == ()


def test_of_exclusive_tags_the_most_probable_is_listed() -> None:
    probabilities = np.array([[0.9, 0.8, 0.7], [0.5, 0.8, 0.7], [0.2, 0.3, 0.9]])
    listed = at_most_one(probabilities, probabilities >= 0.5, [(0, 1)])
    assert listed.tolist() == [[True, False, True], [False, True, True], [False, False, True]]
    # drums (0.97) leave solo (0.95) out, which then does not leave the bass (0.6) out.
    solo_drums_bass = np.array([[0.95, 0.97, 0.6]])
    pairs = [(0, 2), (0, 1)]
    assert at_most_one(solo_drums_bass, solo_drums_bass >= 0.5, pairs).tolist() == [[False, True, True]]
    assert "exclusive_tags" not in Decision().to_dict(), "fingerprints of bundles without any stay"
    assert Decision(exclusive_tags=((0, 1),)).to_dict()["exclusive_tags"] == ((0, 1),)


def test_what_is_promised_on_stopped_no_training() -> None:
    groups = [f"g{place // 3}" for place in range(60)]
    stopping = stops_training(groups, TRAINING)
    assert 20 <= stopping.sum() <= 40
    assert not set(np.array(groups)[stopping]) & set(np.array(groups)[~stopping])
    assert not stops_training(groups, TRAINING.model_copy(update={"keep": "last"})).any()
    assert stops_training(groups, TRAINING.model_copy(update={"promise_folds": 5})).all(), (
        "other folds are promised on"
    )
    nothing = {"abstain_precision": None, "tag_precision": None}
    assert stops_training(groups, TRAINING.model_copy(update=nothing)).all()


def test_predictions_that_are_promised_on_are_joined_by_others_weights() -> None:
    rng = np.random.default_rng(0)
    tracks = feature_set(40)
    labels = encode_labels(tracks, TAXONOMY)
    outputs = [
        TrackOutputs(
            rng.normal(size=(40, 2)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32), np.ones((40, 1))
        )
        for _ in range(2)
    ]
    part = held_out_part(outputs, labels, tracks.groups, TRAINING)
    rows = np.flatnonzero(~stops_training(tracks.groups, TRAINING))
    assert part.groups == [tracks.groups[row] for row in rows]
    assert part.genre_probabilities.shape == (len(rows), 2)
    # A label turned over changes no prediction of its own track, nor of its fold.
    genres = labels.genres.copy()
    genres[rows[0]] = 1 - genres[rows[0]]
    other = held_out_part(outputs, LabelArrays(genres, labels.tags, labels.tags_known), tracks.groups, TRAINING)
    assert np.array_equal(other.genre_probabilities[0], part.genre_probabilities[0])
    assert not np.array_equal(other.genre_probabilities, part.genre_probabilities)


def test_folds_hold_each_track_once_with_artists_apart() -> None:
    import polars as pl

    catalogue = pl.DataFrame(
        {
            "track_id": [f"t{place}" for place in range(30)],
            "group": [f"a{place // 2}" if place < 20 else "" for place in range(30)],
            "split": ["train"] * 18 + ["valid"] * 10 + ["unlisted"] * 2,
        }
    )
    held_tracks: list[str] = []
    stopped = TRAINING.model_copy(update={"promise_folds": 5})
    for fold in range(5):
        parted = in_fold(catalogue, fold, stopped)
        groups = {split: set(rows["group"]) - {""} for (split,), rows in parted.group_by("split")}
        assert not groups[HELD] & (groups["train"] | groups["valid"])
        assert not groups["train"] & groups["valid"]
        held_tracks += parted.filter(pl.col("split") == HELD)["track_id"].to_list()
    assert sorted(held_tracks) == sorted(catalogue.filter(pl.col("split") != "unlisted")["track_id"])
    last = stopped.model_copy(update={"keep": "last"})
    assert set(in_fold(catalogue, 0, last)["split"]) == {HELD, "train"}, "nothing stops, so nothing is valid"
    assert learnt(catalogue, last)["split"].value_counts().sort("split").rows() == [("train", 28), ("unlisted", 2)]
    assert learnt(catalogue, stopped) is catalogue


def test_where_folds_stand_for_valid_no_track_is_scored_by_what_was_fitted_on_it() -> None:
    rng = np.random.default_rng(0)
    tracks = feature_set(40)
    labels = encode_labels(tracks, TAXONOMY)
    training = TRAINING.model_copy(update={"promise_folds": 4, "keep": "last"})
    assert training.learns_valid
    assert not training.model_copy(update={"keep": "best"}).learns_valid
    assert not training.model_copy(update={"promise_folds": 0}).learns_valid

    def of_fold(rows: list[int]) -> FoldPredictions:
        logits = [rng.normal(size=(2, len(rows), size)).astype(np.float32) for size in (2, 3)]
        outputs = [TrackOutputs(genre, tag, np.ones((len(rows), 1))) for genre, tag in zip(*logits, strict=True)]
        return FoldPredictions(outputs, labels.rows(np.array(rows)), [tracks.groups[row] for row in rows])

    folds = [of_fold(list(range(start, start + 10))) for start in range(0, 40, 10)]
    config = load_config(None, ["model.name=jain_mlp", "training.members=2"]).model_copy(
        update={"training": training}
    )

    def contents(folds: list[FoldPredictions]) -> BundleContents:
        return assemble([{}, {}], None, TAXONOMY, config, FeatureConfig(), {}, folds=folds)

    found = contents(folds)
    assert found.metrics["on"] == "4 folds of train and valid, groups apart"
    assert found.metrics["promise"]["genre"]["tracks"] == int(labels.genre_known.sum())
    assert found.metrics["ensemble"] == found.metrics["fusion"][training.fusion], "weights are of others' groups"
    assert contents([]).metrics == {}, "where no fold could be predicted nothing is fitted"
