"""`mgc tune`: search for settings, a table of trials and the best as a TOML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from mgc.cli.app import AddressOption, ConfigOption, SetOption, console, plain, settings
from mgc.cli.terminal import announce, counted, facts, number_text
from mgc.cluster.tune import SearchRequest, search_settings
from mgc.training.search import BEST_FILE, TABLE_FILE, SearchResult, Trial, read_space

SHOWN = 12
"""Trials in the terminal's table; all are in the file."""
Metric = Literal["loss", "accuracy", "tags"]


def tune(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet with labels and splits")],
    features: Annotated[str, typer.Option("--features", "-f", help="shards that `mgc extract` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the table and the best settings")],
    space: Annotated[
        str | None, typer.Option("--space", help="TOML of settings and their values", metavar="FILE")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="settings tried; the first are yours as they are", min=1)] = None,
    folds: Annotated[
        int | None, typer.Option(help="judge on so many folds of 'train', else on 'valid'", min=0)
    ] = None,
    metric: Annotated[Metric | None, typer.Option(help="what is to be best")] = None,
    epochs: Annotated[int | None, typer.Option(help="at most so many a trial (and fold)", min=1)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="search anew whatever is there")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Try settings on split 'train', judge them on 'valid' or on folds, and stop the hopeless ones early."""
    chosen = settings(
        config,
        set_,
        cluster__address=address,
        search__trials=trials,
        search__folds=folds,
        search__metric=metric,
        training__epochs=epochs,
    )
    dimensions = read_space(space, chosen)
    screen = console()
    names = ", ".join(one.key for one in dimensions)
    trials_text, epochs_text = counted(chosen.search.trials, "trial"), counted(chosen.training.epochs, "epoch")
    announce(screen, "searching", f"{names}: {trials_text} of at most {epochs_text}")
    request = SearchRequest(catalogue, features, output, chosen, dimensions, overwrite)
    result = search_settings(request, EpochCount(screen, chosen.search.trials).show)
    show_search(screen, result, output)


class EpochCount:
    """Prints a trial's best figure at its first epoch and every fifth."""

    EVERY = 5

    def __init__(self, screen: Console, trials: int) -> None:
        self._screen = screen
        self._trials = trials

    def show(self, number: int, progress: dict[str, Any]) -> None:
        """Print where a trial stands."""
        if progress.get("failed"):
            self._screen.print(plain(f"trial {number:>3} of {self._trials}  failed: {progress['failed']}"))
        elif progress["epochs"] == 1 or progress["epochs"] % self.EVERY == 0:
            self._screen.print(
                f"trial {number:>3} of {self._trials}  epoch {progress['epochs']:>3}  best so far: loss "
                f"{number_text(progress['valid_loss'])}  accuracy {number_text(progress['valid_accuracy'])}"
                f"  tag PR-AUC {number_text(progress['valid_tag_macro_average_precision'])}",
                soft_wrap=True,
            )


def show_search(screen: Console, result: SearchResult, output: str) -> None:
    """Print the best trials and where the rest is."""
    keys = sorted({key for trial in result.trials for key in trial.settings})
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("trial", *(key.partition(".")[2] for key in keys), "loss", "accuracy", "tag PR-AUC", "epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in result.trials[:SHOWN]:
        table.add_row(*map(plain, _cells(trial, keys)))
    screen.print(table)
    if len(result.trials) > SHOWN:
        screen.print(f"… and {len(result.trials) - SHOWN} more in {TABLE_FILE}", style="dim")
    done = "Search" if result.searched else "Search: nothing to do, this one was finished"
    place = output.rstrip("/")
    facts(
        screen,
        done,
        {
            "judged on": result.judged_on,
            "looks": f"{result.looks:,}",
            "best trial": f"{result.best.number}" + ("" if result.best.number else " (the settings as they were)"),
            "all trials": f"{place}/{TABLE_FILE}",
            "best settings": f"{place}/{BEST_FILE}",
            "use": f"mgc train … --config {place}/{BEST_FILE}",
        },
    )
    screen.print(plain(result.caution), style="dim")


def _cells(trial: Trial, keys: list[str]) -> list[str]:
    values = [f"{trial.settings[key]}" if key in trial.settings else "–" for key in keys]
    return [
        str(trial.number) + (" failed" if trial.failed else ""),
        *values,
        number_text(trial.loss),
        number_text(trial.accuracy),
        number_text(trial.tags),
        str(trial.epochs),
    ]
