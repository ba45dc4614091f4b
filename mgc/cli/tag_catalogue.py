"""`mgc tag` for a catalogue: the job on Ray."""

from __future__ import annotations

import sys

import typer

from mgc.catalogue.index import read_catalogue
from mgc.cli.app import console, settings
from mgc.cli.report_command import show_page, tagging_page
from mgc.cli.terminal import dry_summary, run_summary, watched
from mgc.cluster.predict import tag_catalogue as run_job
from mgc.cluster.run import RunOptions
from mgc.errors import DeletionsError
from mgc.tables.deletions import DeletionRule


def tag_catalogue(
    *,
    catalogue: str,
    bundle: str,
    output: str,
    force: bool,
    limit: int | None,
    dry_run: bool,
    takeover: bool,
    accept_deletions: bool,
    config: str | None,
    set_: list[str] | None,
    address: str | None,
    workers: int | None,
) -> None:
    """Tag what is new, changed or was tagged by another bundle; `current` has a row for each track.

    Raises
    ------
    DeletionsError
        All is done, but so many tracks are gone that they were not marked deleted.
    """
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    tracks = read_catalogue(catalogue)
    screen = console()
    deletions = DeletionRule(chosen.tagging.ask_deleted_fraction, accept_deletions, _confirmed)
    options = RunOptions(force=force, limit=limit, dry_run=dry_run, takeover=takeover, deletions=deletions)
    with watched(screen, "tagging", options) as watch:
        outcome = run_job(tracks, bundle, output, chosen, watch.options, watch.advance)
    if dry_run:
        dry_summary(screen, "tag", outcome, limit)
        return
    run_summary(screen, "Tagging", outcome, f"{output.rstrip('/')}/current/*.parquet")
    if outcome.run_id is not None:
        show_page(screen, tagging_page(outcome, catalogue, bundle, output))
    if outcome.refused:
        raise DeletionsError(
            f"{outcome.refused:,} of {outcome.plan.live:,} tracks are gone from '{catalogue}': not marked deleted",
            "see that the whole catalogue was listed; if they are meant to be gone, add --accept-deletions",
        )


def _confirmed(removed: int, live: int) -> bool:
    """Ask whether so many tracks are gone for good; no where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return typer.confirm(f"{removed:,} of {live:,} tracks are gone from the catalogue. Mark them deleted?")
