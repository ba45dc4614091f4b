"""`mgc index`: a folder or prefix becomes a catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mgc.commands.door import ConfigOption, SetOption, console, settings
from mgc.commands.show import index_summary
from mgc.data.catalogue import index_catalogue


def index(
    root: Annotated[str, typer.Argument(help="folder, or s3://bucket/prefix, that holds the audio")],
    output: Annotated[str, typer.Option("--output", "-o", help="the catalogue to write")] = "catalogue.parquet",
    manifest: Annotated[str | None, typer.Option(help="CSV or Parquet of labels")] = None,
    labels_from: Annotated[
        Literal["manifest", "folder", "none"] | None,
        typer.Option(help="folder: the first folder is the genre"),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """List the audio under ROOT, join labels, assign splits by group, and write a catalogue."""
    chosen = settings(config, set_, catalogue__manifest=manifest, catalogue__labels_from=labels_from)
    summary = index_catalogue(root, output, chosen.catalogue)
    index_summary(console(), summary, output)
