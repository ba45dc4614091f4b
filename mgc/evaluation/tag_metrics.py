"""Tags, any number a track: ROC-AUC and PR-AUC of each, and their means, over all tags and by category.

Both rank all tracks by one tag's probability, so neither depends on a threshold. ROC-AUC is the chance that a
track with the tag stands above one without it: 0.5 for a coin. PR-AUC (average precision) asks how clean the
top of the list is: a coin reaches the tag's base rate, so it says most about rare tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.arrays import Float64Array
from mgc.evaluation.answers import LabelledPredictions
from mgc.evaluation.bootstrap import Figure, JsonRecord, Resampling, mean_of_defined
from mgc.evaluation.metrics import RankingFigures, rank_tags, tag_ranking_figures, unweighted

NO_CATEGORY = "other"
"""Where a tag without a colon is counted, if others have one."""


@dataclass(frozen=True)
class TagFigures(JsonRecord):
    """One tag: its examples, their share, and how well its probability ranks the tracks.

    Figures are not defined where no track, or every track, has the tag.
    """

    tag: str
    positives: int
    base_rate: float
    roc_auc: Figure
    pr_auc: Figure


@dataclass(frozen=True)
class CategoryFigures(JsonRecord):
    """Macro means over a category's tags that have both positives and negatives.

    The mean PR-AUC is biased upwards where tags have few positives, and its interval takes that into account.
    `mean_base_rate` is what it would be by chance. Without tags nothing is defined.
    """

    category: str
    tags_in_mean: int
    roc_auc: Figure
    pr_auc: Figure
    mean_base_rate: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names of the fields; `macro_` before means over tags."""
        return _with_macro(super().to_json())


@dataclass(frozen=True)
class TagEvaluation(JsonRecord):
    """The tag figures of one split.

    Parameters
    ----------
    tracks
        Answered tracks whose tags are known.
    tags_in_mean
        Tags that have negatives and at least `min_positives` positives: those the means are over.
    roc_auc, pr_auc, mean_base_rate
        Macro means over these tags, as in `CategoryFigures`.
    categories
        The same means by category, where tags are named `category:tag`.
    """

    tracks: int
    tags_in_mean: int
    roc_auc: Figure
    pr_auc: Figure
    mean_base_rate: float | None
    tags: tuple[TagFigures, ...]
    categories: tuple[CategoryFigures, ...] = ()
    min_positives: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names of the fields; `macro_` before those of all tags."""
        return _with_macro(super().to_json())


def _with_macro(value: dict[str, Any]) -> dict[str, Any]:
    return {f"macro_{name}" if name in ("roc_auc", "pr_auc") else name: each for name, each in value.items()}


def evaluate_tags(
    answers: LabelledPredictions, resampling: Resampling, min_positives: int = 1
) -> TagEvaluation | None:
    """Return the tag figures; None where there is no tag, or no answered track whose tags are known.

    Parameters
    ----------
    answers
        In track order.
    resampling
        Of the answered tracks, then the failed ones.
    min_positives
        Tags of fewer positives are in no mean.
    """
    rows = np.flatnonzero(answers.tags_known)
    if not len(rows) or not len(answers.tags):
        return None
    truth = answers.tag_true[rows].astype(bool)
    ranked = rank_tags(answers.tag_probabilities[rows], truth)
    exact = tag_ranking_figures(ranked, unweighted(len(rows)))
    replicates = RankingFigures.joined(tag_ranking_figures(ranked, weights[rows]) for weights in resampling.chunks())
    positives, base_rates = truth.sum(axis=0), truth.mean(axis=0)
    tags = []
    for index, tag in enumerate(answers.tags):
        enough = all(resampling.several(rows[side]) for side in (truth[:, index], ~truth[:, index]))
        roc_auc, pr_auc = (
            resampling.figure(float(value[index, 0]), drawn[index], enough=enough)
            for value, drawn in (
                (exact.roc_auc, replicates.roc_auc),
                (exact.average_precision, replicates.average_precision),
            )
        )
        tags.append(TagFigures(tag, int(positives[index]), float(base_rates[index]), roc_auc, pr_auc))
    common = np.flatnonzero(np.isfinite(exact.roc_auc[:, 0]) & (positives >= min_positives))
    names = [answers.tags[index] for index in common.tolist()]
    exact, replicates = exact.of_tags(common), replicates.of_tags(common)
    means = macro_means("", exact, replicates, base_rates[common], resampling)
    return TagEvaluation(
        tracks=len(rows),
        tags_in_mean=means.tags_in_mean,
        roc_auc=means.roc_auc,
        pr_auc=means.pr_auc,
        mean_base_rate=means.mean_base_rate,
        tags=tuple(tags),
        categories=by_category(names, exact, replicates, base_rates[common], resampling),
        min_positives=min_positives,
    )


def by_category(
    tags: Sequence[str],
    exact: RankingFigures,
    replicates: RankingFigures,
    base_rates: Float64Array,
    resampling: Resampling,
) -> tuple[CategoryFigures, ...]:
    """Return the figures of each category, by name; none where no tag has a category.

    A mean over all tags hides that instruments are recognised and moods are not; He & Li (2024, figure 8) and the
    MTG-Jamendo data set (Bogdanov et al. 2019) report categories apart.

    Parameters
    ----------
    tags
        `instrument:piano`, `mood:calm`: the category is what stands before the colon.
    exact, replicates, base_rates
        As in `macro_means`.
    """
    categories = np.array([category_of(tag) for tag in tags])
    names = sorted(set(categories.tolist()) if len(tags) else ())
    if set(names) <= {NO_CATEGORY}:
        return ()
    places = {name: np.flatnonzero(categories == name) for name in names}
    return tuple(
        macro_means(name, exact.of_tags(own), replicates.of_tags(own), base_rates[own], resampling)
        for name, own in places.items()
    )


def category_of(tag: str) -> str:
    """Return what stands before a tag's first colon, `NO_CATEGORY` where nothing does."""
    before, colon, _ = tag.partition(":")
    return before if colon and before else NO_CATEGORY


def macro_means(
    category: str, exact: RankingFigures, replicates: RankingFigures, base_rates: Float64Array, resampling: Resampling
) -> CategoryFigures:
    """Return the means over tags, all of which have positives and negatives.

    Parameters
    ----------
    exact, replicates
        Figures of each tag on the tracks as they are, shape (n_tags, 1), and in each resample, (n_tags, samples).
    base_rates
        Share of tracks that have the tag, shape (n_tags,).
    """
    roc_auc, pr_auc = mean_of_defined(exact.roc_auc), mean_of_defined(exact.average_precision)
    return CategoryFigures(
        category,
        len(base_rates),
        resampling.figure(float(roc_auc[0]), mean_of_defined(replicates.roc_auc)),
        resampling.corrected_figure(float(pr_auc[0]), mean_of_defined(replicates.average_precision)),
        float(base_rates.mean()) if len(base_rates) else None,
    )
