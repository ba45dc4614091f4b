"""`mgc evaluate`: honest figures of a bundle on one split of a labelled catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import polars as pl
import typer
from rich.console import Console

from mgc.catalogue.index import read_catalogue
from mgc.cli.answers import answers_from_predictions, answers_from_shards, both_splits
from mgc.cli.figures import figure_text
from mgc.cli.options import ConfigOption, SetOption, console, settings
from mgc.cli.tables import facts
from mgc.config import Config
from mgc.errors import ConfigError
from mgc.evaluation.answers import LabelledPredictions
from mgc.evaluation.baselines import compare_with_baseline, svm_baseline
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.evaluate import evaluate as figures_of
from mgc.evaluation.significance import BaselineComparison
from mgc.models.bundle import Bundle, load_bundle
from mgc.reports.evaluation_report import ReportContext, write_evaluation_report
from mgc.storage.store import Store

Resampled = Literal["track", "group"]
ALL = "all"
"""Asks about the tracks of every split: of a catalogue that the bundle has never heard, say."""


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
    context = ReportContext(
        catalogue=request.catalogue,
        bundle=request.bundle,
        bundle_fingerprint=bundle.fingerprint,
        feature_fingerprint=bundle.features.fingerprint(),
        protocol=protocol,
        own_catalogue=own,
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


def _answers(request: EvaluationRequest, bundle: Bundle, tracks: pl.DataFrame) -> LabelledPredictions:
    if request.predictions is not None:
        return answers_from_predictions(bundle, request.predictions, tracks, request.split)
    return answers_from_shards(bundle, str(request.features), tracks, request.split)


def _comparison(
    request: EvaluationRequest, bundle: Bundle, tracks: pl.DataFrame, answers: LabelledPredictions
) -> BaselineComparison | None:
    if not request.baseline or request.features is None or request.split == "train":
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
    """Return which tracks the figures come from, and what the bundle knows of them, in words."""
    if not own:
        of = "All splits" if split == ALL else f"Split '{split}'"
        return (
            f"{of} of a catalogue that the bundle was not trained on (that was {bundle.facts['catalogue']}): nothing "
            "here told it when to stop. Whether the two share recordings or artists is not known."
        )
    parts = [_parted(split, tracks)]
    if split in ("train", ALL):
        what = "These tracks were" if split == "train" else "Split 'train' was"
        parts.append(f"{what} trained on: the figures say little about other music.")
    if split in ("valid", ALL):
        what = "this split" if split == "valid" else "split 'valid'"
        parts.append(f"Early stopping and calibration used {what}, so its figures flatter.")
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
