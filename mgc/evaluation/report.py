"""The evaluation report: evaluation.json for machines, index.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from mgc import __version__
from mgc.data.storage import Store
from mgc.evaluation.bootstrap import Figure
from mgc.evaluation.comparison import Comparison
from mgc.evaluation.metrics import Evaluation
from mgc.evaluation.notes import FEW_POSITIVES, notes_of
from mgc.evaluation.page import interval_text, render
from mgc.evaluation.plots import (
    class_f1_chart,
    confidence_chart,
    confusion_chart,
    learning_chart,
    reliability_chart,
    tag_chart,
)

JSON_FILE = "evaluation.json"
PAGE_FILE = "index.html"


@dataclass(frozen=True)
class ReportContext:
    """Where the figures come from.

    Parameters
    ----------
    catalogue, bundle
        URIs of what was evaluated on, and of the model.
    bundle_fingerprint, feature_fingerprint
        Of the model, and of the features it hears.
    protocol
        How the split was made and used, in a sentence.
    config
        Settings, JSON-able.
    histories
        For each member of the ensemble its epochs, as training reports them.
    track_uris
        URI of each track id, so that mistakes can be found and heard.
    comparison
        With the SVM baseline, where it was made.
    """

    catalogue: str
    bundle: str
    bundle_fingerprint: str
    feature_fingerprint: str
    protocol: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    histories: Sequence[Sequence[Mapping[str, Any]]] = ()
    track_uris: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Card:
    """A headline figure, ready to be shown.

    Parameters
    ----------
    text, interval
        As they are read.
    figure
        What the range below is drawn from; None: no range.
    mark, mark_text
        Something to compare with, on the same scale.
    """

    title: str
    text: str
    interval: str
    figure: Figure | None = None
    mark: float | None = None
    mark_text: str = ""
    explained: str = ""


@dataclass(frozen=True)
class Rivalry:
    """One line of the comparison: the same figure of both systems."""

    title: str
    ours: Figure
    rival: Figure
    as_percent: bool


def write_evaluation_report(evaluation: Evaluation, context: ReportContext, uri: str) -> str:
    """Write evaluation.json and index.html into a folder or prefix, and return the page's URI.

    `evaluation.json` is `Evaluation.to_json` with `comparison` (`Comparison.to_json`, or null) and `context`.

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
        cards=_cards(evaluation),
        comparison=context.comparison,
        rivalries=_rivalries(evaluation, context.comparison.evaluation) if context.comparison else [],
        charts=_charts(evaluation, context),
        notes=notes_of(evaluation),
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
        "confidence": confidence_chart(genre.histogram_right, genre.histogram_wrong) if genre else None,
        "tags": tag_chart(tag) if tag and tag.tags_in_mean else None,
        "learning": learning_chart(context.histories),
    }


def _cards(evaluation: Evaluation) -> list[Card]:
    cards = []
    genre, tag = evaluation.genre, evaluation.tag
    if genre:
        cards.append(
            _card(
                "Accuracy",
                genre.accuracy,
                f"of {genre.tracks:,} answered tracks with a known genre",
                as_percent=True,
                mark=genre.majority_share,
                mark_text="always the commonest genre",
            )
        )
        if genre.tracks_with_failures > genre.tracks:
            explained = f"of all {genre.tracks_with_failures:,} tracks with a known genre"
            cards.append(_card("Failures counted as wrong", genre.accuracy_with_failures, explained, as_percent=True))
        cards.append(_card("Macro F1", genre.macro_f1, "every genre counts the same"))
        if genre.top2_accuracy.value is not None:
            explained = "the genre is among the two most probable"
            cards.append(_card("Top-2 accuracy", genre.top2_accuracy, explained, as_percent=True))
        cards.append(
            _card(
                "Calibration error",
                genre.calibration.ece,
                "gap between stated probability and share right; 0 is best",
                mark=genre.calibration.ece_if_perfect,
                mark_text="a perfect model on so few tracks",
            )
        )
    if tag:
        explained = f"mean over {tag.tags_in_mean} tags, {tag.tracks:,} tracks"
        cards.append(_card("Tags: ROC-AUC", tag.roc_auc, explained, mark=0.5, mark_text="chance"))
        cards.append(_card("Tags: PR-AUC", tag.pr_auc, explained, mark=tag.mean_base_rate, mark_text="chance"))
    return cards


def _card(
    title: str,
    figure: Figure,
    explained: str,
    *,
    as_percent: bool = False,
    mark: float | None = None,
    mark_text: str = "",
) -> Card:
    def spoken(value: float | None) -> str:
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if as_percent else f"{value:.3f}"

    compared = f"{mark_text} {spoken(mark)}" if mark is not None else ""
    interval = interval_text(figure, as_percent)
    return Card(title, spoken(figure.value), interval, figure, mark, compared, explained)


def _rivalries(ours: Evaluation, rival: Evaluation) -> list[Rivalry]:
    lines = []
    if ours.genre and rival.genre:
        lines += [
            Rivalry("Accuracy", ours.genre.accuracy, rival.genre.accuracy, True),
            Rivalry("Macro F1", ours.genre.macro_f1, rival.genre.macro_f1, False),
            Rivalry("Top-2 accuracy", ours.genre.top2_accuracy, rival.genre.top2_accuracy, True),
        ]
    if ours.tag and rival.tag:
        lines += [
            Rivalry("Tags: ROC-AUC", ours.tag.roc_auc, rival.tag.roc_auc, False),
            Rivalry("Tags: PR-AUC", ours.tag.pr_auc, rival.tag.pr_auc, False),
        ]
    return [line for line in lines if line.ours.value is not None and line.rival.value is not None]
