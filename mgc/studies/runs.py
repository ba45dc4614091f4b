"""The cells of an experiment: each a (system, protocol, fold, seed), with a key of all that decides its answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from mgc import __version__
from mgc.config import AugmentConfig, fingerprint_of
from mgc.config.view_settings import CLEAN
from mgc.storage.store import Store
from mgc.studies.study_data import Material, folds_of
from mgc.studies.study_settings import Experiment, ProtocolSettings, SystemSettings

FOLDER = "cells"
DIGITS = 5
"""Decimal places of a probability in a cell's file."""

MADE_BY = (
    "models", "training", "audio/features", "evaluation/protocols.py", "evaluation/baselines.py", "evaluation/baselines.py",
    "studies/study_data.py", "studies/run.py", "studies/systems.py", "studies/classical.py",
)  # fmt: skip
"""The sources that decide a cell's answers."""


@dataclass(frozen=True)
class Cell:
    """What is to be run.

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
        words = f"{self.system.name}.{self.protocol.name}.fold{self.fold}.seed{self.seed}"
        return f"{FOLDER}/{re.sub(r'[^a-z0-9.]+', '-', words.lower())}.{self.key}.json"


@dataclass(frozen=True)
class SystemPredictions:
    """What one system said of the tracks it was asked about.

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
class CellResult:
    """What a cell gave.

    Parameters
    ----------
    tracks, windows
        Ids of the tracks asked about, and windows of each that were.
    answers
        By head: "" is the system itself, "svm" and "knn" are classifiers on its embeddings.
    facts
        Tracks, groups on both sides, parameters, seconds of training and of answering, …
    curves
        Epochs of each member, as `EpochReport` names their figures; the validation figures are of the tracks
        asked about, and decide nothing.
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
        """Return the cell's file."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> CellResult:
        """Return what `to_bytes` wrote."""
        values = json.loads(data)
        answers = {head: SystemPredictions(**one) for head, one in values.pop("answers").items()}
        return cls(answers=answers, **values)


def plan_cells(experiment: Experiment, material: Material) -> list[Cell]:
    """Return all cells, a seed and a fold of every system before the next, so that a part of a run is of use.

    Raises
    ------
    SplitError
        The tracks cannot be parted as a protocol says: before any work.
    """
    cells: list[Cell] = []
    for seed in experiment.seeds:
        for protocol in experiment.protocols:
            for fold in range(len(folds_of(protocol, material, seed))):
                systems = [one for one in experiment.systems if protocol.name in experiment.of(one)]
                cells += [_cell(experiment, material, system, protocol, fold, seed) for system in systems]
    return sorted(cells, key=lambda cell: (experiment.seeds.index(cell.seed), cell.fold))


def _cell(
    experiment: Experiment,
    material: Material,
    system: SystemSettings,
    protocol: ProtocolSettings,
    fold: int,
    seed: int,
) -> Cell:
    with_views = system.kind == "network" and system.views != (CLEAN,)
    decides = {
        "data": material.fingerprint,
        "system": system.deciding(),
        "protocol": protocol.deciding(),
        "augment": experiment.augment.model_dump(mode="json") if with_views else None,
        "fold": fold,
        "seed": seed,
    }
    return Cell(system, protocol, experiment.augment, fold, seed, fingerprint_of(decides))


@cache
def code_fingerprint() -> str:
    """Return 16 hex digits of the sources that decide a cell's answers."""
    root = files("mgc")
    digest = hashlib.sha256()
    for name in MADE_BY:
        place = root.joinpath(name)
        sources = sorted(_sources(place), key=str) if place.is_dir() else [place]
        for source in sources:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Any) -> Iterable[Any]:
    for one in folder.iterdir():
        if one.is_dir() and one.name != "__pycache__":
            yield from _sources(one)
        elif one.name.endswith(".py"):
            yield one


def finished_cells(store: Store, cells: Iterable[Cell], *, any_code: bool) -> dict[str, CellResult]:
    """Return by key the results that are there, made of what the cells are made of.

    Parameters
    ----------
    any_code
        Count those that other versions of the code made, too.
    """
    wanted = {cell.key for cell in cells}
    found: dict[str, CellResult] = {}
    for info in store.list(f"{FOLDER}/"):
        key = info.key.removesuffix(".json").rpartition(".")[2]
        if key not in wanted:
            continue
        result = CellResult.from_bytes(store.read_bytes(info.key))
        if any_code or result.code == code_fingerprint():
            found[key] = result
    return found


def rounded_rows(values: Any) -> list[list[float]]:
    """Return a matrix of probabilities as lists, rounded for a file."""
    return [[round(float(value), DIGITS) for value in row] for row in values]


def facts_of(results: Mapping[str, CellResult], name: str) -> list[float]:
    """Return a fact of all results that have it."""
    return [float(result.facts[name]) for result in results.values() if result.facts.get(name) is not None]
