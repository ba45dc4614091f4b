"""`mgc extract`, `mgc import-mels` and `mgc features`: features of every track, as Parquet shards or as a table."""

from __future__ import annotations

from typing import Annotated, Literal

import polars as pl
import typer
from rich.text import Text

from mgc.audio.mel_array import MEL_FORMATS, mel_format
from mgc.catalogue.index import read_catalogue
from mgc.cli.app import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    SetOption,
    TakeoverOption,
    WorkersOption,
    console,
    settings,
)
from mgc.cli.terminal import dry_summary, facts, run_summary, warned, watched
from mgc.cluster.extract import extract_features, import_mel_arrays
from mgc.cluster.run import RunOptions
from mgc.models.bundle_files import read_bundle_for_audio
from mgc.tables.feature_export import export_segments, export_statistics


def extract(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that `mgc index` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the shards")],
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="the features of this bundle, whatever section features says")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="extract everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many tracks", min=1)] = None,
    dry_run: DryRunOption = False,
    takeover: TakeoverOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Extract features of what is new or changed in CATALOGUE; one row in, one row out."""
    chosen = settings(config, set_, cluster__address=address, cluster__workers=workers)
    if bundle is not None:
        chosen = chosen.model_copy(update={"features": read_bundle_for_audio(bundle).features})
    screen = console()
    with watched(screen, "extracting", limit) as watch:
        options = RunOptions(
            force=force,
            limit=limit,
            dry_run=dry_run,
            takeover=takeover,
            on_plan=watch.show_plan,
            on_progress=watch.advance,
        )
        outcome = extract_features(catalogue, output, chosen, options)
    if dry_run:
        dry_summary(screen, "extract", outcome, limit)
        return
    run_summary(screen, "Extraction", outcome, output)


def features(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet with labels")],
    shards: Annotated[str, typer.Option("--features", "-f", help="shards that `mgc extract` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help=".csv or .parquet: statistics; .json: MFCC segments")],
    split: Annotated[
        Literal["train", "valid", "test", "unlisted"] | None, typer.Option(help="only this split's tracks")
    ] = None,
    n_mfcc: Annotated[int, typer.Option(help="coefficients a frame of the .json", min=1)] = 13,
) -> None:
    """Write a table with the mean and variance of each feature of each track, or the MFCC of segments as JSON.

    The table needs shards with statistics (mgc extract --set features.statistics=cao2024), the JSON shards that
    keep MFCC (--set features.frames=jain2021 --set features.n_mfcc=13 --set features.window_seconds=3
    --set features.max_windows=10: ten segments of 30 s).
    """
    tracks = read_catalogue(catalogue)
    if split is not None:
        tracks = tracks.filter(pl.col("split") == split)
    if output.endswith(".json"):
        written = export_segments(shards, tracks, output, n_mfcc)
    else:
        written = export_statistics(shards, tracks, output)
    rows: dict[str, str | Text] = {"tracks": f"{written.tracks:,}"}
    if written.segments:
        rows["segments"] = f"{written.segments:,}"
    rows["MFCC a frame" if output.endswith(".json") else "statistics a track"] = f"{written.values:,}"
    if written.without_features:
        rows["without features (or genre)"] = warned(written.without_features)
    facts(console(), "Features", rows | {"output": output})


def import_mels(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that `mgc index --files npy` wrote")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the shards")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help=f"what the arrays are: {', '.join(MEL_FORMATS)}; else the sections mels and features"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="import everything anew")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many tracks", min=1)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Import the .npy mel spectrograms of what is new or changed in CATALOGUE; one row in, one row out."""
    # The format is the arrays' own and goes over the file's settings, and --set over both.
    known = [] if format_ is None else list(mel_format(format_).settings)
    chosen = settings(config, [*known, *(set_ or [])], cluster__address=address, cluster__workers=workers)
    screen = console()
    with watched(screen, "importing", limit) as watch:
        options = RunOptions(force=force, limit=limit, on_plan=watch.show_plan, on_progress=watch.advance)
        outcome = import_mel_arrays(catalogue, output, chosen, options)
    run_summary(screen, "Import", outcome, output)
