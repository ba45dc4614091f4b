from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mgc.evaluation.metrics import RankedScores, ranking_figures


def figures(scores: list[float], truth: list[int], weights: list[int]) -> tuple[float, float]:
    ranked = RankedScores.of(np.array(scores, dtype=float), np.array(truth, dtype=bool))
    found = ranking_figures(ranked, np.array(weights, dtype=np.int32)[:, None])
    return float(found.roc_auc[0]), float(found.average_precision[0])


def test_known_order() -> None:
    # positives at places 1 and 3 of 4: AP = (1/1 + 2/3) / 2; of 4 pairs one is in the wrong order
    roc, precision = figures([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], [1, 1, 1, 1])
    assert roc == pytest.approx(3 / 4)
    assert precision == pytest.approx((1 + 2 / 3) / 2)


def test_ties_are_one_threshold() -> None:
    roc, precision = figures([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], [1, 1, 1, 1])
    assert roc == pytest.approx(0.5)
    assert precision == pytest.approx(0.25)


def test_without_positives_or_negatives_nothing_is_defined() -> None:
    for truth, weights in (([1, 0], [0, 1]), ([1, 0], [1, 0]), ([1, 1], [1, 1])):
        assert np.isnan(figures([0.2, 0.1], truth, weights)).all()


@given(st.data())
def test_agrees_with_scikit_learn_on_weighted_and_tied_scores(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 25))
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0]), min_size=n, max_size=n))
    truth = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    drawn = np.repeat(np.arange(n), weights)
    roc, precision = figures(scores, truth, weights)
    labels = np.array(truth)[drawn]
    if len(set(labels.tolist())) < 2:
        assert np.isnan(roc)
        assert np.isnan(precision)
        return
    assert roc == pytest.approx(roc_auc_score(labels, np.array(scores)[drawn]))
    assert precision == pytest.approx(average_precision_score(labels, np.array(scores)[drawn]))
