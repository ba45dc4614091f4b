"""`mgc tag`: genre, tags, confidence and embedding, for every track of a catalogue or for a few files.

One command, told apart by what it is given: one Parquet table is a catalogue and starts the job on Ray; anything
else is audio, and is answered here, without Ray. Only the module that is needed is opened: Ray's imports alone take
longer than a song.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from mgc.cli.app import AddressOption, ConfigOption, SetOption, WorkersOption
from mgc.errors import ConfigError
from mgc.models.bundle_files import student_of

PARQUET_MAGIC = b"PAR1"


def tag(
    tracks: Annotated[
        list[str],
        typer.Argument(
            help="a catalogue.parquet of `mgc index`; or audio: files, s3:// URIs, a small folder, - (stdin)"
        ),
    ],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="model bundle that `mgc train` wrote")],
    fast: Annotated[
        bool, typer.Option("--fast", help="ask the bundle's student (`mgc distill`) in place of its ensemble")
    ] = False,
    output: Annotated[str | None, typer.Option("--output", "-o", help="catalogue: where predictions go")] = None,
    force: Annotated[bool, typer.Option("--force", help="catalogue: tag everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="catalogue: at most so many tracks", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="catalogue: say what would be done; do nothing")] = False,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="catalogue: take the place of a run that is or seems alive")
    ] = False,
    accept_deletions: Annotated[
        bool,
        typer.Option("--accept-deletions", help="catalogue: mark what is gone as deleted, however much it is"),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="files: one JSON object a line")] = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="files: the embedding, too (JSON)")] = False,
    windows: Annotated[bool, typer.Option("--windows", help="files: each window's answer, too (JSON)")] = False,
    every: Annotated[
        float | None, typer.Option(help="files: windows every so many seconds", min=0.05, metavar="SECONDS")
    ] = None,
    taggram: Annotated[
        str | None, typer.Option(help="files: write each window's answer to this Parquet", metavar="FILE")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Tag a catalogue (what is new, changed or was tagged by another bundle), or a few audio files at once.

    A catalogue's answers go to OUTPUT/current/*.parquet, a row for each track. Files' answers are printed; the exit
    status is 1 where a file has none.
    """
    shared = {"bundle": student_of(bundle) if fast else bundle, "config": config, "set_": set_}
    of_catalogue = {
        "output": output,
        "force": force,
        "limit": limit,
        "dry_run": dry_run,
        "takeover": takeover,
        "accept_deletions": accept_deletions,
        "address": address,
        "workers": workers,
    }
    of_files = {"json": json, "embedding": embedding, "windows": windows, "every": every, "taggram": taggram}
    if is_catalogue(tracks):
        _refuse(of_files, "audio files", "a catalogue's answers are in its predictions")
        if output is None:
            raise ConfigError("a catalogue's answers need a place", "give --output DIRECTORY")
        _run("tag_catalogue", catalogue=tracks[0], **shared, **of_catalogue)
    else:
        _refuse(of_catalogue, "a catalogue", "answers for files are printed; --json for programs")
        _run("tag_files", tracks=tracks, **shared, **of_files)


def is_catalogue(tracks: list[str]) -> bool:
    """Return whether the arguments are one Parquet table, by its name or, on disk, by its first bytes.

    Raises
    ------
    ConfigError
        A table stands among other arguments.
    """
    tables = [track for track in tracks if _is_table(track)]
    if tables and len(tracks) > 1:
        raise ConfigError(
            f"'{tables[0]}' is a table, and there are {len(tracks) - 1} more arguments",
            "give one catalogue, or only audio",
        )
    return bool(tables)


def _is_table(track: str) -> bool:
    if track.lower().endswith(".parquet"):
        return True
    path = Path(track)
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError:  # whoever reads it will say why
        return False


def _refuse(options: dict[str, Any], what: str, remedy: str) -> None:
    for name, value in options.items():
        if value not in (None, False):
            raise ConfigError(f"--{name.replace('_', '-')} is for {what}", remedy)


def _run(module: str, **arguments: Any) -> None:
    getattr(importlib.import_module(f"mgc.cli.{module}"), module)(**arguments)
