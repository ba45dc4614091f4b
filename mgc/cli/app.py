"""The console script `mgc`: only the module of the command that is called is opened.

`mgc --help` answers at once, and `mgc index` does not wait for torch and Ray to be imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from mgc import __version__
from mgc.cli.options import guarded

COMMANDS = {
    "index": "List audio, join labels, assign splits: a catalogue.",
    "extract": "Features of every track, as Parquet shards.",
    "features": "A table of feature statistics, or MFCC as JSON, for other programs.",
    "import-mels": "Mel spectrograms that others computed (.npy), as Parquet shards.",
    "import-weights": "Published weights of FCN, CRNN or musicnn, as a model bundle.",
    "train": "Fit the ensemble: a model bundle.",
    "tune": "Search for settings: a table of trials, and the best as a TOML.",
    "distill": "One small, fast network that answers as an ensemble does: a model bundle.",
    "evaluate": "Honest figures with intervals: a report.",
    "probe": "What a bundle's frozen embedding is worth: an SVM on it, beside one on MFCC statistics.",
    "tag": "Genre, tags, confidence and embedding, for a catalogue or for a few files.",
    "inspect": "A page or a picture of one track: waveform, log-mel, genres and tags in time, nearest tracks.",
    "compare": "Two bundles' answers for the same files, side by side.",
    "similar": "The tracks most like one, like each, near-duplicates, and how good that is.",
    "report": "The page of the last tagging run, made anew.",
    "review": "The tracks whose label would help most, as a CSV to fill in.",
    "prune": "Old runs of an output put together into one; a dry run unless told otherwise.",
    "write-tags": "Genre and tags into files or sidecars; a dry run unless told otherwise.",
    "reproduce": "The literature's systems and yours under every protocol, side by side: one page.",
    "demo": "The whole way, on a small catalogue of its own or on your folder.",
}
"""Command → its line of help. The command is the function of that name in `mgc.cli.<name>_command`, - written _."""


def build_app(called: str | None) -> typer.Typer:
    """Return the app with the called command imported, and the others by name and help alone."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback()(_about)
    for name, help_line in COMMANDS.items():
        if name == called:
            module = name.replace("-", "_")
            app.command(name)(getattr(importlib.import_module(f"mgc.cli.{module}_command"), module))
        else:
            app.command(name, help=help_line)(_unopened)
    return app


def main() -> None:
    """Run the console script."""
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    guarded(build_app(called))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mgc {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Genre, tags, confidence and embeddings for a whole music catalogue, on a Ray cluster."""


def _unopened() -> None:
    """Stand in the help page for a command that was not called."""
    raise AssertionError("only the called command is run, and that one is opened")
