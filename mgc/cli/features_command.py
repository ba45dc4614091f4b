"""`mgc features`: extracted features for other programs."""

from __future__ import annotations

from typing import Annotated, Literal

import polars as pl
import typer
from rich.text import Text

from mgc.catalogue.index import read_catalogue
from mgc.cli.options import console
from mgc.cli.tables import facts, warned
from mgc.tables.feature_export import export_segments, export_statistics


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
