"""`mgc tag`: genre, tags, confidence and embedding for every track of a catalogue."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from mgc.cluster.incremental import RunOptions
from mgc.cluster.predict import tag_catalogue
from mgc.commands.door import AddressOption, ConfigOption, SetOption, WorkersOption, console, settings
from mgc.commands.reports import tagging_page
from mgc.commands.show import run_summary, watched
from mgc.data.catalogue import read_catalogue


def tag(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that `mgc index` wrote")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="model bundle that `mgc train` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the predictions")],
    force: Annotated[bool, typer.Option("--force", help="tag everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many tracks", min=1)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Tag what is new, changed or was tagged by another bundle; predictions.parquet has a row for each track."""
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    tracks = read_catalogue(catalogue)
    screen = console()
    with watched(screen, "tagging", RunOptions(force=force, limit=limit)) as watch:
        outcome = tag_catalogue(tracks, bundle, output, chosen, watch.options, watch.advance)
    run_summary(screen, "Tagging", outcome, f"{output.rstrip('/')}/predictions.parquet")
    if outcome.run_id is not None:
        screen.print(f"report  {escape(tagging_page(outcome, catalogue, bundle, output))}", soft_wrap=True)
