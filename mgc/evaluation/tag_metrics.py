"""Tags, any number a track: ROC-AUC and PR-AUC of each, and their means.

Both rank all tracks by one tag's probability, so neither depends on a threshold. ROC-AUC is the chance that a
track with the tag stands above one without it: 0.5 for a coin. PR-AUC (average precision) asks how clean the
top of the list is: a coin reaches the tag's base rate, so it says most about rare tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from mgc.arrays import BoolArray, Float64Array
from mgc.evaluation.answers import LabelledPredictions
from mgc.evaluation.bootstrap import UNDEFINED, Figure, Resampling, mean_of_defined, rounded
from mgc.evaluation.metrics import RankedScores, RankingFigures, ranking_figures

# Tag figures by category: tags named `instrument:piano`, `mood:calm` are averaged by what stands first.
#
# A mean over all tags hides that instruments are heard and moods are guessed; He & Li (2024, figure 8) and the
# MTG-Jamendo data set (Bogdanov et al. 2019) report categories apart.

NO_CATEGORY = "other"
"""Where a tag without a colon is counted, if others have one."""


@dataclass(frozen=True)
class RankedTag:
    """A tag that has both positives and negatives, and its figures."""

    tag: str
    roc_auc: float
    pr_auc: float
    base_rate: float


@dataclass(frozen=True)
class CategoryFigures:
    """Macro means over a category's tags that have both positives and negatives.

    `mean_base_rate` is what the mean PR-AUC would be by chance.
    """

    category: str
    tags_in_mean: int
    roc_auc: Figure
    pr_auc: Figure
    mean_base_rate: float


def category_of(tag: str) -> str:
    """Return what stands before a tag's first colon, `NO_CATEGORY` where nothing does."""
    before, colon, _ = tag.partition(":")
    return before if colon and before else NO_CATEGORY


def by_category(
    tags: Sequence[RankedTag], replicates: RankingFigures, resampling: Resampling
) -> tuple[CategoryFigures, ...]:
    """Return the figures of each category, by name; none where no tag has a category.

    Parameters
    ----------
    tags
        In the order of the replicates' rows.
    replicates
        Figures of each tag in each resample, shape (n_tags, samples).
    """
    categories = np.array([category_of(one.tag) for one in tags])
    names = sorted(set(categories.tolist()))
    if set(names) <= {NO_CATEGORY}:
        return ()
    return tuple(_category(name, categories == name, tags, replicates, resampling) for name in names)


def _category(
    name: str,
    inside: np.ndarray[tuple[int], np.dtype[np.bool_]],
    tags: Sequence[RankedTag],
    replicates: RankingFigures,
    resampling: Resampling,
) -> CategoryFigures:
    own = [tag for tag, chosen in zip(tags, inside, strict=True) if chosen]
    roc = float(np.mean([tag.roc_auc for tag in own]))
    pr = float(np.mean([tag.pr_auc for tag in own]))
    return CategoryFigures(
        name,
        len(own),
        resampling.figure(roc, mean_of_defined(replicates.roc_auc[inside])),
        resampling.corrected_figure(pr, mean_of_defined(replicates.average_precision[inside])),
        float(np.mean([tag.base_rate for tag in own])),
    )


@dataclass(frozen=True)
class TagFigures:
    """One tag: its examples, their share, and how well its probability ranks the tracks.

    Figures are not defined where no track, or every track, has the tag.
    """

    tag: str
    positives: int
    base_rate: float
    roc_auc: Figure
    pr_auc: Figure


@dataclass(frozen=True)
class TagEvaluation:
    """The tag figures of one split.

    Parameters
    ----------
    tracks
        Answered tracks whose tags are known.
    tags_in_mean
        Tags that have negatives and at least `min_positives` positives: those the means are over.
    roc_auc, pr_auc
        Macro means over these tags. The mean PR-AUC is biased upwards where tags have few positives, and its
        interval takes that into account.
    mean_base_rate
        What the mean PR-AUC would be by chance.
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

    def to_json(self) -> dict[str, object]:
        """Return the figures under the names of the fields; `macro_` before those of all tags."""
        return {
            "tracks": self.tracks,
            "tags_in_mean": self.tags_in_mean,
            "min_positives": self.min_positives,
            "macro_roc_auc": self.roc_auc.to_json(),
            "macro_pr_auc": self.pr_auc.to_json(),
            "mean_base_rate": rounded(self.mean_base_rate),
            "categories": [
                {
                    "category": one.category,
                    "tags_in_mean": one.tags_in_mean,
                    "macro_roc_auc": one.roc_auc.to_json(),
                    "macro_pr_auc": one.pr_auc.to_json(),
                    "mean_base_rate": rounded(one.mean_base_rate),
                }
                for one in self.categories
            ],
            "tags": [
                {
                    "tag": one.tag,
                    "positives": one.positives,
                    "base_rate": rounded(one.base_rate),
                    "roc_auc": one.roc_auc.to_json(),
                    "pr_auc": one.pr_auc.to_json(),
                }
                for one in self.tags
            ],
        }


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
    truth, scores = answers.tag_true[rows].astype(bool), answers.tag_probabilities[rows]
    ranked_by = [index for index in range(len(answers.tags)) if truth[:, index].any() and not truth[:, index].all()]
    replicates = _replicates(truth, scores, ranked_by, rows, resampling)
    clusters = resampling.clusters[rows]
    place = {index: place for place, index in enumerate(ranked_by)}
    tags = []
    for index, tag in enumerate(answers.tags):
        roc, pr = UNDEFINED, UNDEFINED
        has = truth[:, index]
        if index in place:
            enough = len(np.unique(clusters[has])) > 1 and len(np.unique(clusters[~has])) > 1
            column = scores[:, index]
            roc = resampling.figure(roc_auc_score(has, column), replicates.roc_auc[place[index]], enough=enough)
            pr = resampling.figure(
                average_precision_score(has, column), replicates.average_precision[place[index]], enough=enough
            )
        tags.append(TagFigures(tag, int(has.sum()), float(has.mean()), roc, pr))
    common = np.array([truth[:, index].sum() >= min_positives for index in ranked_by], dtype=bool)
    replicates = RankingFigures(replicates.roc_auc[common], replicates.average_precision[common])
    return replace(_summarised(tags, len(rows), replicates, resampling, min_positives), min_positives=min_positives)


def _summarised(
    tags: list[TagFigures], tracks: int, replicates: RankingFigures, resampling: Resampling, min_positives: int
) -> TagEvaluation:
    ranked = [
        RankedTag(tag.tag, tag.roc_auc.value, tag.pr_auc.value, tag.base_rate)
        for tag in tags
        if tag.roc_auc.value is not None and tag.pr_auc.value is not None and tag.positives >= min_positives
    ]
    if not ranked:
        return TagEvaluation(tracks, 0, UNDEFINED, UNDEFINED, None, tuple(tags))
    roc = float(np.mean([tag.roc_auc for tag in ranked]))
    pr = float(np.mean([tag.pr_auc for tag in ranked]))
    return TagEvaluation(
        tracks,
        len(ranked),
        resampling.figure(roc, mean_of_defined(replicates.roc_auc)),
        resampling.corrected_figure(pr, mean_of_defined(replicates.average_precision)),
        float(np.mean([tag.base_rate for tag in ranked])),
        tuple(tags),
        by_category(ranked, replicates, resampling),
    )


def _replicates(
    truth: BoolArray, scores: Float64Array, ranked_by: list[int], rows: np.ndarray, resampling: Resampling
) -> RankingFigures:
    """Return the figures of each ranked tag in each resample, shape (n_ranked, samples)."""
    ranked = [RankedScores.of(scores[:, index], truth[:, index]) for index in ranked_by]
    roc = np.full((len(ranked), resampling.samples), np.nan)
    precision = np.full_like(roc, np.nan)
    start = 0
    for weights in resampling.chunks() if ranked else ():
        drawn = weights[rows]
        end = start + drawn.shape[1]
        for place, one in enumerate(ranked):
            figures = ranking_figures(one, drawn)
            roc[place, start:end], precision[place, start:end] = figures.roc_auc, figures.average_precision
        start = end
    return RankingFigures(roc, precision)
