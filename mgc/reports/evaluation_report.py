"""The evaluation report: evaluation.json for machines, index.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from mgc import __version__
from mgc.evaluation.bootstrap import EXACT, Figure
from mgc.evaluation.comparison import BaselineComparison
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.genre_metrics import GenreEvaluation
from mgc.evaluation.tag_metrics import TagEvaluation
from mgc.reports.charts import (
    class_f1_chart,
    confidence_chart,
    confusion_chart,
    coverage_chart,
    reliability_chart,
    tag_chart,
)
from mgc.reports.page import decimal, interval_text, percent, render
from mgc.reports.training_report import curves_chart
from mgc.storage.store import Store

JSON_FILE = "evaluation.json"
PAGE_FILE = "index.html"

FEW_TRACKS = 200
FEW_POSITIVES = 10


@dataclass(frozen=True)
class ReportContext:
    """Where the figures come from.

    Parameters
    ----------
    catalogue, bundle
        URIs of what was evaluated on, and of the model.
    bundle_fingerprint, feature_fingerprint
        Of the model, and of the features it reads.
    protocol
        How the split was made and used, in a sentence.
    config
        Settings, JSON-able.
    histories
        For each member of the ensemble its epochs, as training reports them.
    track_uris
        URI of each track id, so that mistakes can be found and played.
    comparison
        With the SVM baseline, where it was made.
    own_catalogue
        Whether the splits are those that the bundle was trained by.
    learnt_splits
        Those that it learnt from.
    """

    catalogue: str
    bundle: str
    bundle_fingerprint: str
    feature_fingerprint: str
    protocol: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    histories: Sequence[Sequence[Mapping[str, Any]]] = ()
    track_uris: Mapping[str, str] = field(default_factory=dict)
    comparison: BaselineComparison | None = None
    own_catalogue: bool = True
    learnt_splits: Sequence[str] = ("train",)
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def write_evaluation_report(evaluation: Evaluation, context: ReportContext, uri: str) -> str:
    """Write evaluation.json and index.html into a folder or prefix, and return the page's URI.

    `evaluation.json` is `Evaluation.to_json` with `comparison` (`BaselineComparison.to_json`, or null) and `context`.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    store = Store.open(uri)
    store.write_atomic(JSON_FILE, report_json(evaluation, context).encode())
    store.write_atomic(PAGE_FILE, evaluation_page(evaluation, context).encode())
    return store.uri(PAGE_FILE)


def report_json(evaluation: Evaluation, context: ReportContext) -> str:
    """Return the report for machines."""
    names = ("catalogue", "bundle", "bundle_fingerprint", "feature_fingerprint", "protocol")
    value = evaluation.to_json() | {
        "comparison": context.comparison.to_json() if context.comparison else None,
        "context": {
            **{name: getattr(context, name) for name in names},
            "config": dict(context.config),
            "mgc_version": __version__,
            "made_at": context.made_at.isoformat(),
        },
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def evaluation_page(evaluation: Evaluation, context: ReportContext) -> str:
    """Return the report for people, one HTML page."""
    return render(
        "evaluation.html",
        evaluation=evaluation,
        context=context,
        cards=headline_cards(evaluation),
        comparison=context.comparison,
        baseline_comparison_rows=baseline_comparison_rows(evaluation, context.comparison.evaluation)
        if context.comparison
        else [],
        charts=_charts(evaluation, context),
        notes=list_caveats(evaluation, context.learnt_splits if context.own_catalogue else None),
        few_positives=FEW_POSITIVES,
        config=json.dumps(context.config, indent=2, ensure_ascii=False),
        interval_text=interval_text,
    )


def _charts(evaluation: Evaluation, context: ReportContext) -> dict[str, Markup | None]:
    genre, tag = evaluation.genre, evaluation.tag
    return {
        "confusion": confusion_chart(genre) if genre else None,
        "f1": class_f1_chart(genre) if genre else None,
        "reliability": reliability_chart(genre) if genre else None,
        "coverage": coverage_chart(genre) if genre else None,
        "confidence": confidence_chart(genre.histogram_right, genre.histogram_wrong) if genre else None,
        "tags": tag_chart(tag) if tag and tag.tags_in_mean else None,
        "learning": curves_chart(context.histories),
    }


# Cards: the figures that the page begins with.


@dataclass(frozen=True)
class Card:
    """A headline figure, ready to be shown.

    Parameters
    ----------
    text, interval
        As they are read.
    figure
        What the range below is drawn from.
    mark, mark_text
        Something to compare with, on the same scale.
    """

    title: str
    text: str
    interval: str
    figure: Figure
    explained: str
    mark: float | None = None
    mark_text: str = ""


@dataclass(frozen=True)
class BaselineComparisonRow:
    """One line of the comparison: the same figure of both systems."""

    title: str
    ours: Figure
    baseline: Figure
    as_percent: bool


def headline_cards(evaluation: Evaluation) -> list[Card]:
    """Return the figures that the page begins with."""
    genre = _genre_cards(evaluation.genre) if evaluation.genre else []
    return [*genre, *(_tag_cards(evaluation.tag) if evaluation.tag else [])]


def baseline_comparison_rows(ours: Evaluation, baseline: Evaluation) -> list[BaselineComparisonRow]:
    """Return the figures that both systems have."""
    lines = []
    if ours.genre and baseline.genre:
        lines += [
            BaselineComparisonRow("Accuracy", ours.genre.accuracy, baseline.genre.accuracy, True),
            BaselineComparisonRow("Macro F1", ours.genre.macro_f1, baseline.genre.macro_f1, False),
            BaselineComparisonRow("Top-2 accuracy", ours.genre.top2_accuracy, baseline.genre.top2_accuracy, True),
        ]
    if ours.tag and baseline.tag:
        lines += [
            BaselineComparisonRow("Tags: ROC-AUC", ours.tag.roc_auc, baseline.tag.roc_auc, False),
            BaselineComparisonRow("Tags: PR-AUC", ours.tag.pr_auc, baseline.tag.pr_auc, False),
        ]
    return [line for line in lines if line.ours.value is not None and line.baseline.value is not None]


def _genre_cards(genre: GenreEvaluation) -> list[Card]:
    majority = f"always the commonest genre {percent(genre.majority_share)}"
    answered = f"of {genre.tracks:,} answered tracks with a known genre"
    cards = [_share("Accuracy", genre.accuracy, answered, genre.majority_share, majority)]
    if genre.tracks_with_failures > genre.tracks:
        denominator = f"of all {genre.tracks_with_failures:,} tracks with a known genre"
        cards.append(_share("Failures counted as wrong", genre.accuracy_with_failures, denominator))
    cards.append(_score("Macro F1", genre.macro_f1, "every genre counts the same"))
    if genre.top2_accuracy.value is not None:
        cards.append(_share("Top-2 accuracy", genre.top2_accuracy, "the genre is among the two most probable"))
    floor = genre.calibration.ece_if_perfect
    gap = "gap between stated probability and share right; 0 is best"
    perfect = f"a perfect model on so few tracks {decimal(floor)}"
    cards.append(_score("Calibration error", genre.calibration.ece, gap, floor, perfect))
    return cards


def _tag_cards(tag: TagEvaluation) -> list[Card]:
    over = f"mean over {tag.tags_in_mean} tags, {tag.tracks:,} tracks"
    chance = f"chance {decimal(tag.mean_base_rate)}"
    return [
        _score("Tags: ROC-AUC", tag.roc_auc, over, 0.5, "chance 0.500"),
        _score("Tags: PR-AUC", tag.pr_auc, over, tag.mean_base_rate, chance),
    ]


def _share(title: str, figure: Figure, explained: str, mark: float | None = None, mark_text: str = "") -> Card:
    return Card(title, percent(figure.value), interval_text(figure, True), figure, explained, mark, mark_text)


def _score(title: str, figure: Figure, explained: str, mark: float | None = None, mark_text: str = "") -> Card:
    return Card(title, decimal(figure.value), interval_text(figure, False), figure, explained, mark, mark_text)


# Caveats: what the figures say and do not say, as far as the figures themselves tell.


def list_caveats(evaluation: Evaluation, learnt_splits: Sequence[str] | None = ("train",)) -> list[str]:
    """Return the notes that a reader of these figures needs, the weightiest first.

    Parameters
    ----------
    learnt_splits
        Those that the model learnt from; None: the catalogue is another than it was trained by.
    """
    notes = [] if learnt_splits is None else _about_split(evaluation, learnt_splits)
    if evaluation.genre:
        notes += _about_genre(evaluation, evaluation.genre)
    if evaluation.tag:
        notes += _about_tags(evaluation.tag)
    return [*notes, *_about_intervals(evaluation)]


def _about_split(evaluation: Evaluation, learnt: Sequence[str]) -> list[str]:
    better = "test" if "valid" in learnt else "valid or test"
    if evaluation.split == "all":
        return [
            "Among these tracks are those the model was trained on, or that decided about it. The figures flatter: "
            f"evaluate on split {better}."
        ]
    if evaluation.split in learnt:
        return [
            "These are the tracks the model was trained on. The figures say how well it remembers them, not how "
            f"well it knows music: evaluate on split {better}."
        ]
    if evaluation.split == "valid":
        return [
            "Probabilities were calibrated, and training that stopped early was stopped, by the validation split, "
            "so its figures flatter a little. A test split that nothing was chosen by would be cleaner."
        ]
    return []


def _about_genre(evaluation: Evaluation, genre: GenreEvaluation) -> list[str]:
    notes = []
    if evaluation.failed_by_code:
        notes.append(
            f"{_tracks(sum(evaluation.failed_by_code.values()))} gave no answer and are in no figure but one: "
            "“failures counted as wrong”, where a track whose genre is known and that has no right answer is wrong."
        )
    if evaluation.outside_genres:
        notes.append(
            f"{_tracks(evaluation.outside_tracks)} of genres the model never learned "
            f"({', '.join(evaluation.outside_genres)}) count as wrong in “failures counted as wrong”, and in no "
            "other figure."
        )
    notes += _about_size(genre)
    empty = [one.genre for one in genre.classes if not one.support]
    if empty:
        notes.append(
            f"No track of {', '.join(empty)} is in this split: nothing is known of how well it is recognised, and "
            "it is not in the macro F1."
        )
    floor, ece = genre.calibration.ece_if_perfect, genre.calibration.ece.value
    if floor is not None and ece is not None:
        verdict = "hardly more than that" if ece < 1.5 * floor else "clearly more than that"
        notes.append(
            f"Calibration error is biased upwards: with {_tracks(genre.tracks)} a perfectly honest model would show "
            f"{floor:.3f} by luck alone. What was found, {ece:.3f}, is {verdict}."
        )
    return notes


def _about_size(genre: GenreEvaluation) -> list[str]:
    notes = []
    low, high = genre.accuracy.low, genre.accuracy.high
    if low is not None and high is not None and genre.accuracy.value in (0.0, 1.0):
        notes.append(
            f"Resampling never met {'a mistake' if genre.accuracy.value else 'a right answer'}. That does not make "
            f"the accuracy certain: its interval, {low:.1%} to {high:.1%}, is exact. What no resample changes and is "
            "no share, as the macro F1, has no interval."
        )
    elif low is not None and high is not None and genre.tracks < FEW_TRACKS:
        notes.append(
            f"{_tracks(genre.tracks)} pin the accuracy down to no better than {50 * (high - low):.0f} points either "
            "way. Differences smaller than that are not to be believed, those between single genres still less."
        )
    return notes


def _about_tags(tag: TagEvaluation) -> list[str]:
    notes = [
        "PR-AUC depends on how common a tag is: compare it with the tag's own base rate, not with another tag or "
        "another catalogue. ROC-AUC does not (0.5 is chance), but looks good easily where a tag is rare. With few "
        "examples PR-AUC comes out too high; the interval of its mean is corrected for that and so leans downwards."
    ]
    rare = [one.tag for one in tag.tags if max(1, tag.min_positives) <= one.positives < FEW_POSITIVES]
    if rare:
        notes.append(
            f"{_counted(len(rare), 'tag')} with fewer than {FEW_POSITIVES} examples here: their figures, and the "
            "share they have in the means, rest on very little."
        )
    rarer = sum(one.roc_auc.value is not None and one.positives < tag.min_positives for one in tag.tags)
    if rarer:
        notes.append(
            f"The means are over tags that {tag.min_positives} tracks or more have here; rarer ones, "
            f"{rarer} of {len(tag.tags)}, are in the table alone."
        )
    left_out = len(tag.tags) - tag.tags_in_mean - rarer
    if left_out:
        notes.append(
            f"{_counted(left_out, 'tag')} that no track here has, or every one: no figure can be given, and they "
            "are not in the means."
        )
    return notes


def _about_intervals(evaluation: Evaluation) -> list[str]:
    percent = f"{100 * evaluation.confidence:g} %"
    notes = [
        f"Intervals are {percent} bootstrap intervals from {evaluation.bootstrap_samples:,} resamples of "
        f"{evaluation.resample}s; {EXACT} They cover the luck of which {evaluation.resample}s are in this split. "
        "They do not cover wrong labels, another training run, or music unlike this catalogue's."
    ]
    if evaluation.resample == "track" and evaluation.groups < evaluation.tracks:
        notes.append(
            f"The {_tracks(evaluation.tracks)} come from {_counted(evaluation.groups, 'group')} (artists, works), "
            "and tracks of one group resemble each other: true intervals are wider. Resample by group to see."
        )
    return notes


def _tracks(number: int) -> str:
    return _counted(number, "track")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
