"""An experiment's cells as Ray tasks side by side. What is in a cell knows nothing of Ray (`mgc.studies`)."""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import ray
import torch

from mgc.cluster.runtime import RaySession, ray_session
from mgc.config import ClusterConfig
from mgc.errors import MgcError, StorageError, TrainingError
from mgc.storage.store import Store
from mgc.studies.runs import Cell, CellResult, finished_cells, plan_cells
from mgc.studies.study_data import Material, read_material
from mgc.studies.study_settings import DataSettings, Experiment
from mgc.studies.systems import run_cell

# How long what is left of an experiment is likely to take, by what its cells have taken so far.


class CellTimeEstimator:
    """Seconds of cells by system, and a forecast from them.

    Parameters
    ----------
    slots
        Cells that run side by side.
    """

    def __init__(self, slots: int) -> None:
        self._slots = max(1, slots)
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def record(self, system: str, seconds: float) -> None:
        """Take in a finished cell."""
        self._seconds[system].append(seconds)

    def seconds_left(self, waiting: Iterable[Cell], running: Iterable[tuple[Cell, float]]) -> float | None:
        """Return the likely time to the end; None before any cell is finished.

        A system none of whose cells is finished yet counts as the mean of those that are.

        Parameters
        ----------
        running
            Cells at work and the share of each that is done.
        """
        everything = [seconds for some in self._seconds.values() for seconds in some]
        if not everything:
            return None
        usual = sum(everything) / len(everything)

        def expected(cell: Cell) -> float:
            own = self._seconds.get(cell.system.name)
            return sum(own) / len(own) if own else usual

        at_work = list(running)
        left = [(1.0 - min(1.0, share)) * expected(cell) for cell, share in at_work]
        work = sum(map(expected, waiting)) + sum(left)
        # One long cell at the end keeps its slot, however idle the others are.
        return max(work / self._slots, max(left, default=0.0))


logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
REPORT_SECONDS = 2.0
RUNNING = "running"
"""Folder in the output where cells at work write how far they are."""


@dataclass(frozen=True)
class RunSettings:
    """How the cells of an experiment are run.

    Parameters
    ----------
    threads
        torch threads of a cell, and CPUs it takes.
    gpu_share
        Of a GPU that a cell takes, where the cluster has GPUs; 0: never.
    any_code
        Count cells as finished that other versions of the code made.
    here
        One cell after the other in this process, without Ray.
    """

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    threads: int = 1
    gpu_share: float = 0.25
    any_code: bool = False
    here: bool = False


@dataclass(frozen=True)
class Step:
    """How far a run is.

    Parameters
    ----------
    finished, failed, total
        Cells; those that an earlier run finished are in none of them.
    running
        Labels of the cells at work, with epochs done and in all (0, 0: not known).
    seconds_left
        Likely time to the end; None where nothing is finished yet.
    """

    finished: int
    failed: int
    total: int
    running: tuple[tuple[str, int, int], ...]
    seconds_left: float | None


@dataclass(frozen=True)
class ExperimentOutcome:
    """What a run gave.

    Parameters
    ----------
    results
        By key, those of earlier runs included.
    failures
        Message by key.
    """

    cells: list[Cell]
    material: Material
    results: dict[str, CellResult]
    failures: dict[str, str]
    run_now: int


def run_experiment(
    experiment: Experiment,
    output_uri: str,
    settings: RunSettings,
    on_plan: Callable[[int, int, int], None] = lambda total, finished, todo: None,
    on_step: Callable[[Step], None] = lambda step: None,
    *,
    run: bool = True,
) -> ExperimentOutcome:
    """Run the cells that are not finished, each written as it ends; a run that was killed goes on.

    Parameters
    ----------
    on_plan
        Told cells in all, finished ones, and those to run now.
    run
        False: only read what is there.

    Raises
    ------
    SplitError, SchemaError, ConfigError, StorageError
        Before Ray starts where the data cannot be read or parted, or the output not written.
    """
    experiment = _absolute(experiment)
    store = Store.open(output_uri)
    store.check_writable()
    material = read_material(experiment.data)
    cells = plan_cells(experiment, material)
    results = finished_cells(store, cells, any_code=settings.any_code)
    todo = [cell for cell in cells if cell.key not in results] if run else []
    on_plan(len(cells), len(results), len(todo))
    if not todo:
        return ExperimentOutcome(cells, material, results, {}, 0)
    if settings.here:
        context = _TaskContext(experiment.data, material.fingerprint, store.uri(), settings.threads, "cpu")
        failures = _run_here(context, material, todo, results, on_step)
    else:
        with ray_session(settings.cluster) as session:
            pool = _TaskPool(session, settings, experiment.data, material.fingerprint, store.uri())
            failures = pool.run(todo, results, on_step)
        store.delete_tree(RUNNING)
    return ExperimentOutcome(cells, material, results, failures, len(todo))


def _absolute(experiment: Experiment) -> Experiment:
    """Return the experiment with absolute places: workers may have another working directory."""
    names = ("catalogue", "features")
    given = {name: getattr(experiment.data, name) for name in names}
    places = {name: Store.open(uri).uri() for name, uri in given.items() if uri is not None}
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=places)})


def _run_here(
    context: _TaskContext,
    material: Material,
    todo: list[Cell],
    results: dict[str, CellResult],
    on_step: Callable[[Step], None],
) -> dict[str, str]:
    """Run cells one after the other, put what they gave into `results`, return the messages of those that failed."""
    failures: dict[str, str] = {}
    pace = _pace(1, results)
    torch.set_num_threads(context.threads)  # as in a task: sums in the same order

    def report_progress(number: int, at_work: list[tuple[Cell, int, int]]) -> None:
        finished = number - len(failures)
        waiting = todo[number + len(at_work) :]
        on_step(_step_of(finished, len(failures), len(todo), waiting, at_work, pace))

    for number, cell in enumerate(todo):
        report_progress(number, [(cell, 0, 0)])

        def on_epoch(done: int, total: int, number: int = number, cell: Cell = cell) -> None:
            report_progress(number, [(cell, done, total)])

        message = _run_and_write(context, cell, material, on_epoch)
        _record(cell, message, Store.open(context.output_uri), results, failures, pace)
    report_progress(len(todo), [])
    return failures


def _pace(slots: int, results: dict[str, CellResult]) -> CellTimeEstimator:
    pace = CellTimeEstimator(slots)
    for result in results.values():
        pace.record(result.system, result.facts["seconds"])
    return pace


def _step_of(
    finished: int,
    failed: int,
    total: int,
    waiting: list[Cell],
    at_work: list[tuple[Cell, int, int]],
    pace: CellTimeEstimator,
) -> Step:
    shares = [(cell, done / epochs if epochs else 0.0) for cell, done, epochs in at_work]
    running = tuple((cell.label, done, epochs) for cell, done, epochs in at_work)
    return Step(finished, failed, total, running, pace.seconds_left(waiting, shares))


def _record(
    cell: Cell,
    message: str | None,
    store: Store,
    results: dict[str, CellResult],
    failures: dict[str, str],
    pace: CellTimeEstimator,
) -> None:
    """Put a cell that ended among the results, or among the failures."""
    if message is not None:
        failures[cell.key] = message
        return
    results[cell.key] = CellResult.from_bytes(store.read_bytes(cell.file))
    pace.record(cell.system.name, results[cell.key].facts["seconds"])


class _TaskPool:
    """The tasks of one run: hands out cells, looks how far they are, takes in what they gave."""

    def __init__(
        self, session: RaySession, settings: RunSettings, data: DataSettings, fingerprint: str, output_uri: str
    ) -> None:
        gpus = min(1.0, settings.gpu_share) if session.n_gpus else 0.0
        by_gpu = int(session.n_gpus / gpus) if gpus else session.n_cpus
        self.slots = max(1, min(session.n_cpus // settings.threads, by_gpu))
        self._task = ray.remote(_run_in_task).options(num_cpus=settings.threads, num_gpus=gpus)
        self._context = _TaskContext(data, fingerprint, output_uri, settings.threads, "cuda" if gpus else "cpu")
        self._store = Store.open(output_uri)

    def run(
        self, todo: list[Cell], results: dict[str, CellResult], on_step: Callable[[Step], None]
    ) -> dict[str, str]:
        """Run cells, put what they gave into `results`, and return the messages of those that failed."""
        failures: dict[str, str] = {}
        pace = _pace(self.slots, results)
        waiting = list(todo)
        at_work: dict[Any, Cell] = {}
        while waiting or at_work:
            while waiting and len(at_work) < self.slots:
                cell = waiting.pop(0)
                at_work[self._task.remote(self._context, cell)] = cell
            done, _ = ray.wait(list(at_work), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                _record(at_work.pop(reference), _message(reference), self._store, results, failures, pace)
            finished = len(todo) - len(waiting) - len(at_work) - len(failures)
            running = [(cell, *self._epochs(cell)) for cell in at_work.values()]
            on_step(_step_of(finished, len(failures), len(todo), waiting, running, pace))
        return failures

    def _epochs(self, cell: Cell) -> tuple[int, int]:
        """Return epochs done and in all, as the cell last wrote; (0, 0) where it has not."""
        try:
            done, total = json.loads(self._store.read_bytes(f"{RUNNING}/{cell.key}.json"))
        except (StorageError, ValueError):
            return 0, 0
        return int(done), int(total)


def _message(reference: Any) -> str | None:
    """Return why a task failed, None where it did not."""
    try:
        message: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        return str(error).strip().splitlines()[-1]
    return message


@dataclass(frozen=True)
class _TaskContext:
    """What all tasks of a run have in common."""

    data: DataSettings
    fingerprint: str
    output_uri: str
    threads: int
    device: str


def _run_in_task(context: _TaskContext, cell: Cell) -> str | None:
    """Run a cell and write its file; return None, or why it could not be run."""
    torch.set_num_threads(context.threads)
    try:
        material = _material(context.data)
        if material.fingerprint != context.fingerprint:
            raise TrainingError("the data changed while the experiment ran", "start it again")
    except MgcError as error:
        return str(error)
    return _run_and_write(context, cell, material, _ProgressWriter(context.output_uri, cell.key))


def _run_and_write(
    context: _TaskContext, cell: Cell, material: Material, on_epoch: Callable[[int, int], None]
) -> str | None:
    started = time.perf_counter()
    try:
        result = run_cell(cell, material, on_epoch, context.device)
    except MgcError as error:
        return str(error)
    facts = {**result.facts, "seconds": time.perf_counter() - started}
    Store.open(context.output_uri).write_atomic(cell.file, replace(result, facts=facts).to_bytes())
    return None


@lru_cache(maxsize=1)
def _material(data: DataSettings) -> Material:
    """Return the material, read once by each worker process."""
    return read_material(data)


class _ProgressWriter:
    """Writes how far a cell is, now and then, for the driver to read."""

    def __init__(self, output_uri: str, key: str) -> None:
        self._store = Store.open(output_uri)
        self._key = f"{RUNNING}/{key}.json"
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Take in an epoch."""
        if time.perf_counter() - self._last < REPORT_SECONDS:
            return
        self._last = time.perf_counter()
        self._store.write_atomic(self._key, json.dumps([done, total]).encode())
