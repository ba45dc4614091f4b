"""`mgc import-mels`: precomputed mel spectrograms (`.npy`) of a catalogue, as Parquet shards."""

from __future__ import annotations

from typing import Annotated

import typer

from mgc.audio.mel_array import MEL_FORMATS, mel_format
from mgc.catalogue.index import read_catalogue
from mgc.cli.options import AddressOption, ConfigOption, SetOption, WorkersOption, console, settings
from mgc.cli.terminal import run_summary, watched
from mgc.cluster.extract import import_mel_arrays
from mgc.cluster.run import RunOptions


def import_mels(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that `mgc index --files npy` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the shards")],
    format_: Annotated[
        str | None,
        typer.Option("--format", help=f"what the arrays are: {', '.join(MEL_FORMATS)}; else [mels] and [features]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="import everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many tracks", min=1)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Import the .npy mel spectrograms of what is new or changed in CATALOGUE; one row in, one row out."""
    # The format is the arrays' own and goes over the file's settings; --set has the last word.
    known = [] if format_ is None else list(mel_format(format_).settings)
    chosen = settings(config, [*known, *(set_ or [])], cluster__address=address, cluster__workers=workers)
    tracks = read_catalogue(catalogue)
    screen = console()
    with watched(screen, "importing", RunOptions(force=force, limit=limit)) as watch:
        outcome = import_mel_arrays(tracks, output, chosen, watch.options, watch.advance)
    run_summary(screen, "Import", outcome, output)
