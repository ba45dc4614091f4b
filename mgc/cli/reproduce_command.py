"""`mgc reproduce`: the systems of an experiment file under its protocols, run by run, and one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import AddressOption, console
from mgc.cli.terminal import counted, facts, run_summary, watched
from mgc.cluster.experiment import RunSettings, Step, run_experiment
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, ClusterConfig, Config
from mgc.demo.compose import compose_catalogue
from mgc.errors import ConfigError
from mgc.storage.store import Store
from mgc.studies.experiment_report import PAGE_FILE, headline_system, verdict, write_report
from mgc.studies.experiment_settings import Experiment, load_experiment
from mgc.studies.runs import ExperimentOutcome
from mgc.studies.summary import Summary

# Progress of an experiment: a live line in a terminal, plain lines elsewhere.

LINE_EVERY_SECONDS = 20.0


class RunMeter:
    """Shows runs done, runs a minute, the likely time left, and how far those at work are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        self._started = self._last_line = time.perf_counter()
        self._ended = 0

    @contextmanager
    def shown(self) -> Iterator[RunMeter]:
        """Show progress while the block runs."""
        try:
            yield self
        finally:
            if self._live:
                self._live.stop()
                self._live = None

    def planned(self, total: int, finished: int, todo: int) -> None:
        """Take in how many runs there are, and how many are to be run."""
        done = f", {finished:,} of them finished before" if finished else ""
        self._console.print(f"[bold]experiment[/] {counted(total, 'run')}{done}", soft_wrap=True)
        self._started = self._last_line = time.perf_counter()
        if not todo or not self._console.is_terminal:
            return
        columns = (SpinnerColumn(), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = Progress(*columns, console=self._console, transient=True)
        self._live.add_task("starting", total=todo)
        self._live.start()

    def step(self, step: Step) -> None:
        """Take in how far the run is."""
        ended = step.finished + step.failed
        if self._live:
            self._live.update(
                self._live.task_ids[0], completed=ended, description=escape(", ".join(self._words(step)))
            )
            return
        due = time.perf_counter() - self._last_line >= LINE_EVERY_SECONDS
        if due or (ended == step.total and ended != self._ended):
            self._last_line = time.perf_counter()
            self._console.print(
                escape(f"runs: {ended:,}/{step.total:,}, {', '.join(self._words(step))}"), soft_wrap=True
            )
        self._ended = ended

    def _words(self, step: Step) -> list[str]:
        words = [f"{step.failed:,} failed"] if step.failed else []
        ended, minutes = step.finished + step.failed, (time.perf_counter() - self._started) / 60
        if ended:
            words.append(f"{ended / minutes:.1f} runs/min")
        if step.seconds_left is not None and step.running:
            hours, rest = divmod(round(step.seconds_left), 3_600)
            words.append(f"about {hours}:{rest // 60:02d}:{rest % 60:02d} left")
        words += [label + (f" (epoch {done}/{total})" if total else "") for label, done, total in step.running[:2]]
        return words or ["done"]


FAILED_STATUS = 1


def reproduce(
    experiment: Annotated[str, typer.Argument(help="TOML file: data, protocols, systems, seeds (docs/reproduce.md)")],
    output: Annotated[str, typer.Option("--output", "-o", help="where runs, tables and the page go")],
    catalogue: Annotated[str | None, typer.Option(help="catalogue.parquet, instead of the file's")] = None,
    features: Annotated[
        str | None, typer.Option("--features", "-f", help="its shards, instead of the file's")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPUs and torch threads of a run", min=1)] = 1,
    gpu_share: Annotated[float, typer.Option(help="of a GPU that a run takes; 0: never", min=0.0, max=1.0)] = 0.25,
    here: Annotated[bool, typer.Option("--here", help="one run after the other, without Ray")] = False,
    any_code: Annotated[bool, typer.Option("--any-code", help="keep runs that other versions of mgc made")] = False,
    page_only: Annotated[bool, typer.Option("--page-only", help="run nothing: the page of what is finished")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="e.g. --set training.epochs=5; may be given again", metavar="KEY=VALUE"),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Run the literature's systems, and yours, side by side under every protocol; a killed run goes on."""
    screen = console()
    chosen = _with_data(screen, load_experiment(experiment, set_), catalogue, features, output, address)
    settings = RunSettings(ClusterConfig(address=address), threads, gpu_share, any_code, here)
    meter = RunMeter(screen)
    with meter.shown():
        outcome = run_experiment(chosen, output, settings, meter.planned, meter.step, execute=not page_only)
    if not outcome.results:
        _show_failures(screen, outcome)
        raise ConfigError(
            f"no run of '{experiment}' is finished: there is nothing to show", "run it without --page-only"
        )
    summary = write_report(outcome, output)
    _show(screen, outcome, summary, output)
    if outcome.failures:
        raise typer.Exit(FAILED_STATUS)


def _with_data(
    screen: Console,
    experiment: Experiment,
    catalogue: str | None,
    features: str | None,
    output: str,
    address: str | None,
) -> Experiment:
    """Return the experiment with its data: as given, as its file says, or the clips of the demo."""
    if (catalogue is None) != (features is None):
        raise ConfigError("--catalogue and --features belong together", "give both, or neither")
    given = {"catalogue": catalogue, "features": features} if catalogue else {}
    data = experiment.data.model_copy(update=given)
    if data.demo and data.catalogue is None and data.features is None:
        data = data.model_copy(update=_demo_data(screen, experiment, output, address))
    return experiment.model_copy(update={"data": data})


def _demo_data(screen: Console, experiment: Experiment, output: str, address: str | None) -> dict[str, str]:
    """Compose, index and extract the clips of the demo below the output, or find them there."""
    if "://" in output:
        raise ConfigError(f"the demo's clips need a folder, and '{output}' is none", "give -o a folder")
    place = Path(output) / "data"
    made = compose_catalogue(place / "music", damaged=False)
    screen.print(
        f"[bold]music[/] {len(made.clips)} synthetic clips {'composed' if made.composed else 'found'} in "
        f"{escape(str(made.folder))}: figures on them say nothing about real music",
        soft_wrap=True,
    )
    catalogue, features = str(place / "catalogue.parquet"), str(place / "features")
    index_catalogue(str(made.folder), catalogue, CatalogueConfig(manifest=str(made.manifest), valid_fraction=0.34))
    splits = experiment.augment.model_copy(update={"splits": ("train", "valid", "test")})
    config = Config(features=experiment.features, augment=splits, cluster=ClusterConfig(address=address))
    with watched(screen, "extracting") as watch:
        options = RunOptions(on_plan=watch.show_plan, on_progress=watch.advance)
        extracted = extract_features(read_catalogue(catalogue), features, config, options)
    run_summary(screen, "Extraction", extracted, features)
    return {"catalogue": catalogue, "features": features}


def _show(screen: Console, outcome: ExperimentOutcome, summary: Summary, output: str) -> None:
    _show_failures(screen, outcome)
    names = [one.name for one in summary.experiment.protocols if summary.under(one.name)]
    widest = max(map(len, [*summary.systems, "accuracy"]))
    screen.print(
        "  ".join(["accuracy".ljust(widest), *(name.rjust(24) for name in names)]), style="bold", soft_wrap=True
    )
    for system in summary.systems:
        row = [_accuracy(summary, system, name).rjust(24) for name in names]
        screen.print("  ".join([system.ljust(widest), *row]), markup=False, soft_wrap=True)
    rows = {"runs": f"{len(outcome.results):,} of {len(outcome.runs):,} finished, {outcome.run_now:,} run now"}
    if split_verdict := verdict(summary):
        rows[f"what the split is worth to {headline_system(summary)}"] = split_verdict
    rows["report"] = Store.open(output).uri(PAGE_FILE)
    facts(screen, summary.experiment.name, rows)


def _accuracy(summary: Summary, system: str, protocol: str) -> str:
    result = summary.of(system, protocol)
    if result is None or result.accuracy.value is None:
        return "–"
    figure = result.accuracy
    ends = "" if figure.low is None or figure.high is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{ends}"


def _show_failures(screen: Console, outcome: ExperimentOutcome) -> None:
    labels = {run.key: run.label for run in outcome.runs}
    for key, message in outcome.failures.items():
        screen.print(f"[red]failed[/] {escape(labels[key])}: {escape(message)}", soft_wrap=True)
    if outcome.failures:
        screen.print(
            f"{counted(len(outcome.failures), 'run')} failed; the same command tries them again", style="dim"
        )
