from __future__ import annotations

import numpy as np
import pytest
from answer_makers import genre_answers, resampling, tag_answers
from sklearn.metrics import average_precision_score, roc_auc_score

from mgc.evaluation.tag_metrics import TagEvaluation, evaluate_tags


def evaluated(truth: np.ndarray, scores: np.ndarray, samples: int = 200, **more: object) -> TagEvaluation:
    found = evaluate_tags(tag_answers(truth, scores, **more), resampling(len(truth), samples))
    assert found is not None
    return found


def noisy(n: int = 150, n_tags: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random((n, n_tags)) < 0.25
    return truth, np.round(0.4 * truth + 0.6 * generator.random((n, n_tags)), 2)


def test_agrees_with_scikit_learn() -> None:
    truth, scores = noisy()
    found = evaluated(truth, scores)
    for index, one in enumerate(found.tags):
        assert one.roc_auc.value == pytest.approx(roc_auc_score(truth[:, index], scores[:, index]))
        assert one.pr_auc.value == pytest.approx(average_precision_score(truth[:, index], scores[:, index]))
        assert one.positives == truth[:, index].sum()
        assert one.base_rate == pytest.approx(truth[:, index].mean())
    assert found.roc_auc.value == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert found.pr_auc.value == pytest.approx(average_precision_score(truth, scores, average="macro"))


def test_intervals_are_those_of_drawn_tracks() -> None:
    truth, scores = noisy(60, 2)
    drawing = resampling(60, samples=80)
    found = evaluate_tags(tag_answers(truth, scores), drawing)
    assert found is not None
    drawn = [np.repeat(np.arange(60), column) for chunk in drawing.chunks() for column in chunk.T]
    aucs = np.array([[roc_auc_score(truth[rows, tag], scores[rows, tag]) for tag in (0, 1)] for rows in drawn])
    low, high = np.quantile(aucs[:, 0], [0.025, 0.975])
    assert (found.tags[0].roc_auc.low, found.tags[0].roc_auc.high) == pytest.approx((low, high))
    low, high = np.quantile(aucs.mean(axis=1), [0.025, 0.975])
    assert (found.roc_auc.low, found.roc_auc.high) == pytest.approx((low, high))


def test_tag_without_positives_or_negatives_is_null_and_not_in_the_means() -> None:
    truth, scores = noisy(40, 3)
    truth[:, 1], truth[:, 2] = False, True
    found = evaluated(truth, scores)
    assert [one.roc_auc.value is None for one in found.tags] == [False, True, True]
    assert [one.pr_auc.value is None for one in found.tags] == [False, True, True]
    assert found.tags_in_mean == 1
    assert found.roc_auc.value == found.tags[0].roc_auc.value
    assert found.mean_base_rate == found.tags[0].base_rate
    assert (found.tags[1].positives, found.tags[2].positives) == (0, 40)


def test_rare_tags_stand_in_the_table_and_not_in_the_means() -> None:
    truth, scores = noisy(60, 3)
    truth[:, 1] = False
    truth[:3, 1] = True
    answers = tag_answers(truth, scores, tags=("vocal:a", "vocal:b", "mood:c"))
    found = evaluate_tags(answers, resampling(60), 4)
    only = evaluate_tags(tag_answers(truth[:, [0, 2]], scores[:, [0, 2]]), resampling(60))
    assert found is not None
    assert only is not None
    assert (found.tags_in_mean, found.min_positives, len(found.tags)) == (2, 4, 3)
    assert (found.roc_auc, found.pr_auc) == (only.roc_auc, only.pr_auc)
    assert found.tags[1].roc_auc.value is not None
    assert [(one.category, one.tags_in_mean) for one in found.categories] == [("mood", 1), ("vocal", 1)]
    none = evaluate_tags(answers, resampling(60), 61)
    assert none is not None
    assert (none.tags_in_mean, none.roc_auc.value) == (0, None)


def test_no_tag_to_rank() -> None:
    found = evaluated(np.zeros((5, 2), dtype=bool), np.random.default_rng(0).random((5, 2)))
    assert (found.tags_in_mean, found.pr_auc.value, found.mean_base_rate) == (0, None, None)


def test_one_positive_gives_a_figure_without_interval() -> None:
    truth = np.zeros((20, 1), dtype=bool)
    truth[3] = True
    found = evaluated(truth, np.arange(20.0)[::-1, None] / 20)
    assert found.tags[0].roc_auc.value == pytest.approx(16 / 19)
    assert found.tags[0].roc_auc.low is None


def test_tracks_with_unknown_tags_are_left_out() -> None:
    truth, scores = noisy(50, 1)
    known = np.arange(50) % 2 == 0
    found = evaluated(truth, scores, tags_known=known)
    assert found.tracks == 25
    assert found.tags[0].pr_auc.value == pytest.approx(average_precision_score(truth[known, 0], scores[known, 0]))


def test_no_tags_gives_none() -> None:
    assert evaluate_tags(genre_answers([0, 1], [0, 1], 2, tags_known=np.ones(2, dtype=bool)), resampling(2)) is None
    truth, scores = noisy(4, 1)
    assert evaluate_tags(tag_answers(truth, scores, tags_known=np.zeros(4, dtype=bool)), resampling(4)) is None


def test_mean_interval_leans_down_where_tags_are_rare() -> None:
    generator = np.random.default_rng(4)
    truth = generator.random((120, 12)) < 0.05
    scores = generator.normal(size=(120, 12)) + 1.2 * truth
    figure = evaluated(truth, scores, samples=300).pr_auc
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.value - figure.low > figure.high - figure.value
