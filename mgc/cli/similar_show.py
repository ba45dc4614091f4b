"""What `mgc similar` prints and writes."""

from __future__ import annotations

import io
import json
import sys

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgc.cli.figures import figure_text
from mgc.cli.tables import counted, facts
from mgc.curation.similarity import SimilarityIndex
from mgc.curation.similarity_score import Precision, SimilarityScore
from mgc.storage.store import Store, split_uri

GROUPS_SHOWN = 10


def show_neighbours(screen: Console, index: SimilarityIndex, rows: pl.DataFrame, row: int, *, as_json: bool) -> None:
    """Print the neighbours of one track as a table, or as a JSON object a line."""
    if as_json:
        print_json_lines(rows)
        return
    uri, genre = index.tracks.select("uri", "genre").row(row)
    table = Table("", "cosine", "genre", "", "track", title=f"Most like {uri} ({genre})", title_justify="left")
    for rank, cosine, _, other, _, named, probability in rows.iter_rows():
        table.add_row(str(rank), f"{cosine:.3f}", Text(named), f"{100 * probability:.0f} %", Text(other))
    screen.print(table)
    screen.print(Text(index_text(index)), soft_wrap=True)


def show_all(screen: Console, index: SimilarityIndex, rows: int, output: str) -> None:
    """Print what a table of all neighbours holds."""
    facts(screen, "Neighbours of all tracks", {"rows": f"{rows:,}", "index": index_text(index), "output": output})


def show_duplicates(screen: Console, groups: pl.DataFrame, output: str | None, *, as_json: bool) -> None:
    """Print the first groups, or every row as a JSON object a line."""
    if as_json:
        print_json_lines(groups)
        return
    n_groups = groups["group_id"].n_unique()
    table = Table("group", "track", "seconds", "correlation", title="Near-duplicates", title_justify="left")
    for number, ((_,), rows) in enumerate(groups.group_by(["group_id"], maintain_order=True)):
        if number == GROUPS_SHOWN:
            break
        table.add_section()
        for uri, seconds, correlation in rows.select("uri", "duration_seconds", "correlation").iter_rows():
            table.add_row(str(number + 1), Text(uri), f"{seconds:.2f}", f"{correlation:.3f}")
    if n_groups:
        screen.print(table)
    shown = {"groups": f"{n_groups:,}", "tracks in them": f"{groups.height:,}"}
    facts(screen, "Near-duplicates", shown | ({"output": output} if output else {}))


def show_score(screen: Console, score: SimilarityScore, split: str, *, as_json: bool) -> None:
    """Print a score as a table, or as one JSON object."""
    if as_json:
        print(json.dumps(score.to_json()))
        return
    rows = _score_rows("genre", score.genre) | _score_rows("tags", score.tags)
    title = f"Precision at {score.k}, {counted(score.tracks, 'track')} of split '{split}', own group left out"
    facts(screen, title, rows)


def print_json_lines(rows: pl.DataFrame) -> None:
    """Print each row as a JSON object on a line of its own."""
    for row in rows.iter_rows(named=True):
        sys.stdout.write(json.dumps(row, default=str) + "\n")


def write_table(frame: pl.DataFrame, uri: str) -> None:
    """Write a frame as CSV if the name says so, else as Parquet."""
    buffer = io.BytesIO()
    if uri.lower().endswith(".csv"):
        frame.write_csv(buffer)
    else:
        frame.write_parquet(buffer, compression="zstd")
    root, key = split_uri(uri)
    Store(root).write_atomic(key, buffer.getvalue())


def index_text(index: SimilarityIndex) -> str:
    """Return what an index is of, in a line."""
    made = index.manifest
    how = (
        "compared one by one"
        if index.index.is_exact
        else f"by a graph that finds {100 * made.recall:.1f} % of the ten"
    )
    left = f", {made.left_out:,} without an embedding of that bundle" if made.left_out else ""
    return f"{counted(made.count, 'track')} of bundle {made.bundle_fingerprint}{left}; {how}"


def _score_rows(kind: str, precision: Precision) -> dict[str, str | Text]:
    rows: dict[str, str | Text] = {f"{kind}, embedding": figure_text(precision.embedding)}
    if precision.mfcc.value is not None:
        rows[f"{kind}, MFCC statistics"] = figure_text(precision.mfcc)
        rows[f"{kind}, gain (paired)"] = figure_text(precision.gain, signed=True)
    return rows | {f"{kind}, chance": figure_text(precision.chance)}
