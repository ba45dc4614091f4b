"""`mgc tag` for a catalogue: the job on Ray."""

from __future__ import annotations

from rich.markup import escape

from mgc.cluster.incremental import RunOptions
from mgc.cluster.predict import tag_catalogue as run_job
from mgc.commands.door import console, settings
from mgc.commands.reports import tagging_page
from mgc.commands.show import dry_summary, run_summary, watched
from mgc.data.catalogue import read_catalogue


def tag_catalogue(
    *,
    catalogue: str,
    bundle: str,
    output: str,
    force: bool,
    limit: int | None,
    dry_run: bool,
    takeover: bool,
    config: str | None,
    set_: list[str] | None,
    address: str | None,
    workers: int | None,
) -> None:
    """Tag what is new, changed or was tagged by another bundle; predictions.parquet has a row for each track."""
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    tracks = read_catalogue(catalogue)
    screen = console()
    with watched(
        screen, "tagging", RunOptions(force=force, limit=limit, dry_run=dry_run, takeover=takeover)
    ) as watch:
        outcome = run_job(tracks, bundle, output, chosen, watch.options, watch.advance)
    if dry_run:
        dry_summary(screen, "tag", outcome, limit)
        return
    run_summary(screen, "Tagging", outcome, f"{output.rstrip('/')}/predictions.parquet")
    if outcome.run_id is not None:
        screen.print(f"report  {escape(tagging_page(outcome, catalogue, bundle, output))}", soft_wrap=True)
