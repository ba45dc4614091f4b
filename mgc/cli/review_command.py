"""`mgc review`: the tracks whose label would help most, as a CSV to fill in."""

from __future__ import annotations

from typing import Annotated

import typer

from mgc.catalogue.index import catalogue_root, read_catalogue
from mgc.cli.options import console
from mgc.cli.similar_show import write_table
from mgc.cli.tables import facts
from mgc.curation.review_queue import READ, ReviewOptions, review_queue
from mgc.errors import ConfigError
from mgc.storage.store import Store, split_uri
from mgc.tables.predictions import read_predictions


def review(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that was tagged")],
    predictions: Annotated[str, typer.Option("--predictions", "-p", help="of `mgc tag`")],
    output: Annotated[str, typer.Option("--output", "-o", help="the CSV to fill in")] = "review.csv",
    tracks: Annotated[int, typer.Option("--tracks", "-n", help="at most so many")] = 100,
    max_margin: Annotated[float, typer.Option(help="lead of the likeliest genre that is sure enough")] = 0.5,
    labelled_too: Annotated[bool, typer.Option(help="also tracks that have a genre: are the labels right?")] = False,
    overwrite: Annotated[bool, typer.Option(help="replace a CSV that is there, filled in or not")] = False,
) -> None:
    """Write the tracks of CATALOGUE whose label would help most; fill in `genre` and `tags`, and index with it."""
    options = ReviewOptions(tracks, max_margin, labelled_too)
    root, key = split_uri(output)
    if not overwrite and Store(root).exists(key):
        raise ConfigError(f"'{output}' is there already, and may be filled in", "give another -o, or --overwrite")
    queue = review_queue(
        read_predictions(predictions, READ), read_catalogue(catalogue), catalogue_root(catalogue), options
    )
    write_table(queue, output)
    rows = {"tracks": f"{queue.height:,}", "output": output}
    if queue.height:
        first = queue.row(0, named=True)
        rows["first"] = f"{first['path']}: {first['why']}"
        rows["when filled in"] = f"mgc index ROOT --manifest … --corrections {output}"
    else:
        rows["why none"] = "every unlabelled track is sure, or none is unlabelled: try --max-margin, --labelled-too"
    facts(console(), "Review queue", rows)
