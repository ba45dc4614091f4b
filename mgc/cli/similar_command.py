"""`mgc similar`: the tracks most like one, like each, near-duplicates, and how good that is."""

from __future__ import annotations

from typing import Annotated

import polars as pl
import typer

from mgc.catalogue.index import read_catalogue
from mgc.cli.options import ConfigOption, SetOption, console, settings
from mgc.cli.similar_show import show_all, show_duplicates, show_neighbours, show_score, write_table
from mgc.config import EvaluationConfig
from mgc.curation.duplicates import duplicate_groups, read_fingerprints
from mgc.curation.similarity import embedding_matrix, open_index
from mgc.curation.similarity_score import SimilarityScore, score_similarity
from mgc.errors import ConfigError
from mgc.tables.feature_shards import read_feature_set
from mgc.tables.predictions import read_predictions


def similar(
    predictions: Annotated[str, typer.Argument(help="directory of `mgc tag`, or a predictions file")],
    track: Annotated[str | None, typer.Argument(help="track_id, URI, or the end of a path")] = None,
    k: Annotated[int, typer.Option("-k", help="neighbours", min=1)] = 10,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Parquet or CSV to write")] = None,
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
    """Find the tracks of PREDICTIONS most like TRACK; an index is built beside the predictions when needed."""
    screen = console()
    if sum([track is not None, all_, duplicates, score]) != 1:
        raise ConfigError("nothing to find, or too much", "give one of: a track, --all, --duplicates, --score")
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
        if track is not None:
            rows = index.similar_to(track, k, exact=exact)
            show_neighbours(screen, index, rows, index.row_of(track), as_json=as_json)
        else:
            pairs = index.all_pairs(k, exact=exact)
            target = _given(output, "--all writes a table", "--output")
            write_table(pairs, target)
            show_all(screen, index, pairs.height, target)


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
    return score_similarity(queries, embedding_matrix(queries), k, config, baseline_features)


def _duplicates(predictions: str, catalogue: str | None, features: str | None) -> pl.DataFrame:
    tracks = read_catalogue(_given(catalogue, "duplicates are looked for among a catalogue's tracks", "--catalogue"))
    shards = _given(features, "embeddings cannot tell two encodings from two similar tracks", "--features")
    columns = ["track_id", "uri", "duration_seconds", "embedding"]
    return duplicate_groups(read_predictions(predictions, columns), read_fingerprints(shards, tracks))


def _given(value: str | None, why: str, option: str) -> str:
    if value is None:
        raise ConfigError(f"{option} is missing: {why}", f"give {option}")
    return value
