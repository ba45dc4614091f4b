"""`mgc probe`: how much of genre and tags is in a bundle's embedding, trained on them or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mgc.arrays import Float64Array
from mgc.catalogue.index import read_catalogue
from mgc.cli.answers import TRACKS_AT_ONCE, both_splits
from mgc.cli.options import ConfigOption, SetOption, console, settings
from mgc.config import Config
from mgc.errors import ConfigError
from mgc.evaluation.baselines import NAME, fit_svm_baseline, mfcc_statistics
from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.evaluate import evaluate as figures_of
from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle, load_bundle
from mgc.storage.store import Store, split_uri
from mgc.tables.feature_shards import FeatureSet


def probe(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet with labels and splits")],
    bundle: Annotated[list[str], typer.Option("--bundle", "-b", help="whose embedding; may be given again")],
    features: Annotated[list[str], typer.Option("--features", "-f", help="its shards; one for each --bundle")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="also write the figures there, as JSON")
    ] = None,
    split: Annotated[str, typer.Option(help="valid, test or unlisted")] = "valid",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Fit an SVM (genre) and logistic regressions (tags) on frozen embeddings of split 'train', and ask SPLIT."""
    chosen = settings(config, set_)
    if len(bundle) != len(features):
        raise ConfigError(
            f"{len(bundle)} --bundle and {len(features)} --features", "give the shards of each bundle, in this order"
        )
    tracks = read_catalogue(catalogue)
    found: dict[str, Evaluation] = {}
    for uri, shards in zip(bundle, features, strict=True):
        train_set, evaluation_set = both_splits(shards, tracks, split)
        found.setdefault(NAME, _figures(mfcc_statistics, train_set, evaluation_set, chosen))
        found[f"SVM on the embedding of {uri}"] = _figures(
            _embedder(load_bundle(uri)), train_set, evaluation_set, chosen
        )
    if output is not None:
        figures = {name: one.to_json() for name, one in found.items()}
        place = split_uri(output)
        Store.open(place.root).write_atomic(place.key, json.dumps(figures, indent=2).encode())
    _show(console(), split, found)


def _embedder(bundle: Bundle) -> Callable[[FeatureSet], Float64Array]:
    predictor = Predictor(bundle)

    def embed(tracks: FeatureSet) -> Float64Array:
        predictor.check_features(tracks.feature_fingerprint)
        starts = range(0, len(tracks), TRACKS_AT_ONCE)
        parts = [predictor.predict(tracks.log_mels[start : start + TRACKS_AT_ONCE]) for start in starts]
        return np.stack([one.embedding for part in parts for one in part]).astype(np.float64)

    return embed


def _figures(
    embed: Callable[[FeatureSet], Float64Array], train_set: FeatureSet, evaluation_set: FeatureSet, config: Config
) -> Evaluation:
    return figures_of(
        fit_svm_baseline(embed, train_set, evaluation_set, seed=config.evaluation.seed).answers, config.evaluation
    )


def _show(screen: Console, split: str, found: dict[str, Evaluation]) -> None:
    table = Table("", "genre accuracy", "tag PR-AUC, macro", "tag ROC-AUC, macro", title=f"split '{split}'")
    for name, one in found.items():
        tags: Any = one.tag
        cells = [one.genre.accuracy if one.genre else None, *((tags.pr_auc, tags.roc_auc) if tags else (None, None))]
        table.add_row(name, *(_text(cell) for cell in cells))
    screen.print(table)


def _text(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    return (
        f"{figure.value:.3f}" if figure.low is None else f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    )
