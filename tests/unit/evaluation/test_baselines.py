from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
from answer_makers import QUICK, TINY, feature_set

from mgc.audio.features.log_mel import mfcc
from mgc.config.taxonomy import Taxonomy
from mgc.errors import FingerprintError, TrainingError
from mgc.evaluation.baselines import (
    N_MFCC,
    NAME,
    PenaltyChoice,
    choose_penalty,
    compare_with_baseline,
    decision_values,
    mfcc_statistics,
    softmax,
    svm,
    svm_baseline,
    svm_score,
    whole_groups,
)
from mgc.evaluation.evaluate import evaluate

GENRES = ["blues", "jazz", "rock"]
TAGS: list[list[str]] = [["loud"], [], ["fast", "loud"], ["fast"]]


def many(n: int = 36) -> dict[str, list]:
    genres: list[str | None] = [GENRES[row % 3] for row in range(n)]
    return {"genres": genres, "tags": [TAGS[row % 4] for row in range(n)]}


def test_mfcc_is_that_of_librosa() -> None:
    log_mel = np.random.default_rng(0).uniform(-80, 0, (40, 64)).astype(np.float32)
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=20).T
    np.testing.assert_allclose(mfcc(log_mel, N_MFCC), expected, rtol=1e-4, atol=1e-3)


def test_level_moves_the_first_coefficient_alone() -> None:
    log_mel = np.random.default_rng(0).uniform(-60, -20, (5, 32))
    moved = mfcc(log_mel + 6.0, N_MFCC) - mfcc(log_mel, N_MFCC)
    assert moved[:, 0] == pytest.approx(6.0 * np.sqrt(32), rel=1e-5)
    assert moved[:, 1:] == pytest.approx(0.0, abs=1e-3)


def test_statistics_are_over_all_frames_of_all_windows() -> None:
    tracks = feature_set(["jazz"], [[]])
    frames = np.concatenate([mfcc(window, N_MFCC) for window in tracks.log_mels[0]])
    statistics = mfcc_statistics(tracks)
    assert statistics.shape == (1, 40)
    np.testing.assert_allclose(statistics[0], np.concatenate([frames.mean(axis=0), frames.std(axis=0)]), rtol=1e-4)


def test_learns_what_is_easy_and_answers_in_the_same_form() -> None:
    train, valid = feature_set(**many(), seed=1), feature_set(**many(24), seed=2, prefix="v")
    result = svm_baseline(train, valid)
    assert result.answers.genres == ("blues", "jazz", "rock")
    assert result.answers.tags == ("fast", "loud")
    found = evaluate(result.answers, QUICK)
    assert found.genre is not None
    assert found.genre.accuracy.value is not None
    assert found.genre.accuracy.value > 0.9
    assert found.tag is not None
    assert found.tag.pr_auc.value is not None
    assert found.tag.pr_auc.value > 0.8
    assert result.answers.genre_probabilities.sum(axis=1) == pytest.approx(1.0)
    assert result.folds == 5
    assert "5-fold" in result.describe()


def test_most_probable_genre_is_what_the_svm_predicts() -> None:
    generator = np.random.default_rng(0)
    for n_classes in (2, 4):
        features = generator.normal(size=(80, 3))
        true = np.arange(80) % n_classes
        model = svm(1.0).fit(features, true)
        values = softmax(decision_values(model, features))
        assert values.shape == (80, n_classes)
        assert (values.argmax(axis=1) == model.predict(features)).all()


def test_taxonomy_of_the_ensemble_is_kept_in_its_order() -> None:
    train, valid = feature_set(**many()), feature_set(**many(9), prefix="v")
    result = svm_baseline(train, valid, Taxonomy(("rock", "polka", "jazz", "blues"), ("never", "loud")))
    assert result.answers.genres == ("rock", "polka", "jazz", "blues")
    assert (result.answers.genre_probabilities[:, 1] == 0).all(), "no example of polka, no chance"
    assert (result.answers.tag_probabilities[:, 0] == 0).all()


def test_same_data_same_answers() -> None:
    train, valid = feature_set(**many()), feature_set(**many(9), prefix="v")
    first, second = svm_baseline(train, valid), svm_baseline(train, valid)
    assert (first.answers.genre_probabilities == second.answers.genre_probabilities).all()
    assert (first.answers.tag_probabilities == second.answers.tag_probabilities).all()


def test_validation_tracks_do_not_shape_the_fit() -> None:
    train, valid = feature_set(**many()), feature_set(**many(9), prefix="v")
    alone = replace(
        valid,
        **{
            name: getattr(valid, name)[:1]
            for name in ("track_ids", "log_mels", "genres", "tags", "tags_known", "groups")
        },
    )
    whole, part = svm_baseline(train, valid), svm_baseline(train, alone)
    assert part.answers.genre_probabilities[0] == pytest.approx(whole.answers.genre_probabilities[0])


def test_comparison_is_paired_with_the_ensemble() -> None:
    train, valid = feature_set(**many()), feature_set(**many(12), prefix="v")
    result = svm_baseline(train, valid)
    found = compare_with_baseline(result.answers, result, QUICK)
    assert (found.baseline, found.tracks, found.accuracy_difference.value) == (NAME, 12, 0.0)
    assert found.details == result.describe()


def test_one_genre_is_always_named() -> None:
    train = feature_set(["jazz"] * 6, [[]] * 6)
    result = svm_baseline(train, feature_set(["jazz"] * 2, [[]] * 2, prefix="v"))
    assert result.answers.genre_probabilities.tolist() == [[1.0], [1.0]]
    assert result.svm_penalty is None


def test_what_is_not_labelled_in_train_is_not_evaluated() -> None:
    tags_only = feature_set([None] * 12, [TAGS[row % 4] for row in range(12)])
    valid = feature_set(**many(12), prefix="v")
    result = svm_baseline(tags_only, valid, Taxonomy(tuple(GENRES), ("fast", "loud")))
    assert not result.answers.labelled.any()
    assert evaluate(result.answers, QUICK).genre is None
    genres_only = feature_set(many(12)["genres"], [[]] * 12, tags_known=[False] * 12)
    result = svm_baseline(genres_only, valid, Taxonomy(tuple(GENRES), ("fast", "loud")))
    assert evaluate(result.answers, QUICK).tag is None


def test_tag_that_every_training_track_has_gets_its_base_rate() -> None:
    train = feature_set([None] * 8, [["always", "odd"] if row % 2 else ["always"] for row in range(8)])
    valid = feature_set([None] * 2, [["always"], ["odd"]], prefix="v")
    result = svm_baseline(train, valid)
    assert (result.answers.tag_probabilities[:, 0] == 1.0).all()
    assert 0 < result.answers.tag_probabilities[0, 1] < 1


def test_nothing_to_learn_from() -> None:
    train = feature_set([None] * 3, [[]] * 3, tags_known=[False] * 3)
    with pytest.raises(TrainingError, match="no training track is labelled"):
        svm_baseline(train, train)


def test_other_features_are_refused_by_both_names() -> None:
    train = feature_set(**many(6))
    other = replace(train, feature_fingerprint="f" * 16)
    with pytest.raises(FingerprintError, match=f"{TINY.fingerprint()}.*{'f' * 16}"):
        svm_baseline(train, other)


def test_groups_stay_together_when_c_is_chosen() -> None:
    """A track and its twin in two folds would make the smallest kernel look best."""
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(20, 4)), 2, axis=0)
    true = np.repeat(np.arange(20) % 2, 2)
    groups = np.repeat([f"g{row}" for row in range(20)], 2)
    seen: list[float] = []

    def score(model: object, rest: np.ndarray, labels: np.ndarray) -> float:
        seen.append(svm_score(model, rest, labels))
        return seen[-1]

    choice = choose_penalty(features, true, groups, (100.0,), svm, score, 0)
    assert choice == PenaltyChoice(100.0, 5)
    assert np.mean(seen) < 0.8, "labels are chance: twins apart would be recognised"


def test_too_few_groups_leave_c_as_it_is() -> None:
    features, true = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6) % 2
    assert choose_penalty(features, true, np.array(["one"] * 6), (0.1,), svm, svm_score, 0) == PenaltyChoice(1.0, 0)


def test_beyond_a_number_of_tracks_the_svm_is_fitted_on_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.evaluation.baselines.MOST_SVM_TRACKS", 30)
    monkeypatch.setattr("mgc.evaluation.baselines.MOST_CHOICE_TRACKS", 20)
    train, valid = feature_set(**many(60), seed=1), feature_set(**many(24), seed=2, prefix="v")
    result = svm_baseline(train, valid)
    assert result.svm_tracks is not None
    assert 10 <= result.svm_tracks <= 30
    said = f"fitted on 60 training tracks; the SVM on {result.svm_tracks} of them, groups drawn whole"
    assert result.describe().endswith(said)
    assert svm_baseline(feature_set(**many(24), seed=1), valid).svm_tracks is None


def test_groups_are_drawn_whole() -> None:
    groups = np.repeat([f"g{number}" for number in range(100)], 7)
    kept = whole_groups(groups, 70, seed=1)
    assert kept.sum() == 70
    assert set(groups[kept]).isdisjoint(groups[~kept])
    assert whole_groups(groups, 700, seed=1).all()
