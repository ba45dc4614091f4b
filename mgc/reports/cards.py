"""The figures that the evaluation page begins with, put into words."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.genre_metrics import GenreEvaluation
from mgc.evaluation.tag_metrics import TagEvaluation
from mgc.reports.page import decimal, interval_text, percent


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
    return Card(title, percent(figure.value), _interval(figure, True), figure, explained, mark, mark_text)


def _score(title: str, figure: Figure, explained: str, mark: float | None = None, mark_text: str = "") -> Card:
    return Card(title, decimal(figure.value), _interval(figure, False), figure, explained, mark, mark_text)


def _interval(figure: Figure, as_percent: bool) -> str:
    if figure.low is not None and figure.low == figure.high:
        return "no width, see the notes"  # all right or all wrong: resampling cannot tell how nearly
    return interval_text(figure, as_percent)
