"""`mgc index`: list a folder or prefix into a catalogue, with labels and splits."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
from rich.text import Text

from mgc.catalogue.index import NO_GENRE, IndexSummary, index_catalogue
from mgc.catalogue.joining import Corrections, Named
from mgc.catalogue.listing import NOT_AUDIO
from mgc.cli.app import ConfigOption, SetOption, console, settings
from mgc.cli.terminal import facts, warned

TAGS_SHOWN = 30


def index(
    root: Annotated[str, typer.Argument(help="folder, or s3://bucket/prefix, that holds the audio")],
    output: Annotated[str, typer.Option("--output", "-o", help="the catalogue to write")] = "catalogue.parquet",
    manifest: Annotated[str | None, typer.Option(help="CSV or Parquet of labels")] = None,
    labels_from: Annotated[
        Literal["manifest", "folder", "none"] | None,
        typer.Option(help="folder: the first folder is the genre"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="labels and split of gtzan, magnatagatune, fma or mtg-jamendo")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option(help="folder of the data set's annotations", metavar="DIR")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="of the data set: small, genre, …")] = None,
    files: Annotated[
        Literal["audio", "npy"] | None, typer.Option(help="npy: tracks are mel spectrograms, not audio")
    ] = None,
    corrections: Annotated[
        list[str] | None, typer.Option(help="labels on top, such as a filled-in review queue; may be given again")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="glob of names or paths to leave out, besides catalogue.exclude; may be given again"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="stop at what cannot be read; else go on without")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """List the audio under ROOT, join labels, assign splits by group, and write a catalogue."""
    chosen = settings(
        config,
        set_,
        catalogue__manifest=manifest,
        catalogue__labels_from=labels_from,
        catalogue__files=files,
        catalogue__dataset=dataset,
        catalogue__annotations=annotations,
        catalogue__subset=subset,
        catalogue__corrections=json.dumps(corrections, ensure_ascii=False) if corrections else None,
        catalogue__strict=strict or None,
    ).catalogue
    chosen = chosen.model_copy(update={"exclude": (*chosen.exclude, *(exclude or ()))})
    summary = index_catalogue(root, output, chosen)
    facts(console(), "Catalogue", summary_rows(summary))


def summary_rows(summary: IndexSummary) -> dict[str, str | Text]:
    """Return what an index run found, as lines for the terminal."""
    rows: dict[str, str | Text] = {
        "tracks": f"{summary.tracks:,} ({summary.size_bytes / 1e6:,.1f} MB)",
        "with a genre / with tags": f"{summary.with_genre:,} / {summary.with_tags:,}",
        "groups": f"{summary.groups:,}",
        "splits": ", ".join(f"{name} {count:,}" for name, count in summary.by_split.items() if count),
    }
    rows |= {
        "without a genre" if name == NO_GENRE else f"genre {name}": _by_split(counts)
        for name, counts in summary.by_genre.items()
    }
    tags = list(summary.by_tag.items())
    rows |= {f"tag {name}": f"{count:,}" for name, count in tags[:TAGS_SHOWN]}
    if len(tags) > TAGS_SHOWN:
        rows["other tags"] = f"{len(tags) - TAGS_SHOWN:,}, with {tags[TAGS_SHOWN][1]:,} tracks or fewer"
    if summary.look_alikes:
        rows["look alike"] = warned(len(summary.look_alikes), f": {'; '.join(summary.look_alikes)}")
    rows |= {f"tracks: {why}": _warned(named) for why, named in summary.doubtful.items()}
    for why, named in summary.skipped.items():
        several = f" ({summary.extensions})" if why == NOT_AUDIO else ""
        rows[f"skipped: {why}"] = f"{named.count:,}{several}, such as {', '.join(named.examples[:3])}"
    for name, named in (
        ("labels without a file", summary.rows_without_file),
        ("files without a label", summary.tracks_without_row),
    ):
        if named.count:
            rows[name] = _warned(named)
    rows |= _correction_rows(summary.corrections)
    if summary.kept_splits:
        rows["splits kept from before"] = f"{summary.kept_splits:,}"
    rows["output"] = summary.output
    return rows


def _correction_rows(found: Corrections) -> dict[str, str | Text]:
    rows: dict[str, str | Text] = {}
    if found.tracks:
        rows["labels corrected or added"] = f"{found.tracks:,}"
    if found.relabelled.count:
        rows["of these with another genre"] = _warned(found.relabelled)
    if found.without_file.count:
        rows["corrections without a file"] = _warned(found.without_file)
    return rows


def _warned(named: Named) -> Text:
    return warned(named.count, f", such as {', '.join(named.examples[:3])}")


def _by_split(counts: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())
