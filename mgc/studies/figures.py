"""The figures of an experiment: systems under protocols, their tags, and what each change gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mgc.arrays import Float64Array, IntArray
from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.tag_metrics import CategoryFigures, TagFigures
from mgc.studies.study_settings import Experiment


@dataclass(frozen=True)
class TagResults:
    """Tags under one protocol: macro means, by category, and each."""

    tracks: int
    roc_auc: Figure
    pr_auc: Figure
    mean_base_rate: float
    tags: tuple[TagFigures, ...]
    categories: tuple[CategoryFigures, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """A system under a protocol.

    Parameters
    ----------
    system, protocol
        Names; a head on embeddings is a system of its own.
    entry
        The system of the experiment file that it is of.
    cells, planned
        Finished cells, and those there will be.
    tracks
        Different tracks asked about.
    accuracy, macro_f1
        Of tracks; mean over seeds, intervals over tracks.
    window_accuracy
        Of single windows (or segments).
    recall
        Accuracy on the tracks of each genre.
    seed_spread
        Standard deviation of the accuracy between seeds; None for one seed.
    peeked
        Accuracy had each network been kept at the epoch that does best on the very tracks asked about.
    confusion
        Tracks, summed over seeds.
    parameters, train_seconds, answer_xrealtime
        Mean over cells; None where it was not measured.
    tracks_across, groups_across
        Tracks and groups (artists) that stand on both sides, mean over cells.
    curves
        Epochs of each network of each cell.
    replicates
        The accuracy in each resample.
    """

    system: str
    entry: str
    protocol: str
    cells: int
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
    train_tracks: float
    tracks_across: float
    groups_across: float
    curves: list[list[dict[str, Any]]]
    replicates: Float64Array
    tags: TagResults | None = None


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
