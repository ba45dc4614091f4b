"""`mgc report`: the page of the last tagging run, made anew, with near-duplicates told by what is heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mgc.cli.options import console
from mgc.cli.report_command import last_record, page_of, show_page


def report(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet that was tagged")],
    predictions: Annotated[str, typer.Option("--predictions", "-p", help="output directory of `mgc tag`")],
    features: Annotated[
        str | None, typer.Option("--features", "-f", help="shards of `mgc extract`: tell near-duplicates by them")
    ] = None,
) -> None:
    """Write report/index.html of the last run over PREDICTIONS anew: after a move, an update, or with --features."""
    record = replace(last_record(predictions), output=predictions)
    show_page(console(), page_of(record, catalogue, features))
