"""`mgc tag`: genre, tags, confidence and embedding, for every track of a catalogue or for a few files.

What it is given decides: one Parquet table is a catalogue and starts the job on Ray; anything else is audio, and is
answered in this process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mgc.cli.app import AddressOption, ConfigOption, SetOption, WorkersOption, console, settings
from mgc.cli.file_answers import AnswerOptions, answers, audio_of, show_answers
from mgc.config import Config
from mgc.errors import ConfigError, DeletionsError
from mgc.inference.file_reader import FileReader, ReadOptions
from mgc.models.bundle_files import StoredBundle, read_bundle_files, read_bundle_for_audio, student_of
from mgc.models.published_files import STARTER
from mgc.printable import printable

PARQUET_MAGIC = b"PAR1"


def tag(
    tracks: Annotated[
        list[str],
        typer.Argument(
            help="a catalogue.parquet of `mgc index`; or audio: files, s3:// URIs, a small folder, - (stdin)"
        ),
    ],
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle", "-b", help="model bundle that `mgc train` wrote; default: the one that comes with mgc"
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="use the bundle's student (`mgc distill`) in place of its ensemble")
    ] = False,
    output: Annotated[str | None, typer.Option("--output", "-o", help="catalogue: where predictions go")] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features", "-f", help="catalogue: shards of `mgc extract`; what they hold is not decoded again"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="catalogue: tag everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="catalogue: at most so many tracks", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="catalogue: say what would be done; do nothing")] = False,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="catalogue: take the place of a run that is or seems alive")
    ] = False,
    accept_deletions: Annotated[
        bool,
        typer.Option("--accept-deletions", help="catalogue: mark missing tracks as deleted, however many they are"),
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

    A catalogue's answers go to OUTPUT/current, a Delta table with a row for each track. Files' answers are printed;
    the exit status is 1 where a file has none.
    """
    bundle = _chosen_bundle(bundle, fast)
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    run: dict[str, Any] = {"force": force, "limit": limit, "dry_run": dry_run, "takeover": takeover}
    if is_catalogue(tracks):
        of_files = {"json": json, "embedding": embedding, "windows": windows, "every": every, "taggram": taggram}
        _refuse(of_files, "audio files", "a catalogue's answers are in its predictions")
        if output is None:
            raise ConfigError("a catalogue's answers need a place", "give --output DIRECTORY")
        tag_catalogue(tracks[0], bundle, output, chosen, features, accept_deletions=accept_deletions, **run)
    else:
        of_catalogue = {"accept_deletions": accept_deletions, "address": address, "workers": workers}
        _refuse(
            {"output": output, "features": features, **run, **of_catalogue},
            "a catalogue",
            "answers for files are printed; --json for programs",
        )
        shown = AnswerOptions(json, embedding, windows or every is not None, taggram)
        tag_files(tracks, bundle, chosen, shown, every)


def _chosen_bundle(bundle: str | None, fast: bool) -> str:
    """Return the bundle, its student, or the starter bundle, which is named on stderr."""
    if bundle is not None:
        return student_of(bundle) if fast else bundle
    if fast:
        raise ConfigError("the bundle that comes with mgc has no student, which --fast would use", "give --bundle")
    print(printable(_starter_line(read_bundle_files(STARTER))), file=sys.stderr)
    return STARTER


def _starter_line(stored: StoredBundle) -> str:
    """Return in one line which bundle answers, what it knows and what it promises."""
    genre = stored.description["metrics"]["promise"]["genre"]
    right = (
        f", {genre['precision']:.0%} of those it is sure of right on GTZAN's artists" if genre["precision"] else ""
    )
    known = f"{len(stored.description['taxonomy']['genres'])} genres of GTZAN{right}"
    return (
        f"no --bundle: the starter bundle {stored.manifest.fingerprint} answers ({known}; research; docs/models.md)"
    )


def tag_files(
    tracks: Sequence[str], bundle: str, config: Config, shown: AnswerOptions, every_seconds: float | None
) -> None:
    """Answer for files, print it, and end with status 1 where one has no answer."""
    stored = read_bundle_for_audio(bundle)
    uris = audio_of(tracks, config.catalogue)
    with FileReader(stored.features, config.decode) as reader:
        waiting = reader.begin(uris, ReadOptions(every_seconds=every_seconds))
        show_answers(answers(stored, config.tagging, waiting), shown)


def tag_catalogue(
    catalogue: str,
    bundle: str,
    output: str,
    config: Config,
    features: str | None = None,
    *,
    force: bool,
    limit: int | None,
    dry_run: bool,
    takeover: bool,
    accept_deletions: bool,
) -> None:
    """Tag what is new, changed or was tagged by another bundle; `current` has a row for each track.

    Raises
    ------
    DeletionsError
        All is done, but so many tracks are missing that they were not marked deleted.
    """
    # Ray alone takes longer to import than a song takes to tag: a file's answer does not wait for it.
    from mgc.cli.report_command import say_that_it_is_written, show_page, tagging_page
    from mgc.cli.terminal import dry_summary, tagging_summary, watched
    from mgc.cluster.predict import tag_catalogue as run_job
    from mgc.cluster.run import RunOptions

    screen = console()
    with watched(screen, "tagging", limit) as watch:
        options = RunOptions(
            force=force,
            limit=limit,
            dry_run=dry_run,
            takeover=takeover,
            accept_deletions=accept_deletions,
            confirm_deletions=_confirmed,
            on_plan=watch.show_plan,
            on_progress=watch.advance,
        )
        outcome = run_job(catalogue, bundle, output, config, options, features)
    if dry_run:
        dry_summary(screen, "tag", outcome, limit)
        return
    tagging_summary(screen, outcome, output)
    if outcome.run_id is not None:
        say_that_it_is_written(screen, output)
        show_page(screen, tagging_page(outcome, catalogue, output, bundle))
    if outcome.refused:
        raise DeletionsError(
            f"{outcome.refused:,} of {outcome.plan.live:,} tracks are missing from '{catalogue}': not marked deleted",
            "see that the whole catalogue was listed; if they are meant to be deleted, add --accept-deletions",
        )


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


def _confirmed(removed: int, live: int) -> bool:
    """Ask whether so many tracks are to be marked deleted; no where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return typer.confirm(f"{removed:,} of {live:,} tracks are missing from the catalogue. Mark them deleted?")


def _refuse(options: dict[str, Any], what: str, remedy: str) -> None:
    for name, value in options.items():
        if value not in (None, False):
            raise ConfigError(f"--{name.replace('_', '-')} is for {what}", remedy)
