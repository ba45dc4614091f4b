"""All runs of an experiment to its figures: each system under each protocol, with intervals over tracks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mgc.arrays import Float64Array, IntArray
from mgc.evaluation.bootstrap import UNDEFINED, Figure, mean_of_defined, ratio
from mgc.evaluation.metrics import RankingFigures, unweighted
from mgc.evaluation.tag_metrics import CategoryFigures, TagFigures, by_category, macro_means
from mgc.studies.experiment_data import Material
from mgc.studies.experiment_settings import Experiment, headed
from mgc.studies.runs import ExperimentRun, PooledPredictions, RunResult, Truth


@dataclass(frozen=True)
class TagResults:
    """Tags under one protocol: macro means, by category, and each."""

    tracks: int
    roc_auc: Figure
    pr_auc: Figure
    tags: tuple[TagFigures, ...]
    categories: tuple[CategoryFigures, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """A system under a protocol.

    Parameters
    ----------
    system, protocol
        Names; a head on embeddings is a system of its own.
    runs, planned
        Finished runs, and those there will be.
    tracks
        Different held-out tracks.
    accuracy, macro_f1
        Of tracks; mean over seeds, intervals over tracks.
    window_accuracy
        Of single windows (or segments).
    recall
        Accuracy on the tracks of each genre.
    seed_spread
        Standard deviation of the accuracy between seeds; None for one seed.
    peeked
        Accuracy had each network been kept at the epoch that does best on the very held-out tracks.
    confusion
        Tracks, summed over seeds.
    parameters, train_seconds, answer_xrealtime
        Mean over runs, of × realtime the median; None where it was not measured.
    neighbours_right, neighbours_right_mfcc, neighbours_right_chance
        Share of the nearest held-out tracks of other groups that have a track's genre, mean over runs: by the
        embedding, by MFCC statistics, and drawn at random.
    windows_by_genre, drawn_by_genre
        Clean training windows of each genre, and those that an epoch draws, mean over runs; empty of other systems.
    tracks_across, groups_across
        Tracks and groups (artists) that stand on both sides, mean over runs.
    curves
        Epochs of each network of each run.
    replicates
        The accuracy in each resample.
    """

    system: str
    protocol: str
    runs: int
    planned: int
    tracks: int
    accuracy: Figure
    window_accuracy: Figure
    macro_f1: Figure
    recall: tuple[Figure, ...]
    seed_spread: float | None
    peeked: float | None
    confusion: IntArray
    parameters: float | None
    train_seconds: float | None
    answer_xrealtime: float | None
    neighbours_right: float | None
    neighbours_right_mfcc: float | None
    neighbours_right_chance: float | None
    windows_by_genre: tuple[float, ...]
    drawn_by_genre: tuple[float, ...]
    train_tracks: float
    tracks_across: float
    groups_across: float
    curves: list[list[dict[str, Any]]]
    replicates: Float64Array
    tags: TagResults | None = None

    @property
    def rmse(self) -> float | None:
        """That of genre probabilities after the last epoch, mean over networks (Jain et al. 2021, Table 2)."""
        last = [curve[-1].get("valid_rmse") for curve in self.curves if curve]
        known = [one for one in last if one is not None]
        return float(np.mean(known)) if known else None

    def report(self, genres: Sequence[str]) -> list[GenreLine]:
        """Return each genre's precision, recall and F1 over all seeds, as a classification report has them."""
        hits = np.diag(self.confusion).astype(np.float64)
        support, named = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        columns = ratio(hits, named), ratio(hits, support), ratio(2 * hits, support + named)
        values = [[None if np.isnan(value) else float(value) for value in column] for column in columns]
        return [GenreLine(*line) for line in zip(genres, support.tolist(), *values, strict=True)]

    def macro(self, genres: Sequence[str]) -> tuple[float | None, float | None]:
        """Return the means of precision and recall over the genres where each is defined."""
        lines = self.report(genres)
        sides = [[getattr(line, name) for line in lines] for name in ("precision", "recall")]
        known = [[one for one in side if one is not None] for side in sides]
        precision, recall = (float(np.mean(side)) if side else None for side in known)
        return precision, recall


@dataclass(frozen=True)
class GenreLine:
    """A line of a classification report; `tracks` of the genre, summed over seeds."""

    genre: str
    tracks: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Gain:
    """What a system has over the one that it is like, under the primary protocol: paired differences."""

    system: str
    over: str
    accuracy: Figure
    roc_auc: Figure


@dataclass(frozen=True, eq=False)
class Summary:
    """All figures of an experiment."""

    experiment: Experiment
    genres: tuple[str, ...]
    results: tuple[Result, ...]
    gains: tuple[Gain, ...]

    def under(self, protocol: str) -> list[Result]:
        """Return the results under a protocol, in the order of the systems."""
        return [one for one in self.results if one.protocol == protocol]

    def of(self, system: str, protocol: str) -> Result | None:
        """Return a system's result under a protocol, where there is one."""
        return next((one for one in self.results if (one.system, one.protocol) == (system, protocol)), None)

    @property
    def primary(self) -> str:
        """Name of the protocol that details are shown under: while it has no result, of the last one that has."""
        wanted = self.experiment.primary_protocol
        there = [one.name for one in self.experiment.protocols if self.under(one.name)]
        return wanted if wanted in there or not there else there[-1]

    @property
    def systems(self) -> list[str]:
        """Names of the systems that have a result."""
        return list(dict.fromkeys(one.system for one in self.results))


def summarise(
    experiment: Experiment, material: Material, runs: Sequence[ExperimentRun], results: Mapping[str, RunResult]
) -> Summary:
    """Return the figures of the runs that are finished."""
    truth = Truth.of(material, experiment.evaluation)
    gathered: list[Result] = []
    pools: dict[tuple[str, str], list[PooledPredictions]] = {}
    for system in experiment.systems:
        for head in ("", *system.heads):
            name = headed(system.name, head)
            for protocol in experiment.of(system):
                own = [one for one in runs if (one.system.name, one.protocol.name) == (system.name, protocol)]
                there = [results[run.key] for run in own if run.key in results]
                if not there:
                    continue
                pools[name, protocol] = _pools(there, head, truth)
                whole = _result(name, protocol, head, there, pools[name, protocol], truth)
                gathered.append(replace(whole, planned=len(own)))
    summary = Summary(experiment, truth.taxonomy.genres, tuple(gathered), ())
    with_tags = (
        replace(one, tags=_tags(pools[one.system, one.protocol], truth)) if one.protocol == summary.primary else one
        for one in gathered
    )
    summary = replace(summary, results=tuple(with_tags))
    return replace(summary, gains=_gains(summary, pools, truth))


def _pools(results: list[RunResult], head: str, truth: Truth) -> list[PooledPredictions]:
    by_seed: dict[int, list[RunResult]] = defaultdict(list)
    for result in results:
        by_seed[result.seed].append(result)
    return [PooledPredictions.of(some, head, truth) for some in by_seed.values()]


def _result(
    name: str,
    protocol: str,
    head: str,
    results: list[RunResult],
    pools: list[PooledPredictions],
    truth: Truth,
) -> Result:
    ones, resampling = unweighted(len(truth.genre)), truth.resampling
    exact = [pool.genre_statistics(truth, ones) for pool in pools]
    drawn = [pool.genre_statistics(truth, truth.weights) for pool in pools]

    known = np.unique(np.concatenate([pool.rows for pool in pools]))
    known = known[truth.genre[known] >= 0]

    def share(values: Iterable[Float64Array], replicates: Iterable[Float64Array]) -> Figure:
        value = mean_of_defined(np.stack(list(values)))
        return resampling.share(float(value[0]), mean_of_defined(np.stack(list(replicates))), known)

    recall = mean_of_defined(np.stack([one.recall for one in exact]))[:, 0]
    recalls = mean_of_defined(np.stack([one.recall for one in drawn]))
    by_seed = [float(one.accuracy[0]) for one in exact]
    return Result(
        system=name,
        protocol=protocol,
        runs=len(results),
        planned=len(results),
        tracks=len(np.unique(np.concatenate([pool.rows for pool in pools]))),
        accuracy=share((one.accuracy for one in exact), (one.accuracy for one in drawn)),
        window_accuracy=share(
            (pool.window_accuracy(truth, ones) for pool in pools),
            (pool.window_accuracy(truth, truth.weights) for pool in pools),
        ),
        macro_f1=resampling.figure(
            float(mean_of_defined(np.stack([one.macro_f1 for one in exact]))[0]),
            mean_of_defined(np.stack([one.macro_f1 for one in drawn])),
        ),
        recall=tuple(
            resampling.share(float(value), row, known[truth.genre[known] == genre])
            for genre, (value, row) in enumerate(zip(recall, recalls, strict=True))
        ),
        seed_spread=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        peeked=_peeked(results) if not head else None,
        confusion=np.sum([pool.confusion(truth) for pool in pools], axis=0),
        parameters=_mean(results, "parameters") if not head else None,
        train_seconds=_train_seconds(results, head),
        answer_xrealtime=_xrealtime(results) if not head else None,
        neighbours_right=_mean(results, "neighbours_right") if not head else None,
        neighbours_right_mfcc=_mean(results, "neighbours_right_mfcc") if not head else None,
        neighbours_right_chance=_mean(results, "neighbours_right_chance") if not head else None,
        windows_by_genre=_mean_counts(results, "windows_by_genre") if not head else (),
        drawn_by_genre=_mean_counts(results, "drawn_by_genre") if not head else (),
        train_tracks=_mean(results, "train_tracks") or 0.0,
        tracks_across=_mean(results, "tracks_across") or 0.0,
        groups_across=_mean(results, "groups_across") or 0.0,
        curves=[curve for result in results for curve in result.curves] if not head else [],
        replicates=mean_of_defined(np.stack([one.accuracy for one in drawn])),
    )


def _mean(results: Sequence[RunResult], name: str) -> float | None:
    values = [float(result.facts[name]) for result in results if result.facts.get(name) is not None]
    return float(np.mean(values)) if values else None


def _mean_counts(results: Sequence[RunResult], name: str) -> tuple[float, ...]:
    counts = [result.facts[name] for result in results if result.facts.get(name)]
    return tuple(np.mean(counts, axis=0).tolist()) if counts else ()


def _train_seconds(results: Sequence[RunResult], head: str) -> float | None:
    own, classifier = _mean(results, "train_seconds"), _mean(results, f"{head}_seconds") if head else 0.0
    return None if own is None or classifier is None else own + classifier


def _xrealtime(results: Sequence[RunResult]) -> float | None:
    """Return the median over runs: of processor time, on a GPU of the clock; None of what an earlier mgc measured."""
    on_gpu = all(result.facts.get("device") == "cuda" for result in results)
    name = "answer_seconds" if on_gpu else "answer_cpu_seconds"
    timed = [result.facts for result in results if result.facts.get(name)]
    return float(np.median([one["audio_seconds"] / one[name] for one in timed])) if timed else None


def _peeked(results: Sequence[RunResult]) -> float | None:
    """Return the accuracy at each run's best epoch; None where there are no epochs, or more than one member."""
    best, tracks = [], []
    for result in results:
        if len(result.curves) != 1:
            return None
        seen = [epoch["valid_accuracy"] for epoch in result.curves[0] if epoch["valid_accuracy"] is not None]
        if not seen:
            return None
        best.append(max(seen))
        tracks.append(len(result.tracks))
    return float(np.average(best, weights=tracks))


def _tags(pools: Sequence[PooledPredictions], truth: Truth) -> TagResults | None:
    names = truth.taxonomy.tags
    held_out = np.unique(np.concatenate([pool.rows for pool in pools]))
    known = held_out[truth.tags_known[held_out]]
    if not names or not len(known):
        return None
    exact = _mean_figures([pool.tag_figures(truth, unweighted(len(truth.genre))) for pool in pools])
    usable = np.flatnonzero(np.isfinite(exact.roc_auc[:, 0]))
    if not len(usable):
        return None
    exact = exact.of_tags(usable)
    drawn = _mean_figures([pool.tag_figures(truth, truth.weights) for pool in pools]).of_tags(usable)
    resampling, rates = truth.resampling, truth.tags[known].mean(axis=0)[usable]
    means = macro_means("", exact, drawn, rates, resampling)
    return TagResults(
        tracks=len(known),
        roc_auc=means.roc_auc,
        pr_auc=means.pr_auc,
        tags=tuple(
            TagFigures(
                names[tag],
                int(truth.tags[known, tag].sum()),
                float(rates[place]),
                resampling.figure(float(exact.roc_auc[place, 0]), drawn.roc_auc[place]),
                resampling.figure(float(exact.average_precision[place, 0]), drawn.average_precision[place]),
            )
            for place, tag in enumerate(usable)
        ),
        categories=by_category([names[tag] for tag in usable], exact, drawn, rates, resampling),
    )


def _mean_figures(seeds: Sequence[RankingFigures]) -> RankingFigures:
    """Return the mean over seeds."""
    return RankingFigures(
        mean_of_defined(np.stack([one.roc_auc for one in seeds])),
        mean_of_defined(np.stack([one.average_precision for one in seeds])),
    )


def _gains(
    summary: Summary, pools: Mapping[tuple[str, str], list[PooledPredictions]], truth: Truth
) -> tuple[Gain, ...]:
    """Return the paired differences of systems from those they are like, over the same tracks and seeds."""
    primary, made = summary.primary, []
    for system in summary.experiment.systems:
        if system.like is None:
            continue
        own, other = summary.of(system.name, primary), summary.of(system.like, primary)
        if own is None or other is None or own.runs != other.runs:
            continue
        value = (own.accuracy.value or 0.0) - (other.accuracy.value or 0.0)
        rows = np.unique(np.concatenate([pool.rows for pool in pools[system.name, primary]]))
        accuracy = truth.resampling.share(
            value, own.replicates - other.replicates, rows[truth.genre[rows] >= 0], least=-1.0
        )
        roc = _roc_gain(pools[system.name, primary], pools[system.like, primary], truth) if own.tags else UNDEFINED
        made.append(Gain(system.name, system.like, accuracy, roc))
    return tuple(made)


def _roc_gain(own: Sequence[PooledPredictions], other: Sequence[PooledPredictions], truth: Truth) -> Figure:
    """Return the paired difference of the macro ROC-AUC over tags."""
    ones = unweighted(len(truth.genre))

    def macro(pools: Sequence[PooledPredictions], weights: Any) -> Float64Array:
        return mean_of_defined(
            np.stack([mean_of_defined(pool.tag_figures(truth, weights).roc_auc) for pool in pools])
        )

    value = macro(own, ones)[0] - macro(other, ones)[0]
    return truth.resampling.figure(float(value), macro(own, truth.weights) - macro(other, truth.weights))
