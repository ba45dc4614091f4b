"""`mgc similar` and `mgc review`: tracks alike, near-duplicates, and the tracks whose label would help most."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgc.catalogue.index import catalogue_root, read_catalogue
from mgc.cli.app import ConfigOption, SetOption, console, plain, settings
from mgc.cli.terminal import counted, facts, figure_text
from mgc.config import EvaluationConfig
from mgc.curation.duplicates import duplicate_groups, read_fingerprints
from mgc.curation.review_queue import READ, ReviewOptions, review_queue
from mgc.curation.similarity import SimilarBy, SimilarityIndex, embedding_matrix, open_index, playlist_of
from mgc.curation.similarity_score import Precision, SimilarityScore, score_similarity
from mgc.errors import ConfigError
from mgc.printable import not_sure
from mgc.storage.store import Store, split_uri
from mgc.tables.csv_cells import csv_of_frame
from mgc.tables.feature_cache import clear_feature_cache
from mgc.tables.feature_shards import read_feature_set
from mgc.tables.predictions import read_predictions

GROUPS_SHOWN = 10
SHOWN = ("uri", "genre", "genre_probability", "abstained")
PLAYLISTS = (".m3u8", ".m3u")


def similar(
    predictions: Annotated[str, typer.Argument(help="directory of `mgc tag`, or a predictions file")],
    tracks: Annotated[list[str] | None, typer.Argument(help="each a track_id, URI, or the end of a path")] = None,
    k: Annotated[int, typer.Option("-k", help="neighbours", min=1)] = 10,
    by: Annotated[
        SimilarBy, typer.Option(help="several tracks: near their centroid, or near any of them")
    ] = SimilarBy.CENTROID,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Parquet or CSV to write; tracks alike: also .m3u8, a playlist"),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="the neighbours of every track, into --output")] = False,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="groups of one recording; needs -c, -f")] = False,
    score: Annotated[bool, typer.Option("--score", help="precision at k by genre and tag; needs -c")] = False,
    catalogue: Annotated[str | None, typer.Option("--catalogue", "-c", help="labels, groups and splits")] = None,
    features: Annotated[str | None, typer.Option("--features", "-f", help="shards of `mgc extract`")] = None,
    split: Annotated[str, typer.Option(help="split that is scored")] = "valid",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    exact: Annotated[bool | None, typer.Option("--exact/--approximate", help="else exact below 20,000")] = None,
    rebuild: Annotated[bool | None, typer.Option("--rebuild/--no-rebuild", help="else where it is stale")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Find the tracks of PREDICTIONS most like TRACKS; an index is built beside the predictions when needed."""
    screen = console()
    if sum([bool(tracks), all_, duplicates, score]) != 1:
        raise ConfigError("nothing to find, or too much", "give one of: tracks, --all, --duplicates, --score")
    if score:
        found = _score(predictions, catalogue, features, split, k, settings(config, set_).evaluation)
        show_score(screen, found, split, as_json=as_json)
    elif duplicates:
        groups = _duplicates(predictions, catalogue, features)
        if output:
            write_table(groups, output)
        show_duplicates(screen, groups, output, as_json=as_json)
    else:
        index = open_index(predictions, rebuild=rebuild)
        if tracks:
            rows = index.similar_to(tracks, k, by=by, exact=exact)
            if output:
                write_table(rows, output, playlist=True)
            show_neighbours(screen, index, rows, tracks, output, as_json=as_json)
        else:
            pairs = index.all_pairs(k, exact=exact)
            target = _given(output, "--all writes a table", "--output")
            write_table(pairs, target)
            show_all(screen, index, pairs.height, target)


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


def show_neighbours(
    screen: Console,
    index: SimilarityIndex,
    rows: pl.DataFrame,
    given: Sequence[str],
    output: str | None = None,
    *,
    as_json: bool,
) -> None:
    """Print the neighbours of the given tracks as a table, or as a JSON object a line."""
    if as_json:
        print_json_lines(rows)
        return
    if len(given) == 1:
        uri, *answer = index.tracks.select(*SHOWN).row(index.row_of(given[0]))
        title = f"Most like {uri} ({_genre_text(*answer)})"
    else:
        how = "nearest to any" if "nearest_to" in rows.columns else "near the centroid"
        title = f"Most like {counted(len(given), 'track')}, {how}"
    table = Table("", "cosine", "genre", "track", title=plain(title, "italic"), title_justify="left")
    for rank, cosine, uri, *answer in rows.select("rank", "cosine", *SHOWN).iter_rows():
        table.add_row(str(rank), f"{cosine:.3f}", plain(_genre_text(*answer)), plain(uri))
    screen.print(table)
    screen.print(plain(index_text(index)), soft_wrap=True)
    if output:
        screen.print(plain(f"{counted(rows.height, 'track')} in {output}"), soft_wrap=True)


def _genre_text(genre: str | None, probability: float | None, abstained: bool | None) -> str:
    if genre is None or probability is None:
        return "–"
    return not_sure(genre, probability) if abstained else f"{genre} {100 * probability:.0f} %"


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
            table.add_row(str(number + 1), plain(uri), f"{seconds:.2f}", f"{correlation:.3f}")
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


def write_table(frame: pl.DataFrame, uri: str, *, playlist: bool = False) -> None:
    """Write a frame as CSV or, where it is tracks to play, a playlist, if the name says so; else as Parquet.

    Raises
    ------
    ConfigError
        The name is a playlist's, and the frame is not one.
    """
    buffer = io.BytesIO()
    if uri.lower().endswith(PLAYLISTS):
        if not playlist:
            raise ConfigError(f"'{uri}' is a playlist's name, and this is a table", "name it .csv or .parquet")
        buffer.write(playlist_of(frame))
    elif uri.lower().endswith(".csv"):
        buffer.write(csv_of_frame(frame))
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


def _score(
    predictions: str, catalogue: str | None, features: str | None, split: str, k: int, config: EvaluationConfig
) -> SimilarityScore:
    tracks = read_catalogue(_given(catalogue, "a score needs labels", "--catalogue"))
    baseline_features = read_feature_set(features, tracks, split) if features else None
    answered = read_predictions(predictions, ["track_id", "embedding"]).filter(pl.col("embedding").is_not_null())
    labelled = tracks.filter((pl.col("split") == split) & (pl.col("genre").is_not_null() | pl.col("tags_known")))
    queries = labelled.join(answered, on="track_id").sort("track_id")
    if baseline_features is not None:
        queries = queries.filter(pl.col("track_id").is_in(baseline_features.track_ids))
        baseline_features = baseline_features.of_tracks(queries["track_id"].to_list())
    if queries.is_empty():
        raise ConfigError(f"no labelled track of split '{split}' has an embedding", "check --split and the catalogue")
    score = score_similarity(queries, embedding_matrix(queries), k, config, baseline_features)
    if features is not None:
        clear_feature_cache(features)
    return score


def _duplicates(predictions: str, catalogue: str | None, features: str | None) -> pl.DataFrame:
    tracks = read_catalogue(_given(catalogue, "duplicates are looked for among a catalogue's tracks", "--catalogue"))
    if features is None:
        raise ConfigError(
            "--features is missing: embeddings cannot tell two encodings from two similar tracks",
            f"mgc similar {predictions} --duplicates -c {catalogue} -f FEATURES, the output of "
            f"`mgc extract {catalogue} -o FEATURES`",
        )
    columns = ["track_id", "uri", "duration_seconds", "embedding"]
    return duplicate_groups(read_predictions(predictions, columns), read_fingerprints(features, tracks))


def _given(value: str | None, why: str, option: str) -> str:
    if value is None:
        raise ConfigError(f"{option} is missing: {why}", f"give {option}")
    return value
