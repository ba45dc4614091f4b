"""`mgc extract`: log-mels of every track of a catalogue, as Parquet shards."""

from __future__ import annotations

from typing import Annotated

import typer

from mgc.catalogue.index import read_catalogue
from mgc.cli.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    SetOption,
    TakeoverOption,
    WorkersOption,
    console,
    settings,
)
from mgc.cli.terminal import dry_summary, run_summary, watched
from mgc.cluster.extract import extract_features
from mgc.cluster.run import RunOptions
from mgc.models.bundle_files import read_bundle_for_audio


def extract(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that `mgc index` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the shards")],
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="what this bundle hears, whatever [features] says")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="extract everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many tracks", min=1)] = None,
    dry_run: DryRunOption = False,
    takeover: TakeoverOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Extract features of what is new or changed in CATALOGUE; one row in, one row out."""
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    if bundle is not None:
        chosen = chosen.model_copy(update={"features": read_bundle_for_audio(bundle).features})
    tracks = read_catalogue(catalogue)
    screen = console()
    with watched(
        screen, "extracting", RunOptions(force=force, limit=limit, dry_run=dry_run, takeover=takeover)
    ) as watch:
        outcome = extract_features(tracks, output, chosen, watch.options, watch.advance)
    if dry_run:
        dry_summary(screen, "extract", outcome, limit)
        return
    run_summary(screen, "Extraction", outcome, output)
