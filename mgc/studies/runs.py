"""The runs of an experiment, their results on disk, and their predictions pooled for the figures.

A run is a (system, protocol, fold, seed), with a key of all that decides its predictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl

from mgc import __version__
from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.config import AugmentConfig, EvaluationConfig, fingerprint_of
from mgc.config.section import json_object
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import CLEAN
from mgc.evaluation.answers import genre_indices, tag_vectors
from mgc.evaluation.bootstrap import Resampling, WeightArray, make_resampling, ratio
from mgc.evaluation.metrics import (
    GenreStatistics,
    RankingFigures,
    confusion_matrix,
    genre_statistics,
    rank_tags,
    tag_ranking_figures,
)
from mgc.logs import log
from mgc.storage.store import Store
from mgc.studies.experiment_data import Material, folds_of
from mgc.studies.experiment_settings import Experiment, ProtocolSettings, SystemSettings
from mgc.tables.feature_export import read_statistics

FOLDER = "runs"
"""In the output: a file a run."""

SYSTEMS_REVISION = 1
"""Raise it where a change of models, training, features, protocols or classifiers changes a run's predictions."""

DECIDING_PACKAGES = ("numpy", "scikit-learn", "torch")
"""Libraries whose version decides a run's predictions too."""


@dataclass(frozen=True)
class ExperimentRun:
    """A system on one fold of a protocol, with one seed.

    Parameters
    ----------
    key
        16 hex digits of data, settings, fold and seed.
    """

    system: SystemSettings
    protocol: ProtocolSettings
    augment: AugmentConfig
    fold: int
    seed: int
    key: str

    @property
    def label(self) -> str:
        """Its name for people."""
        part = f", fold {self.fold + 1}/{self.protocol.n_folds}" if self.protocol.n_folds > 1 else ""
        return f"{self.system.name} · {self.protocol.name}{part}, seed {self.seed}"

    @property
    def file(self) -> str:
        """Key of its file in the output; the name is for people, what is looked for is the key."""
        name = f"{self.system.name}.{self.protocol.name}.fold{self.fold}.seed{self.seed}"
        return f"{FOLDER}/{re.sub(r'[^a-z0-9.]+', '-', name.lower())}.{self.key}.json"


@dataclass(frozen=True)
class SystemPredictions:
    """One system's predictions of the held-out tracks.

    Parameters
    ----------
    genre, tags
        Probabilities by the experiment's vocabularies, shape (n_tracks, n_genres) and (n_tracks, n_tags).
    windows_right
        Windows of each track whose own likeliest genre is the true one.
    """

    genre: list[list[float]]
    tags: list[list[float]]
    windows_right: list[int]


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Parameters
    ----------
    tracks, windows
        Ids of the held-out tracks, and held-out windows of each.
    answers
        By head: "" is the system itself, "svm" and "knn" are classifiers on its embeddings.
    facts
        Tracks, groups on both sides, parameters, seconds of training and of answering, …
    curves
        Epochs of each member, as `EpochReport` names their figures; the validation figures are of the
        held-out tracks, and decide nothing.
    """

    key: str
    code: str
    system: str
    protocol: str
    fold: int
    seed: int
    tracks: list[str]
    windows: list[int]
    answers: dict[str, SystemPredictions]
    facts: dict[str, Any]
    curves: list[list[dict[str, Any]]] = field(default_factory=list)
    version: str = __version__

    def to_bytes(self) -> bytes:
        """Return the run's file."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> RunResult:
        """Return what `to_bytes` wrote."""
        values = json_object(data)
        answers = {head: SystemPredictions(**one) for head, one in values.pop("answers").items()}
        return cls(answers=answers, **values)


def plan_runs(experiment: Experiment, material: Material) -> list[ExperimentRun]:
    """Return all runs, a seed and a fold of every system before the next, so that a part of a run is of use.

    Runs of systems that differ by name alone have one key: they are made, and counted, once.

    Raises
    ------
    SplitError
        The tracks cannot be parted as a protocol says: before any work.
    ConfigError
        A system wants statistics that the shards do not hold.
    """
    if any(system.statistics == "shards" for system in experiment.systems):
        read_statistics(material.features_uri, material.catalogue.head(0))
    runs: list[ExperimentRun] = []
    for seed in experiment.seeds:
        for protocol in experiment.protocols:
            for fold in range(len(folds_of(protocol, material, seed))):
                systems = [one for one in experiment.systems if protocol.name in experiment.of(one)]
                runs += [_run(experiment, material, system, protocol, fold, seed) for system in systems]
    return sorted(runs, key=lambda run: (experiment.seeds.index(run.seed), run.fold))


def _run(
    experiment: Experiment,
    material: Material,
    system: SystemSettings,
    protocol: ProtocolSettings,
    fold: int,
    seed: int,
) -> ExperimentRun:
    with_views = system.views != (CLEAN,)
    decides = {
        "data": material.fingerprint,
        "system": system.deciding(),
        "protocol": protocol.deciding(),
        "augment": experiment.augment.model_dump(mode="json") if with_views else None,
        "fold": fold,
        "seed": seed,
        **({"shards": material.shards_fingerprint} if system.statistics == "shards" else {}),
    }
    return ExperimentRun(system, protocol, experiment.augment, fold, seed, fingerprint_of(decides))


@cache
def code_fingerprint() -> str:
    """Return 16 hex digits of the revision of the systems and the versions of the libraries they use."""
    versions = {name: version(name) for name in DECIDING_PACKAGES}
    return fingerprint_of({"systems": SYSTEMS_REVISION, **versions})


def finished_runs(store: Store, runs: Iterable[ExperimentRun], *, any_code: bool) -> dict[str, RunResult]:
    """Return by key the results that are there, made of what the runs are made of.

    Parameters
    ----------
    any_code
        Count those that other versions of the code made, too.
    """
    wanted = {run.key for run in runs}
    found: dict[str, RunResult] = {}
    for info in store.list(f"{FOLDER}/"):
        key = info.key.removesuffix(".json").rpartition(".")[2]
        if key not in wanted:
            continue
        try:
            result = RunResult.from_bytes(store.read_bytes(info.key))
        except (ValueError, TypeError, KeyError):
            log.warning("'%s' is damaged: that run is made anew", store.uri(info.key))
            continue
        if any_code or result.code == code_fingerprint():
            found[key] = result
    return found


@dataclass(frozen=True)
class ExperimentOutcome:
    """An experiment and what there is of it.

    Parameters
    ----------
    results
        By key, those of earlier commands included.
    failures
        Message by key.
    run_now
        Runs that this command made, or tried to.
    """

    experiment: Experiment
    material: Material
    runs: list[ExperimentRun]
    results: dict[str, RunResult]
    failures: dict[str, str]
    run_now: int = 0

    @property
    def planned(self) -> int:
        """Different runs: those of systems that differ by name alone are one."""
        return len({run.key for run in self.runs})


# Predictions pooled over the folds of a seed, and their figures in any resample of the tracks.
#
# A figure of several seeds is the mean of the seeds' own figures: that of one training, not of an ensemble of them.
# All systems are resampled by the same weights, so that differences are paired.


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the tracks of an experiment, by their place in its catalogue, and how they are resampled.

    Parameters
    ----------
    genre
        Genre index, shape (n,); -1 where it is not known.
    tags, tags_known
        Shape (n, n_tags) and (n,).
    weights
        How often each track is drawn, shape (n, samples).
    """

    row_of_track: dict[str, int]
    taxonomy: Taxonomy
    genre: IntArray
    tags: BoolArray
    tags_known: BoolArray
    resampling: Resampling
    weights: WeightArray

    @classmethod
    def of(cls, material: Material, config: EvaluationConfig) -> Truth:
        """Read the labels of the material's catalogue."""
        rows: pl.DataFrame = material.catalogue
        resampling = make_resampling(rows["track_id"].to_list(), rows["group"].to_list(), config)
        return cls(
            row_of_track={track: number for number, track in enumerate(rows["track_id"])},
            taxonomy=material.taxonomy,
            genre=genre_indices(rows["genre"], material.taxonomy.genres),
            tags=tag_vectors(rows["tags"].to_list(), material.taxonomy.tags).astype(bool),
            tags_known=rows["tags_known"].to_numpy().astype(bool),
            resampling=resampling,
            weights=np.concatenate(list(resampling.chunks()), axis=1),
        )


@dataclass(frozen=True, eq=False)
class PooledPredictions:
    """A system's predictions under one protocol with one seed, over the folds that are finished.

    Parameters
    ----------
    rows
        Place of each held-out track, shape (m,), each once.
    genre, tags
        Probabilities, shape (m, n_genres) and (m, n_tags).
    windows, windows_right
        Of each track, shape (m,).
    """

    seed: int
    rows: IntArray
    genre: Float64Array
    tags: Float64Array
    windows: IntArray
    windows_right: IntArray

    @classmethod
    def of(cls, results: Sequence[RunResult], head: str, truth: Truth) -> PooledPredictions:
        """Lay the folds of one seed end to end."""
        n_genres, n_tags = len(truth.taxonomy.genres), len(truth.taxonomy.tags)
        answers = [result.answers[head] for result in results]
        ids = [track for result in results for track in result.tracks]
        return cls(
            seed=results[0].seed,
            rows=np.array([truth.row_of_track[track] for track in ids], dtype=np.int64),
            genre=np.array([row for one in answers for row in one.genre]).reshape(len(ids), n_genres),
            tags=np.array([row for one in answers for row in one.tags]).reshape(len(ids), n_tags),
            windows=np.array([count for result in results for count in result.windows], dtype=np.int64),
            windows_right=np.array([count for one in answers for count in one.windows_right], dtype=np.int64),
        )

    def genre_statistics(self, truth: Truth, weights: WeightArray) -> GenreStatistics:
        """Return the genre figures under each column of `weights`, of all tracks, shape (n, samples)."""
        known, true, predicted = self._known_genres(truth)
        return genre_statistics(true, predicted, len(truth.taxonomy.genres), weights[self.rows[known]])

    def confusion(self, truth: Truth) -> IntArray:
        """Return tracks by true and predicted genre, shape (n_genres, n_genres)."""
        _, true, predicted = self._known_genres(truth)
        return confusion_matrix(true, predicted, len(truth.taxonomy.genres))

    def window_accuracy(self, truth: Truth, weights: WeightArray) -> Float64Array:
        """Return the share of windows right under each column of `weights`, of tracks of known genre."""
        known, _, _ = self._known_genres(truth)
        drawn = weights[self.rows[known]].astype(np.float64)
        return ratio(self.windows_right[known] @ drawn, self.windows[known] @ drawn)

    def _known_genres(self, truth: Truth) -> tuple[IntArray, IntArray, IntArray]:
        """Return the places of tracks whose genre is known, their genres and the predicted ones."""
        true = truth.genre[self.rows]
        known = np.flatnonzero(true >= 0)
        return known, true[known], self.genre[known].argmax(axis=1)

    def tag_figures(self, truth: Truth, weights: WeightArray) -> RankingFigures:
        """Return the figures of each tag, shape (n_tags, samples); NaN for one that no track has, or every one."""
        known = np.flatnonzero(truth.tags_known[self.rows])
        rows = self.rows[known]
        return tag_ranking_figures(rank_tags(self.tags[known], truth.tags[rows]), weights[rows])
