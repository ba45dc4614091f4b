"""`mgc inspect`: a page, or a picture, of one track."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from mgc.cli.app import ConfigOption, SetOption, settings
from mgc.errors import ConfigError
from mgc.inference.file_reader import FileReader, ReadOptions
from mgc.models.bundle_files import read_bundle_for_audio

MOMENTS_A_WINDOW = 4
"""By default windows begin a quarter of their length apart."""


def inspect(
    track: Annotated[str, typer.Argument(help="an audio file, an s3:// URI, or - for stdin", metavar="FILE")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="model bundle that `mgc train` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="page (.html) or picture (.png)")] = "inspect.html",
    predictions: Annotated[
        str | None, typer.Option("--predictions", "-p", help="of `mgc tag`: names the nearest tracks")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(help="windows every so many seconds; default: a quarter window", min=0.05, metavar="SECONDS"),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show one track: waveform, log-mel, genres and tags in time, its answer, and what sounds like it."""
    if not output.lower().endswith((".html", ".png")):
        raise ConfigError(f"'{output}' is neither a page nor a picture", "end --output in .html or .png")
    chosen = settings(config, set_)
    stored = read_bundle_for_audio(bundle)
    options = ReadOptions(every_seconds=every or stored.features.window_seconds / MOMENTS_A_WINDOW, outline=True)
    with FileReader(stored.features, chosen.decode) as reader:
        (waiting,) = reader.begin([track], options)
        # Only now: torch and matplotlib take longer to import than a song to be heard.
        module = importlib.import_module("mgc.cli.inspected")
        module.show_inspected(stored, chosen.tagging, waiting, predictions, output)
