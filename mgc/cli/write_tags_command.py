"""`mgc write-tags`: genre and tags into the files themselves, or beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgc.catalogue.index import catalogue_root, read_catalogue
from mgc.cli.app import ConfigOption, SetOption, TakeoverOption, console, plain, settings
from mgc.cli.terminal import counted, facts, warned
from mgc.curation.filetags.journal import JournalHeader, JournalWriter, read_journal
from mgc.curation.filetags.tag_child import SupervisedTagEditor
from mgc.curation.filetags.tag_formats import Values
from mgc.curation.filetags.write_plan import Skips, TagChange, Where, WriteOptions, planned_changes
from mgc.curation.filetags.writer import Written, undo, write_changes
from mgc.errors import ConfigError, MgcError
from mgc.storage.store import Store, split_uri
from mgc.tables.csv_cells import csv_of_rows
from mgc.tables.deletions import rewrite_catalogue_content_ids, rewrite_prediction_content_ids
from mgc.tables.lease import RunLease, run_lease
from mgc.tables.predictions import read_predictions
from mgc.tables.run_log import MARKER, OutputDirectory
from mgc.tables.run_records import read_records

ROWS_SHOWN = 20


def write_tags(
    catalogue: Annotated[str | None, typer.Argument(help="catalogue.parquet that was tagged")] = None,
    predictions: Annotated[str | None, typer.Option("--predictions", "-p", help="of `mgc tag`")] = None,
    min_probability: Annotated[float, typer.Option(help="leave less sure tracks alone")] = 0.8,
    apply: Annotated[bool, typer.Option("--apply", help="write; without it, only show what would be")] = False,
    where: Annotated[Where, typer.Option(help="auto: local files that can hold tags, else sidecars")] = "auto",
    sidecars_to: Annotated[str | None, typer.Option(help="folder or prefix for sidecars; else beside tracks")] = None,
    replace_genre: Annotated[bool, typer.Option(help="also replace a genre that mgc did not write")] = False,
    changes: Annotated[str | None, typer.Option("--changes", help="write all changes to this CSV")] = None,
    journal: Annotated[str | None, typer.Option(help="where to write how to undo")] = None,
    undo_: Annotated[str | None, typer.Option("--undo", help="journal of an earlier run to undo")] = None,
    takeover: TakeoverOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Write genre and tags into CATALOGUE's files, or into sidecars; nothing is touched without --apply."""
    chosen = settings(config, set_)
    max_bytes, lease_seconds = chosen.decode.max_file_bytes, chosen.cluster.lease_seconds
    screen = console()
    if undo_ is not None:
        undo_journal(screen, undo_, max_bytes, lease_seconds, takeover=takeover)
        return
    if catalogue is None or predictions is None:
        raise ConfigError("nothing to write", "give the catalogue and --predictions, or --undo with a journal")
    options = WriteOptions(min_probability, where, sidecars_to, replace_genre)
    with SupervisedTagEditor(chosen.decode) as editor:
        if not apply:
            skips = Skips()
            show_plan(screen, _planned(catalogue, predictions, options, skips, editor), skips, changes)
            _show_promises(screen, predictions)
            return
        with _held(predictions, lease_seconds, takeover=takeover) as lease:
            _apply(screen, Places(catalogue, predictions, journal, changes), options, max_bytes, lease, editor)


@dataclass(frozen=True)
class Places:
    """Where things are: what is read, the journal, and a CSV of the changes."""

    catalogue: str
    predictions: str
    journal: str | None
    changes: str | None


def _planned(
    catalogue: str, predictions: str, options: WriteOptions, skips: Skips, editor: SupervisedTagEditor
) -> Iterator[TagChange]:
    tracks = read_catalogue(catalogue)
    return planned_changes(read_predictions(predictions), tracks, catalogue_root(catalogue), options, skips, editor)


@contextmanager
def _held(predictions: str, lease_seconds: float, *, takeover: bool) -> Iterator[RunLease | None]:
    """Hold the lease of the predictions while files and rows change, where they are a directory of `mgc tag`.

    A run at work would read files that are being rewritten, and would not know the rows written meanwhile.
    """
    store = None if predictions.endswith(".parquet") else Store.open(predictions)
    if store is None or not store.exists(MARKER):
        yield None
        return
    with run_lease(store, lease_seconds, takeover=takeover) as lease:
        yield lease


def _apply(
    screen: Console,
    places: Places,
    options: WriteOptions,
    max_bytes: int,
    lease: RunLease | None,
    editor: SupervisedTagEditor,
) -> None:
    skips = Skips()
    # The plan is made whole before the first write: its files are compared with what was tagged.
    todo = list(_planned(places.catalogue, places.predictions, options, skips, editor))
    if places.changes:
        _write_csv(todo, places.changes)
    if not todo:
        _summary(screen, Written(skips=skips), "nothing to write")
        return
    path = places.journal or _journal_path(places.predictions)
    head = JournalHeader(
        Store.open(places.catalogue).root, Store.open(places.predictions).root, datetime.now(UTC).isoformat()
    )
    writer = JournalWriter(path, head)
    try:
        written = write_changes(todo, writer, max_bytes, editor)
    finally:
        writer.close()
    written.skips.merge(skips)
    _summary(screen, written, "Tags written", {"journal": path, "to undo it": f"mgc write-tags --undo {path}"})
    _show_promises(screen, places.predictions)
    _rewrite_content_ids(screen, head, written, lease)


def undo_journal(screen: Console, path: str, max_bytes: int, lease_seconds: float, *, takeover: bool = False) -> None:
    """Undo a journal, and print what came of it."""
    journal = read_journal(path)
    with _held(journal.head.predictions, lease_seconds, takeover=takeover) as lease:
        written = undo(journal, max_bytes)
        _summary(screen, written, "Tags undone")
        _rewrite_content_ids(screen, journal.head, written, lease)


def show_plan(screen: Console, planned: Iterable[TagChange], skips: Skips, changes: str | None) -> None:
    """Print the first changes as a table, and count the rest."""
    todo = list(planned)
    if changes:
        _write_csv(todo, changes)
    table = Table("file", "field", "now", "would be", title="What would be written", title_justify="left")
    for change in islice(todo, ROWS_SHOWN):
        name = Path(change.target).name
        for field, values in change.after.items():
            table.add_row(
                plain(name), field, plain(_text(change.before.get(field, ()))), plain(_text(values), "green")
            )
            name = ""
    if todo:
        screen.print(table)
    if len(todo) > ROWS_SHOWN:
        screen.print(f"… and {counted(len(todo) - ROWS_SHOWN, 'more track')}; all of them with --changes FILE.csv")
    files = sum(change.into == "file" for change in todo)
    rows: dict[str, str | Text] = {"files to change": f"{files:,}", "sidecars to write": f"{len(todo) - files:,}"}
    facts(screen, "Dry run: nothing was written", rows | _skip_rows(skips))
    if todo:
        screen.print("add --apply to write")


def _summary(screen: Console, written: Written, title: str, more: dict[str, str] | None = None) -> None:
    rows: dict[str, str | Text] = {"files": f"{written.files:,}", "sidecars": f"{written.sidecars:,}"}
    facts(screen, title, rows | _skip_rows(written.skips) | (more or {}))


def _show_promises(screen: Console, predictions: str) -> None:
    """Print what the bundle of the last run promises, where predictions are the output of `mgc tag`."""
    if not predictions.endswith(".parquet"):
        for record in read_records(OutputDirectory(Store.open(predictions), "predictions"), 1):
            for line in record.promises:
                screen.print(plain(line), soft_wrap=True)


def _skip_rows(skips: Skips) -> dict[str, str | Text]:
    rows: dict[str, str | Text] = {}
    for reason, count in skips.counts.most_common():
        examples = skips.examples.get(reason)
        rows[f"left alone: {reason}"] = warned(count, f", such as {examples[0]}" if examples else "")
    return rows


def _rewrite_content_ids(screen: Console, head: JournalHeader, written: Written, lease: RunLease | None) -> None:
    """Write the files' new content ids into catalogue and predictions, so that no run tags them anew."""
    if not written.content_ids:
        return
    try:
        if lease is not None:
            lease.require()
        rewrite_catalogue_content_ids(head.catalogue, written.content_ids, written.sizes)
        if head.predictions.endswith(".parquet"):
            raise ConfigError("the predictions are one file, not the directory of `mgc tag`")
        count = rewrite_prediction_content_ids(head.predictions, written.content_ids)
    except MgcError as error:
        screen.print(plain(f"the next run will tag these files anew: {error.message}", "yellow"), soft_wrap=True)
        return
    screen.print(f"catalogue and predictions know {counted(count, 'file')} as they are now: no run tags them anew")


def _journal_path(predictions: str) -> str:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.jsonl"
    local = not predictions.startswith("s3://")
    folder = predictions.rpartition("/")[0] if predictions.endswith(".parquet") else predictions
    return str(Path(Store.open(folder or ".").root, "tag-journals", name)) if local else f"mgc-tags-{name}"


def _write_csv(todo: list[TagChange], path: str) -> None:
    header = ["track_id", "uri", "target", "into", "field", "now", "would_be", "note"]
    rows = (
        (change.track_id, change.uri, change.target, change.into, field, now, _text(values), change.note)
        for change in todo
        for field, values in change.after.items()
        for now in [_text(change.before.get(field, ()))]
    )
    root, key = split_uri(path)
    Store(root).write_atomic(key, csv_of_rows(header, rows))


def _text(values: Values) -> str:
    return "; ".join(values) or "–"
