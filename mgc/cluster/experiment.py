"""An experiment's runs side by side, as trials of Ray Tune. What is in a run knows nothing of Ray (`mgc.studies`)."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import torch
from ray import tune

from mgc.cluster.runtime import RaySession, absolute_uris, on_every_node, ray_session
from mgc.cluster.tune import run_trials
from mgc.config import ClusterConfig
from mgc.errors import MgcError, TrainingError
from mgc.storage.store import Store
from mgc.studies.experiment_data import Material, read_material
from mgc.studies.experiment_settings import DataSettings, Experiment
from mgc.studies.runs import ExperimentOutcome, ExperimentRun, RunResult, finished_runs, plan_runs
from mgc.studies.systems import run_system
from mgc.tables.feature_cache import clear_feature_cache

TUNE_FOLDER = "tune"
"""In the output, while runs are made: Tune's own files, of no use afterwards."""
MAX_FAILURES = 2
"""Times that a run is begun again whose process died."""
OnPlan = Callable[[int, int, int], None]
"""Called with the number of runs, of finished ones, and of those to be made now."""


@dataclass(frozen=True)
class RunSettings:
    """How the runs of an experiment are made.

    Parameters
    ----------
    threads
        torch threads of a run, and CPUs it takes.
    gpu_share
        Of a GPU that a run takes, where the cluster has GPUs; 0: never.
    any_code
        Count runs as finished that other versions of the code made.
    here
        One run after the other in this process, without Ray.
    """

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    threads: int = 1
    gpu_share: float = 0.25
    any_code: bool = False
    here: bool = False


@dataclass(frozen=True)
class Step:
    """How far an experiment is.

    Parameters
    ----------
    finished, failed, total
        Runs; those that an earlier command finished are in none of them.
    running
        Labels of the runs at work, with epochs done and in all (0, 0: not known).
    seconds_left
        Likely time to the end, at least and at most; infinite where it is not known yet.
    """

    finished: int
    failed: int
    total: int
    running: tuple[tuple[str, int, int], ...]
    seconds_left: tuple[float, float]


OnStep = Callable[[Step], None]


def run_experiment(
    experiment: Experiment,
    output_uri: str,
    settings: RunSettings,
    on_plan: OnPlan = lambda total, finished, todo: None,
    on_step: OnStep = lambda step: None,
    *,
    execute: bool = True,
) -> ExperimentOutcome:
    """Make the runs that are not finished, each written as it ends; the same command resumes a killed one.

    Parameters
    ----------
    execute
        False: only read what is there.

    Raises
    ------
    SplitError, SchemaError, ConfigError, StorageError
        Before Ray starts where the data cannot be read or parted, or the output not written.
    """
    absolute = experiment.data.model_copy(update=absolute_uris(experiment.data, "catalogue", "features"))
    experiment = experiment.model_copy(update={"data": absolute})
    store = Store.open(output_uri)
    store.check_writable()
    material = read_material(experiment.data)
    runs = plan_runs(experiment, material)
    results = finished_runs(store, runs, any_code=settings.any_code)
    distinct = list({run.key: run for run in reversed(runs)}.values())[::-1]
    todo = [run for run in distinct if run.key not in results] if execute else []
    on_plan(len(distinct), len(results), len(todo))
    progress = RunProgress(todo, results.values(), on_step)
    if todo:
        setup = _Setup(tuple(todo), experiment.data, material.fingerprint, store.uri(), settings.threads)
        if settings.here:
            _run_here(setup, material, progress)
            clear_feature_cache(material.features_uri)
        else:
            with ray_session(settings.cluster) as session:
                _run_on_ray(setup, settings, session, progress)
                on_every_node(clear_feature_cache, material.features_uri, session)
        results |= finished_runs(store, todo, any_code=False)
    return ExperimentOutcome(experiment, material, runs, results, progress.failures, len(todo))


@dataclass(frozen=True)
class _Setup:
    """All that the runs share; plain values, so that it can travel."""

    runs: tuple[ExperimentRun, ...]
    data: DataSettings
    fingerprint: str
    output_uri: str
    threads: int
    device: str = "cpu"


def _run_here(setup: _Setup, material: Material, progress: RunProgress) -> None:
    torch.set_num_threads(setup.threads)  # as in a trial: sums in the same order
    for number, run in enumerate(setup.runs):
        _make_and_write(setup, run, material, partial(progress.update, number))


def _run_on_ray(setup: _Setup, settings: RunSettings, session: RaySession, progress: RunProgress) -> None:
    gpu = min(1.0, settings.gpu_share) if session.n_gpus else 0.0
    worker = {"CPU": float(setup.threads), "GPU": gpu}
    session.require_placement(worker, 1, "a run of the experiment")
    progress.slots = max(1, session.n_placed(worker))
    setup = replace(setup, device="cuda" if gpu else "cpu")
    store = Store.open(setup.output_uri)
    # What a killed command left: runs are resumed by their files, not by Tune.
    store.delete_tree(TUNE_FOLDER)
    ended = run_trials(
        tune.with_parameters(_run_trial, setup=setup),
        len(setup.runs),
        {"cpu": setup.threads, "gpu": gpu},
        store.uri(TUNE_FOLDER),
        tune.TuneConfig(reuse_actors=True),  # a process reads the data and imports torch once
        MAX_FAILURES,
        progress.update,
    )
    for trial in ended:
        if trial.failed:
            progress.failures[setup.runs[trial.number].key] = trial.failed
    store.delete_tree(TUNE_FOLDER)


def _run_trial(chosen: dict[str, Any], setup: _Setup) -> None:
    torch.set_num_threads(setup.threads)
    try:
        material = _material(setup.data)
        if material.fingerprint != setup.fingerprint:
            raise TrainingError("the data changed while the experiment ran", "start it again")
    except MgcError as error:
        tune.report({"failed": str(error)})
        return
    _make_and_write(setup, setup.runs[chosen["number"]], material, tune.report)


@lru_cache(maxsize=1)
def _material(data: DataSettings) -> Material:
    """Return the material, read once by each worker process."""
    return read_material(data)


def _make_and_write(
    setup: _Setup, run: ExperimentRun, material: Material, report: Callable[[dict[str, Any]], None]
) -> None:
    """Make a run and write its file, reporting its epochs and how it ended; a fault of its own stops no other."""
    report({"epoch": 0, "epochs": 0})
    started = time.perf_counter()
    try:
        result = run_system(run, material, lambda done, total: report({"epoch": done, "epochs": total}), setup.device)
    except MgcError as error:
        report({"failed": str(error)})
        return
    seconds = time.perf_counter() - started
    timed = replace(result, facts={**result.facts, "seconds": seconds})
    Store.open(setup.output_uri).write_atomic(run.file, timed.to_bytes())
    report({"seconds": seconds})


class RunProgress:
    """Which runs are at work, have ended and failed, and a forecast of the rest by what runs of their kind took.

    Parameters
    ----------
    todo
        Runs to be made.
    earlier
        Results of runs made before.

    Attributes
    ----------
    slots
        Runs that are made side by side.
    failures
        Message by key.
    """

    def __init__(self, todo: list[ExperimentRun], earlier: Iterable[RunResult], on_step: OnStep) -> None:
        self.slots = 1
        self.failures: dict[str, str] = {}
        self._todo = todo
        self._waiting = dict(enumerate(todo))
        self._epochs: dict[int, tuple[int, int]] = {}
        self._begun_at: dict[int, float] = {}
        self._on_step = on_step
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._systems = {run.system.name: run.system for run in todo}
        for result in earlier:
            self._seconds[result.system].append(result.facts["seconds"])

    def update(self, number: int, reported: dict[str, Any]) -> None:
        """Take in what a run reports: its epochs, `seconds` at its end, or why it `failed`."""
        run = self._todo[number]
        self._waiting.pop(number, None)
        if reported.get("failed"):
            self.failures[run.key] = reported["failed"]
            self._epochs.pop(number, None)
        elif "seconds" in reported:
            self._seconds[run.system.name].append(reported["seconds"])
            self._epochs.pop(number, None)
        else:
            self._epochs[number] = (reported["epoch"], reported["epochs"])
            self._begun_at.setdefault(number, time.perf_counter())
        ended = len(self._todo) - len(self._waiting) - len(self._epochs)
        running = tuple((self._todo[number].label, *epochs) for number, epochs in self._epochs.items())
        failed = len(self.failures)
        self._on_step(Step(ended - failed, failed, len(self._todo), running, self._seconds_left()))

    def _seconds_left(self) -> tuple[float, float]:
        """Return the time to the end, at least and at most."""
        known = self._known_seconds()
        left = [_left(self._expected(self._todo[number], known), *epochs) for number, epochs in self._epochs.items()]
        waiting = [self._expected(run, known) for run in self._waiting.values()]
        # One long run at the end keeps its slot, however idle the others are.
        least, most = (
            max(sum(one[end] for one in [*waiting, *left]) / self.slots, max((one[end] for one in left), default=0.0))
            for end in (0, 1)
        )
        return least, most

    def _known_seconds(self) -> dict[str, float]:
        """Return what a run of each system takes: the mean of finished ones, else by the epochs of one at work."""
        now = time.perf_counter()
        at_work = {
            self._todo[number].system.name: (now - self._begun_at[number]) * total / done
            for number, (done, total) in self._epochs.items()
            if done
        }
        return at_work | {name: sum(some) / len(some) for name, some in self._seconds.items()}

    def _expected(self, run: ExperimentRun, known: dict[str, float]) -> tuple[float, float]:
        """Return what a run takes: as its system's others; else between what an epoch of other networks costs."""
        if run.system.name in known:
            return known[run.system.name], known[run.system.name]
        alike = [
            seconds / self._systems[name].epochs * run.system.epochs
            for name, seconds in known.items()
            if name in self._systems and self._systems[name].kind == run.system.kind
        ]
        return (min(alike), max(alike)) if alike else (0.0, math.inf)


def _left(whole: tuple[float, float], done: int, total: int) -> tuple[float, float]:
    """Return what is left of a run after some of its epochs."""
    part = 1.0 - done / total if total else 1.0
    return part * whole[0], part * whole[1] if part else 0.0
