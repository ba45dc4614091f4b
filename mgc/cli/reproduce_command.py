"""`mgc reproduce`: the systems of an experiment file under its protocols, run by run, and one page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mgc.catalogue.index import index_catalogue, read_catalogue
from mgc.cli.app import AddressOption, console, plain
from mgc.cli.terminal import announce, counted, facts, run_summary, watched
from mgc.cluster.experiment import RunSettings, Step, run_experiment
from mgc.cluster.extract import extract_features
from mgc.cluster.progress import Meter
from mgc.cluster.run import RunOptions
from mgc.config import CatalogueConfig, ClusterConfig, Config
from mgc.demo.compose import compose_catalogue
from mgc.errors import ConfigError
from mgc.storage.store import Store
from mgc.studies.experiment_report import PAGE_FILE, headline_system, verdict, write_report
from mgc.studies.experiment_settings import Experiment, load_experiment
from mgc.studies.runs import ExperimentOutcome
from mgc.studies.summary import Summary

FAILED_STATUS = 1
RUNS_SHOWN = 2
"""Runs at work that the progress line names."""


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
    outcome = _run_watched(screen, chosen, output, settings, execute=not page_only)
    if not outcome.results:
        _show_failures(screen, outcome)
        raise ConfigError(
            f"no run of '{experiment}' is finished: there is nothing to show", "run it without --page-only"
        )
    summary = write_report(outcome, output)
    _show(screen, outcome, summary, output)
    if outcome.failures:
        raise typer.Exit(FAILED_STATUS)


def _run_watched(
    screen: Console, experiment: Experiment, output: str, settings: RunSettings, *, execute: bool
) -> ExperimentOutcome:
    """Run the experiment, with its runs on one meter that opens once their number is known."""
    with ExitStack() as stack:
        meter: Meter | None = None

        def on_plan(total: int, finished: int, todo: int) -> None:
            nonlocal meter
            done = f", {finished:,} of them finished before" if finished else ""
            announce(screen, "experiment", f"{counted(total, 'run')}{done}")
            if todo:
                meter = stack.enter_context(Meter(screen, "running", todo, "runs").shown())

        def on_step(step: Step) -> None:
            epochs = (f" (epoch {done}/{total})" if total else "" for _, done, total in step.running)
            labels = [label + part for (label, _, _), part in zip(step.running, epochs, strict=True)]
            if meter:
                meter.update(
                    step.finished + step.failed,
                    step.failed,
                    seconds_left=step.seconds_left,
                    note=", ".join(labels[:RUNS_SHOWN]),
                )

        return run_experiment(experiment, output, settings, on_plan, on_step, execute=execute)


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
    announce(
        screen,
        "music",
        f"{len(made.clips)} synthetic clips {'composed' if made.composed else 'found'} in {made.folder}: "
        "figures on them say nothing about real music",
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
    head = "  ".join(["accuracy".ljust(widest), *(name.rjust(24) for name in names)])
    screen.print(plain(head, "bold"), soft_wrap=True)
    for system in summary.systems:
        row = [_accuracy(summary, system, name).rjust(24) for name in names]
        screen.print(plain("  ".join([system.ljust(widest), *row])), soft_wrap=True)
    rows = {"runs": f"{len(outcome.results):,} of {outcome.planned:,} finished, {outcome.run_now:,} run now"}
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
        screen.print(Text.assemble(("failed", "red"), " ", plain(f"{labels[key]}: {message}")), soft_wrap=True)
    if outcome.failures:
        screen.print(
            f"{counted(len(outcome.failures), 'run')} failed; the same command tries them again", style="dim"
        )
