"""How often a promised precision holds on artists never met, and what it answers, beside the rule without a bound.

    python -m benchmarks.promises_held [--draws 400] [--target 0.95]
    python -m benchmarks.promises_held --catalogue catalogue.parquet --features features/ [--draws 30]

Artists are made: each with its number of tracks (as unequal as GTZAN's or the MIDI catalogue's), and an effect of its
own on how right the model is there. `curve`: rightness rises with a stated probability that is too sure of itself.
`flat`: it does not, and lies just below a target, where a rule that picks the best of many thresholds is fooled most.
A line a case: the share of draws in which what was promised did not hold (to be 0.1 at most), and the mean share of
tracks answered, of the rule in use and of the lowest threshold whose answers were right often enough.

With a catalogue: an SVM on MFCC statistics. In each draw a third of the groups of train and valid is hidden;
thresholds are chosen on predictions of the others, fold by fold, and judged on the hidden ones. Those are a sample: a
promise that holds is seen broken there now and then.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit

from mgc.arrays import Float64Array, IntArray
from mgc.catalogue.index import read_catalogue
from mgc.evaluation.baselines import decision_values, mfcc_statistics, softmax, svm
from mgc.tables.feature_shards import read_feature_set
from mgc.training.promise import Judged, promise_precision

UNEQUAL = (1,) * 51 + (2,) * 12 + (3,) * 9 + (4,) * 7 + (6,) * 7 + (9,) * 6 + (13,) * 4 + (18,) * 2 + (27, 40)
"""Tracks an artist, as in GTZAN: half have one, some have dozens."""
ALIKE = (1,) * 85 + (2,) * 9 + (4,) * 5 + (20,)
"""As in the MIDI catalogue."""
FEWEST_ANSWERS = 10
TRUTH_ARTISTS = 20_000


@dataclass(frozen=True)
class Case:
    """Artists and how the model does on them.

    Parameters
    ----------
    sizes
        Tracks of an artist, one of which is drawn for each.
    level, effect, sureness
        Of `curve`: mean evidence, standard deviation of the artists' effects, and how much too sure it is.
    flat
        Precision whatever is stated; None: a curve.
    """

    name: str
    artists: int
    sizes: tuple[int, ...]
    level: float = 0.0
    effect: float = 1.0
    sureness: float = 1.3
    flat: float | None = None

    def draw(self, generator: np.random.Generator, artists: int) -> Judged:
        """Return judged predictions of so many artists."""
        counts = generator.choice(self.sizes, artists)
        groups = np.repeat(np.arange(artists), counts)
        if self.flat is not None:
            rates = generator.beta(self.flat / self.effect, (1 - self.flat) / self.effect, artists)
            right = generator.random(len(groups)) < rates[groups]
            return Judged(generator.random(len(groups)), right, groups)
        evidence = generator.normal(self.level, 1.5, len(groups)) + generator.normal(0, 1, artists)[groups]
        effects = generator.normal(0, self.effect, artists)[groups]
        right = generator.random(len(groups)) < expit(1.5 * evidence + effects)
        return Judged(expit(1.5 * self.sureness * evidence), right, groups)


CASES = (
    Case("GTZAN, train and valid", 157, UNEQUAL, 0.3),
    Case("GTZAN, half of valid", 30, UNEQUAL, 0.3),
    Case("MIDI, train and valid", 809, ALIKE, 1.6, 0.8, 1.2),
    Case("MIDI, valid", 163, ALIKE, 1.6, 0.8, 1.2),
    Case("artists that differ much", 150, UNEQUAL, 0.8, 2.0, 1.5),
    *(
        Case(f"flat {flat:g}, effect {effect:g}", 157, UNEQUAL, flat=flat, effect=effect)
        for flat in (0.945, 0.845)
        for effect in (0.02, 0.2, 1.0)
    ),
)


@dataclass(frozen=True)
class Truth:
    """What share of tracks any threshold answers, and how much of that is right, on artists without end."""

    ranked: Float64Array
    accuracy: Float64Array

    @classmethod
    def of(cls, case: Case) -> Truth:
        """Draw `TRUTH_ARTISTS` of a case."""
        drawn = case.draw(np.random.default_rng(999), TRUTH_ARTISTS)
        order = np.argsort(-drawn.confidence)
        return cls(drawn.confidence[order], np.cumsum(drawn.right[order]) / np.arange(1, len(order) + 1))

    def at(self, below: float) -> tuple[float, float]:
        """Return coverage and precision."""
        count = int(np.searchsorted(-self.ranked, -below, side="right"))
        return count / len(self.ranked), float(self.accuracy[count - 1]) if count else 1.0


def bounded(judged: Judged, target: float) -> tuple[float, float | None]:
    """Return threshold and promise of the rule in use."""
    promise = promise_precision(judged, target)
    return promise.below, promise.precision


def empirical(judged: Judged, target: float) -> tuple[float, float | None]:
    """Return the lowest threshold at which so many answers were right, ten or more of them."""
    order = np.argsort(-judged.confidence)
    ranks = np.arange(1, len(order) + 1)
    good = np.flatnonzero((np.cumsum(judged.right[order]) / ranks >= target) & (ranks >= FEWEST_ANSWERS))
    return (float(judged.confidence[order[good[-1]]]), target) if len(good) else (1.0, None)


Rule = Callable[[Judged, float], tuple[float, float | None]]


def held(case: Case, rule: Rule, target: float, draws: int) -> tuple[float, float, float]:
    """Return the share of draws whose promise did not hold, the mean promise, and the mean share answered."""
    generator, truth = np.random.default_rng(0), Truth.of(case)
    broken, promised, answered = 0, [], []
    for _ in range(draws):
        below, precision = rule(case.draw(generator, case.artists), target)
        coverage, accuracy = truth.at(below) if precision is not None else (0.0, 1.0)
        broken += precision is not None and accuracy < precision - 1e-9
        promised.append(precision or 0.0)
        answered.append(coverage)
    return broken / draws, float(np.mean(promised)), float(np.mean(answered))


def on_catalogue(catalogue: str, features: str, target: float, draws: int) -> None:
    """Print of each rule in how many draws it did not hold, the mean promise, share answered, and share right."""
    rows = read_catalogue(catalogue).filter(pl.col("split").is_in(["train", "valid"]) & pl.col("genre").is_not_null())
    tracks = read_feature_set(features, rows.with_columns(split=pl.lit("all")), "all")
    values = mfcc_statistics(tracks)
    true = np.unique(np.array(tracks.genres), return_inverse=True)[1]
    names = [group or track for group, track in zip(tracks.groups, tracks.track_ids, strict=True)]
    groups = np.unique(np.array(names), return_inverse=True)[1]
    found: dict[str, list[tuple[float, ...]]] = {rule.__name__: [] for rule in (bounded, empirical)}
    for draw in range(draws):
        place = np.random.default_rng(draw).permutation(int(groups.max()) + 1)[groups]
        hidden = place % 3 == 0
        own, fold = np.flatnonzero(~hidden), (place // 3 % 5)[~hidden]
        parts = [_judged(values, true, groups, own[fold != one], own[fold == one]) for one in range(5)]
        seen = Judged(*(np.concatenate([getattr(one, name) for one in parts]) for name in FIELDS))
        judged = _judged(values, true, groups, own, np.flatnonzero(hidden))
        for rule in (bounded, empirical):
            below, precision = rule(seen, target)
            stated = judged.confidence >= below if precision else np.zeros(len(judged.right), dtype=bool)
            right = float(judged.right[stated].mean()) if stated.any() else np.nan
            found[rule.__name__].append((right < (precision or 0.0), precision or 0.0, stated.mean(), right))
    for name, values_of in found.items():
        print(f"{name:10} broken, promise, answered, right", *np.nanmean(values_of, axis=0).round(3))


FIELDS = ("confidence", "right", "groups")


def _judged(values: Float64Array, true: IntArray, groups: IntArray, fit: IntArray, rest: IntArray) -> Judged:
    model = svm(10.0).fit(values[fit], true[fit])
    stated = softmax(2 * decision_values(model, values[rest]))
    return Judged(stated.max(axis=1), model.classes_[stated.argmax(axis=1)] == true[rest], groups[rest])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--catalogue", help="a real one, in place of made artists")
    parser.add_argument("--features", help="its shards")
    wanted = parser.parse_args()
    if wanted.catalogue:
        on_catalogue(wanted.catalogue, wanted.features, wanted.target, wanted.draws)
        return
    print(f"target {wanted.target:g}: broken, mean promise, answered; then the same without a bound")
    for case in CASES:
        columns = [held(case, rule, wanted.target, wanted.draws) for rule in (bounded, empirical)]
        print(f"{case.name:28}", "   ".join("{:.3f} {:.3f} {:.3f}".format(*one) for one in columns), flush=True)


if __name__ == "__main__":
    main()
