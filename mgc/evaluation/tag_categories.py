"""Tag figures by category: tags named `instrument:piano`, `mood:calm` are averaged by what stands first.

A mean over all tags hides that instruments are heard and moods are guessed; He & Li (2024, figure 8) and the
MTG-Jamendo data set (Bogdanov et al. 2019) report categories apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.evaluation.bootstrap import Figure, Resampling, mean_of_defined
from mgc.evaluation.metrics import RankingFigures

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
