"""Thresholds whose stated precision holds on groups (artists) never met: for a genre, and for lists of tags.

Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052) by fixed sequences from two starts: from the surest
tracks down, a threshold is taken as long as the lower bound of its precision reaches the target, and no further. The
bound is Clopper and Pearson's over as many independent tracks as their groups leave: n over the design effect (Kish
1965) of the intraclass correlation that all predictions show. `python -m benchmarks.promises_held` draws thousands of
artists and counts how often what was promised holds, beside the rule of best empirical precision.

What it is fitted on must have decided nothing else: not an epoch, not a weight, not a temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.models.ensemble import at_most_one

CONFIDENCE = 0.9
"""That a promise holds, over drawings of the tracks it was made on."""
STARTS = (0.2, 0.5)
"""Shares answered from which sequences of tests begin; each has its part of the probability of error."""
LEVELS = tuple(round(0.05 * step, 2) for step in range(4, 21))
"""Shares answered that are tested."""
LEAST_PRECISION = 0.5
STEP = 0.05
"""Where the target is out of reach, the promise is the next multiple of this that is not, down to one half."""
MOST_NEEDED = 100_000
PRIOR_TRACKS = 10.0
"""Tracks that a tag's stated probabilities weigh beside what was seen: rare tags lean on them."""
ENOUGH_TOGETHER = 10.0
"""Tracks that would have two tags by chance: where none has, they exclude each other."""
LISTS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Precisions of single tags that are tried, strictest first, for the list of all to keep its promise."""


@dataclass(frozen=True)
class Judged:
    """Predictions of which it is known whether they are right, shape (n,).

    Parameters
    ----------
    confidence
        Stated probability.
    groups
        Index of the group of each.
    """

    confidence: Float64Array
    right: BoolArray
    groups: IntArray


@dataclass(frozen=True)
class Promise:
    """What a threshold promises.

    Parameters
    ----------
    below
        The threshold: what is less probable is not stated. 1: nothing is.
    target, precision
        The share right that was wanted, and that is promised: at most the target. None: nothing can be promised.
    confidence
        With which it holds.
    bound, accuracy, coverage
        Lower bound of the share right at the threshold, the share seen, and the share answered; of tags, the share of
        those that tracks have.
    tracks, groups
        It rests on.
    needed
        About how many tracks like these the target would take; None: no number would do, or it is reached.
    """

    below: float
    target: float
    precision: float | None
    bound: float
    accuracy: float | None
    coverage: float
    tracks: int
    groups: int
    needed: int | None = None
    confidence: float = CONFIDENCE

    def to_json(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class _Step:
    """A threshold that is tested: what it answers, how much of that is right, the bound, what tracks are worth."""

    below: float
    coverage: float
    accuracy: float
    bound: float
    size: float


def promise_precision(judged: Judged, target: float) -> Promise:
    """Return the lowest threshold that keeps `target`, or else the most that can be promised."""
    tracks, groups = len(judged.right), len(np.unique(judged.groups))
    steps = list(_steps(judged))
    below_target = np.arange(math.ceil(round(target / STEP, 6)) - 1, 0, -1) * STEP
    for precision in (target, *(float(one) for one in below_target if one >= LEAST_PRECISION - 1e-9)):
        found = _last_passed(steps, precision)
        if found is not None:
            needed = None if precision == target else _needed(steps, target, tracks)
            answered = (found.bound, found.accuracy, found.coverage)
            return Promise(found.below, target, round(precision, 6), *answered, tracks, groups, needed)
    return Promise(1.0, target, None, 0.0, None, 0.0, tracks, groups, _needed(steps, target, tracks))


def _steps(judged: Judged) -> Iterator[_Step]:
    order = np.argsort(-judged.confidence, kind="stable")
    ranked, right = judged.confidence[order], judged.right[order]
    groups = np.unique(judged.groups[order], return_inverse=True)[1]
    correlation = intraclass_correlation(right, groups)
    level = (1.0 - CONFIDENCE) / len(STARTS)
    for share in LEVELS if len(ranked) else ():
        last = math.ceil(share * len(ranked)) - 1
        count = int(np.searchsorted(-ranked, -ranked[last], side="right"))  # equal ones are answered together
        below = float(ranked[count - 1] + ranked[count]) / 2 if count < len(ranked) else 0.0
        size, accuracy = _size(groups[:count], correlation), float(right[:count].mean())
        yield _Step(below, count / len(ranked), accuracy, lower_bound(accuracy, size, level), size)


def _last_passed(steps: Sequence[_Step], precision: float) -> _Step | None:
    best = None
    for start in STARTS:
        for step in (one for one in steps if one.coverage >= start):
            if step.bound < precision:
                break
            if best is None or step.coverage > best.coverage:
                best = step
    return best


def _needed(steps: Sequence[_Step], target: float, tracks: int) -> int | None:
    """Return how many tracks would do if those at a start stayed as right as they are, and artists as alike."""
    level = (1.0 - CONFIDENCE) / len(STARTS)
    starts = [next((step for step in steps if step.coverage >= start), None) for start in STARTS]
    promising = [step for step in starts if step and step.accuracy > target]
    for factor in np.geomspace(1.0, max(1.0, MOST_NEEDED / max(1, tracks)), 400):
        if any(lower_bound(step.accuracy, step.size * float(factor), level) >= target for step in promising):
            return int(float(f"{1.05 * tracks * factor:.2g}"))
    return None


def lower_bound(accuracy: float, size: float, level: float) -> float:
    """Return Clopper and Pearson's lower bound of a share, 0 to 1, seen among `size` independent tracks."""
    hits = accuracy * size
    return float(beta.ppf(level, hits, size - hits + 1.0)) if hits > 0 else 0.0


def _size(groups: IntArray, correlation: float) -> float:
    counts = np.bincount(groups).astype(np.float64)
    return float(len(groups) / (1.0 + (np.square(counts).sum() / len(groups) - 1.0) * correlation))


def intraclass_correlation(right: BoolArray, groups: IntArray) -> float:
    """Return how alike the tracks of a group are in being right, 0 to 1: one-way analysis of variance (Fisher 1925).

    Where all are alike nothing tells, and it is 1: a group counts once.
    """
    counts = np.bincount(groups).astype(np.float64)
    counts, hits = counts[counts > 0], np.bincount(groups, weights=right)[counts > 0]
    tracks, n_groups, share = len(right), len(counts), float(right.mean()) if len(right) else 0.0
    if n_groups < 2 or n_groups == tracks or share in (0.0, 1.0):
        return 1.0
    between = float((counts * np.square(hits / counts - share)).sum()) / (n_groups - 1)
    within = float((hits - np.square(hits) / counts).sum()) / (tracks - n_groups)
    usual = (tracks - float(np.square(counts).sum()) / tracks) / (n_groups - 1)
    total = between + (usual - 1.0) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else 1.0


# Tags: a threshold for each, of which the list of all is to keep a promise.


def tag_thresholds(probabilities: Float64Array, truth: BoolArray, precision: float) -> Float64Array:
    """Return for each tag the lowest threshold of that precision, shape (n_tags,); 1 where there is none.

    The precision of a list is that seen, drawn towards the mean of the probabilities it states: as if
    `PRIOR_TRACKS` more had been right as often as stated. No tag is listed for every track.

    Parameters
    ----------
    probabilities, truth
        Shape (n_tracks, n_tags).
    """
    n_tracks = len(probabilities)
    thresholds = np.ones(probabilities.shape[1])
    ranks = np.arange(1, n_tracks + 1)
    for tag in np.flatnonzero(truth.any(axis=0)) if n_tracks > 1 else ():  # of what nobody has nothing is known
        order = np.argsort(-probabilities[:, tag], kind="stable")
        ranked = probabilities[order, tag]
        stated = np.cumsum(ranked) / ranks
        seen = (np.cumsum(truth[order, tag]) + PRIOR_TRACKS * stated) / (ranks + PRIOR_TRACKS)
        ends = np.flatnonzero((seen[:-1] >= precision) & (ranked[1:] < ranked[:-1]))
        if len(ends):
            thresholds[tag] = (ranked[ends[-1]] + ranked[ends[-1] + 1]) / 2
    return thresholds


@dataclass(frozen=True)
class TagPromise:
    """Thresholds of tags, and what the list of those at or above them promises (as `Promise`; `below` is 0 there)."""

    thresholds: Float64Array
    promise: Promise


def promise_tags(
    probabilities: Float64Array,
    truth: BoolArray,
    groups: IntArray,
    folds: IntArray,
    exclusive: Sequence[Sequence[int]],
    target: float,
) -> TagPromise:
    """Return the laxest thresholds whose list keeps `target`: each tag's fitted on other folds than it is judged on.

    Where no list does, the thresholds are those of precision `target`, and nothing is promised.

    Parameters
    ----------
    folds
        Of each track, shape (n_tracks,).
    exclusive
        Groups of tags, by index, of which at most one is listed.
    """
    level, found = (1.0 - CONFIDENCE) / len(STARTS), None
    lists = [one for one in LISTS if one >= target] or [target]
    seen = [_judged_list(probabilities, truth, groups, folds, exclusive, one) for one in lists]
    for start in (0, len(lists) // 2):
        for place in range(start, len(lists)):
            judged = seen[place]
            if not len(judged.right) or _list_bound(judged, level) < target:
                break
            found = max(place, found or 0)
    chosen = seen[-1 if found is None else found]
    whole = Promise(
        below=0.0,
        target=target,
        precision=None if found is None else target,
        bound=_list_bound(chosen, level) if len(chosen.right) else 0.0,
        accuracy=float(chosen.right.mean()) if len(chosen.right) else None,
        coverage=float(chosen.right.sum() / max(1, truth.sum())),
        tracks=len(probabilities),
        groups=len(np.unique(groups)),
    )
    return TagPromise(tag_thresholds(probabilities, truth, lists[-1 if found is None else found]), whole)


def _judged_list(
    probabilities: Float64Array,
    truth: BoolArray,
    groups: IntArray,
    folds: IntArray,
    exclusive: Sequence[Sequence[int]],
    precision: float,
) -> Judged:
    """Return the tags that would be listed, one after the other, and whether each is right."""
    listed = np.zeros(truth.shape, dtype=bool)
    for fold in np.unique(folds):
        rest, own = folds != fold, np.flatnonzero(folds == fold)
        if rest.any():
            at = tag_thresholds(probabilities[rest], truth[rest], precision)
            listed[own] = at_most_one(probabilities[own], probabilities[own] >= at, exclusive)
    rows, tags = np.nonzero(listed)
    return Judged(probabilities[rows, tags], truth[rows, tags], groups[rows])


def _list_bound(judged: Judged, level: float) -> float:
    groups = np.unique(judged.groups, return_inverse=True)[1]
    correlation = intraclass_correlation(judged.right, groups)
    return lower_bound(float(judged.right.mean()), _size(groups, correlation), level)


def find_exclusive(truth: BoolArray) -> tuple[tuple[int, ...], ...]:
    """Return groups of tags no two of which a track has, though by chance `ENOUGH_TOGETHER` tracks or more had both.

    Parameters
    ----------
    truth
        Shape (n_tracks, n_tags).
    """
    has = truth.astype(np.float64)
    together, counts = has.T @ has, has.sum(axis=0)
    apart = (together == 0) & (np.outer(counts, counts) >= ENOUGH_TOGETHER * max(1, len(has)))
    groups: list[tuple[int, ...]] = []
    covered: set[tuple[int, int]] = set()
    order = np.argsort(-counts, kind="stable").tolist()
    for first, second in ((a, b) for place, a in enumerate(order) for b in order[place + 1 :] if apart[a, b]):
        if (first, second) not in covered:
            group = [first, second]
            group += [tag for tag in order if tag not in group and apart[tag, group].all()]
            covered |= {(a, b) for a in group for b in group}
            groups.append(tuple(sorted(group)))
    return tuple(groups)
