"""`mgc evaluate` and `mgc probe`: figures of bundles, and of their frozen embeddings, on one split of a catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from mgc.arrays import Float64Array
from mgc.catalogue.index import read_catalogue
from mgc.cli.app import ConfigOption, SetOption, console, plain, settings
from mgc.cli.terminal import facts, figure_text
from mgc.config import Config
from mgc.config.taxonomy import Taxonomy
from mgc.errors import ConfigError, FingerprintError, SchemaError, TrainingError
from mgc.evaluation.answers import (
    Failure,
    LabelledPredictions,
    answers_from_tables,
    genre_indices,
    names_outside,
    tag_vectors,
)
from mgc.evaluation.baselines import NAME, compare_with_baseline, fit_svm_baseline, mfcc_statistics, svm_baseline
from mgc.evaluation.comparison import BaselineComparison
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.evaluate import evaluate as figures_of
from mgc.inference.predictor import Predictor, TrackPrediction
from mgc.models.bundle import Bundle, load_bundle
from mgc.models.forward import TRACKS_AT_ONCE
from mgc.models.model_card import learnt_splits
from mgc.reports.evaluation_report import ReportContext, write_evaluation_report
from mgc.storage.store import Store, split_uri
from mgc.tables.feature_cache import clear_feature_cache
from mgc.tables.feature_shards import FeatureSet, failed_tracks, read_feature_set
from mgc.tables.predictions import read_predictions
from mgc.training.batches import require_sound

ALL = "all"
"""The tracks of every split: of a catalogue that the bundle was not trained on, say."""
Resampled = Literal["track", "group"]


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, on what, against what."""

    catalogue: str
    bundle: str
    output: str
    config: Config
    split: str = "valid"
    features: str | None = None
    predictions: str | None = None
    baseline: bool = True
    resample: Resampled = "track"


def evaluate(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet with labels and splits")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="the model bundle")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the report")],
    features: Annotated[str | None, typer.Option("--features", "-f", help="shards to answer from")] = None,
    predictions: Annotated[str | None, typer.Option(help="or: predictions that `mgc tag` wrote")] = None,
    split: Annotated[str, typer.Option(help="train, valid, test, unlisted, or all")] = "valid",
    baseline: Annotated[bool, typer.Option(help="also fit an SVM on MFCC statistics (needs --features)")] = True,
    resample: Annotated[Resampled, typer.Option(help="what the bootstrap draws")] = "track",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Score BUNDLE on a split: accuracy, F1, tag AUCs, each with an interval, as JSON and a page."""
    chosen = settings(config, set_)
    if features is None and predictions is None:
        raise ConfigError("nothing to evaluate", "give --features (shards) or --predictions (of mgc tag)")
    request = EvaluationRequest(catalogue, bundle, output, chosen, split, features, predictions, baseline, resample)
    run_evaluation(console(), request)


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
    """Fit an SVM (genre) and logistic regressions (tags) on frozen embeddings of split 'train'; score SPLIT."""
    chosen = settings(config, set_)
    if len(bundle) != len(features):
        raise ConfigError(
            f"{len(bundle)} --bundle and {len(features)} --features", "give the shards of each bundle, in this order"
        )
    tracks = read_catalogue(catalogue)
    found: dict[str, Evaluation] = {}
    for uri, shards in zip(bundle, features, strict=True):
        train_set, evaluation_set = both_splits(shards, tracks, split)
        if train_set.features.content == "log_mel":
            found.setdefault(NAME, _figures(mfcc_statistics, train_set, evaluation_set, chosen))
        found[f"SVM on the embedding of {uri}"] = _figures(
            _embedder(load_bundle(uri)), train_set, evaluation_set, chosen
        )
    for shards in features:
        clear_feature_cache(shards)
    if output is not None:
        figures = {name: one.to_json() for name, one in found.items()}
        place = split_uri(output)
        Store.open(place.root).write_atomic(place.key, json.dumps(figures, indent=2).encode())
    _show(console(), split, found)
    console().print(
        f"Tags that {chosen.training.min_tag_positives} tracks of 'train' have, as `mgc train` learns by default: "
        "`mgc evaluate` asks its SVM for those of the bundle, which may be others.",
        style="dim",
    )


def run_evaluation(screen: Console, request: EvaluationRequest) -> str:
    """Evaluate, write the report, print the headline figures; return the page's URI."""
    tracks = read_catalogue(request.catalogue)
    bundle = load_bundle(request.bundle)
    own = _is_own(request.catalogue, bundle)
    protocol = _protocol(request.split, bundle, tracks, own=own)
    if request.split == ALL:
        tracks = tracks.with_columns(split=pl.lit(ALL))
    answers = _answers(request, bundle, tracks)
    evaluation = figures_of(answers, request.config.evaluation, request.resample)
    comparison = _comparison(request, bundle, tracks, answers)
    if request.features is not None:
        clear_feature_cache(request.features)
    context = ReportContext(
        catalogue=request.catalogue,
        bundle=request.bundle,
        bundle_fingerprint=bundle.fingerprint,
        feature_fingerprint=bundle.features.fingerprint(),
        protocol=protocol,
        own_catalogue=own,
        learnt_splits=learnt_splits(bundle.facts),
        config={
            "features": bundle.features.model_dump(mode="json"),
            "model": [member.config.model_dump(mode="json") for member in bundle.members],
            "training": bundle.training.model_dump(mode="json"),
        },
        histories=bundle.facts.get("histories", []),
        track_uris=dict(tracks.select("track_id", "uri").iter_rows()),
        comparison=comparison,
    )
    page = write_evaluation_report(evaluation, context, request.output)
    heading = {"catalogue": request.catalogue, "protocol": protocol}
    facts(
        screen, f"Evaluation on split '{request.split}'", {**heading, **_rows(evaluation, comparison), "report": page}
    )
    return page


def answers_from_shards(
    bundle: Bundle, features_uri: str, catalogue: pl.DataFrame, split: str
) -> LabelledPredictions:
    """Return the ensemble's answers for a split's shards, failed extractions among `failed`.

    Raises
    ------
    FingerprintError
        The shards were not made as the bundle's training features were.
    SchemaError
        Features are not finite.
    """
    tracks = _sound_features(features_uri, catalogue, split)
    parts = [
        (np.stack([one.genre_probabilities for one in some]), np.stack([one.tag_probabilities for one in some]))
        for some in _predicted(Predictor(bundle), tracks)
    ]
    genre_probabilities, tag_probabilities = (
        np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)
    )
    genres, tags = bundle.taxonomy.genres, bundle.taxonomy.tags
    return LabelledPredictions(
        track_ids=tracks.track_ids,
        groups=tracks.groups,
        genres=genres,
        tags=tags,
        genre_true=genre_indices(tracks.genres, genres),
        genre_probabilities=genre_probabilities,
        tag_true=tag_vectors(tracks.tags, tags),
        tags_known=np.array(tracks.tags_known, dtype=bool),
        tag_probabilities=tag_probabilities,
        failed=[Failure(*row) for row in failed_tracks(features_uri, catalogue, split).iter_rows()],
        outside_genres=names_outside(tracks.genres, genres),
        split=split,
        abstain_below=bundle.decision.abstain_below,
        abstain_precision=bundle.decision.abstain_precision,
    )


def answers_from_predictions(
    bundle: Bundle, predictions_uri: str, catalogue: pl.DataFrame, split: str
) -> LabelledPredictions:
    """Return the answers that a tagging run wrote.

    Raises
    ------
    FingerprintError
        They are another bundle's.
    """
    predictions = read_predictions(predictions_uri)
    of_other = pl.col("bundle_fingerprint") != bundle.fingerprint
    if "stale_reason" in predictions.columns:
        # An older bundle's answer stands in `current` for one that this bundle could not give: that is a failure.
        stale = of_other & pl.col("stale_reason").is_not_null()
        code = pl.when(stale).then("stale_reason").otherwise("error_code")
        predictions, of_other = predictions.with_columns(error_code=code), of_other & ~stale
    others = predictions.filter(of_other)
    if not others.is_empty():
        raise FingerprintError(
            f"{others.height} predictions in '{predictions_uri}' are of bundle {others['bundle_fingerprint'][0]}, "
            f"not of {bundle.fingerprint}",
            "give the bundle that made them, or tag again with this one",
        )
    answers = answers_from_tables(predictions, catalogue, split, bundle.taxonomy.genres, bundle.taxonomy.tags)
    decision = bundle.decision
    return replace(answers, abstain_below=decision.abstain_below, abstain_precision=decision.abstain_precision)


def both_splits(features_uri: str, catalogue: pl.DataFrame, split: str) -> tuple[FeatureSet, FeatureSet]:
    """Return the training tracks and those of `split`, for a baseline to be fitted and evaluated."""
    return _sound_features(features_uri, catalogue, "train"), _sound_features(features_uri, catalogue, split)


def _predicted(predictor: Predictor, tracks: FeatureSet) -> Iterator[list[TrackPrediction]]:
    predictor.check_features(tracks.feature_fingerprint)
    for start in range(0, len(tracks), TRACKS_AT_ONCE):
        yield predictor.predict(tracks.log_mels[start : start + TRACKS_AT_ONCE])


def _sound_features(features_uri: str, catalogue: pl.DataFrame, split: str) -> FeatureSet:
    tracks = read_feature_set(features_uri, catalogue, split)
    try:
        require_sound(tracks)
    except TrainingError as error:
        raise SchemaError(f"'{features_uri}': {error.message}", error.remedy) from error
    return tracks


def _answers(request: EvaluationRequest, bundle: Bundle, tracks: pl.DataFrame) -> LabelledPredictions:
    if request.predictions is not None:
        return answers_from_predictions(bundle, request.predictions, tracks, request.split)
    return answers_from_shards(bundle, str(request.features), tracks, request.split)


def _comparison(
    request: EvaluationRequest, bundle: Bundle, tracks: pl.DataFrame, answers: LabelledPredictions
) -> BaselineComparison | None:
    no_mels = bundle.features.content != "log_mel"  # the baseline is of MFCC
    if not request.baseline or request.features is None or request.split == "train" or no_mels:
        return None
    if not tracks.filter(
        (pl.col("split") == "train") & (pl.col("genre").is_not_null() | pl.col("tags_known"))
    ).height:
        return None
    train_set, evaluation_set = both_splits(request.features, tracks, request.split)
    baseline = svm_baseline(train_set, evaluation_set, bundle.taxonomy, request.config.evaluation.seed)
    return compare_with_baseline(answers, baseline, request.config.evaluation, request.resample)


def _is_own(catalogue: str, bundle: Bundle) -> bool:
    """Return whether a catalogue is the one that the bundle says it was trained on."""
    named = bundle.facts.get("catalogue")
    return named is None or Store.open(str(named)).uri() == Store.open(catalogue).uri()


def _protocol(split: str, bundle: Bundle, tracks: pl.DataFrame, *, own: bool) -> str:
    """Return which tracks the figures come from, and what the bundle knows of them, as text."""
    if not own:
        of = "All splits" if split == ALL else f"Split '{split}'"
        return (
            f"{of} of a catalogue that the bundle was not trained on (that was {bundle.facts['catalogue']}): nothing "
            "here stopped it early. Whether the two share recordings or artists is not known."
        )
    parts = [_parted(split, tracks)]
    learnt = learnt_splits(bundle.facts)
    if split in (*learnt, ALL):
        splits = f"Split{'s' if len(learnt) > 1 else ''} {' and '.join(map(repr, learnt))}"
        what = f"{splits} {'were' if len(learnt) > 1 else 'was'}" if split == ALL else "These tracks were"
        parts.append(f"{what} trained on: the figures say little about other music.")
    if split in ("valid", ALL) and "valid" not in learnt:
        what = "this split" if split == "valid" else "split 'valid'"
        parts.append(f"Calibration, and early stopping if there was any, used {what}, so its figures flatter.")
    trained_on = bundle.facts.get("train_groups")
    if trained_on:
        parts.append(f"The bundle was trained on {trained_on:,} groups.")
    return " ".join(parts)


def _parted(split: str, tracks: pl.DataFrame) -> str:
    if split == ALL:
        return "All splits of the catalogue that the bundle was trained on."
    groups = tracks.filter(pl.col("split").is_in(["train", split]))
    crossing = groups.group_by("group").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).height
    if split != "train" and crossing:
        return f"One fixed split; {crossing} groups stand both in 'train' and in '{split}'."
    return "One fixed split; no group (artist, work) stands in two splits."


def _rows(evaluation: Evaluation, comparison: BaselineComparison | None) -> dict[str, str]:
    rows = {"tracks": f"{evaluation.tracks:,} of {evaluation.groups:,} groups, {evaluation.answered:,} answered"}
    if evaluation.genre:
        rows["accuracy"] = figure_text(evaluation.genre.accuracy)
        if evaluation.genre.tracks_with_failures != evaluation.genre.tracks:
            rows["accuracy, failures wrong"] = figure_text(evaluation.genre.accuracy_with_failures)
        rows["macro F1"] = figure_text(evaluation.genre.macro_f1)
    if evaluation.genre and evaluation.genre.selective.abstention:
        abstention = evaluation.genre.selective.abstention
        rows["answered, not abstained"] = (
            f"{figure_text(abstention.coverage)}, accuracy of those {figure_text(abstention.accuracy)}"
        )
    if comparison and comparison.evaluation.genre:
        rows[f"accuracy, {comparison.baseline}"] = figure_text(comparison.evaluation.genre.accuracy)
        rows["difference (paired)"] = figure_text(comparison.accuracy_difference, signed=True)
    if evaluation.tag:
        if evaluation.tag.min_positives > 1:
            rows["tags in the means"] = (
                f"{evaluation.tag.tags_in_mean} of {len(evaluation.tag.tags)}, "
                f"with {evaluation.tag.min_positives} tracks or more"
            )
        rows["tag PR-AUC (macro)"] = figure_text(evaluation.tag.pr_auc)
        rows["tag ROC-AUC (macro)"] = figure_text(evaluation.tag.roc_auc)
        for one in evaluation.tag.categories:
            rows[f"  {one.category}: {one.tags_in_mean} tags"] = (
                f"ROC-AUC {figure_text(one.roc_auc)}  PR-AUC {figure_text(one.pr_auc)}"
            )
    if comparison and comparison.evaluation.tag:
        rows["tag PR-AUC, logistic regression"] = figure_text(comparison.evaluation.tag.pr_auc)
    return rows


def _embedder(bundle: Bundle) -> Callable[[FeatureSet], Float64Array]:
    predictor = Predictor(bundle)

    def embed(tracks: FeatureSet) -> Float64Array:
        parts = [np.stack([one.embedding for one in some]) for some in _predicted(predictor, tracks)]
        return np.concatenate(parts).astype(np.float64)

    return embed


def _figures(
    embed: Callable[[FeatureSet], Float64Array], train_set: FeatureSet, evaluation_set: FeatureSet, config: Config
) -> Evaluation:
    known = [tags for tags, is_known in zip(train_set.tags, train_set.tags_known, strict=True) if is_known]
    taxonomy = Taxonomy.from_labels(train_set.genres, known, config.training.min_tag_positives)
    baseline = fit_svm_baseline(embed, train_set, evaluation_set, taxonomy, config.evaluation.seed)
    return figures_of(baseline.answers, config.evaluation)


def _show(screen: Console, split: str, found: dict[str, Evaluation]) -> None:
    table = Table(
        "", "genre accuracy", "tag PR-AUC, macro", "tag ROC-AUC, macro", title=plain(f"split '{split}'", "italic")
    )
    for name, one in found.items():
        tags: Any = one.tag
        cells = [one.genre.accuracy if one.genre else None, *((tags.pr_auc, tags.roc_auc) if tags else (None, None))]
        table.add_row(plain(name), *("–" if cell is None else figure_text(cell) for cell in cells))
    screen.print(table)
