"""The evaluation report: evaluation.json for machines, index.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from mgc import __version__
from mgc.evaluation.evaluate import Evaluation
from mgc.evaluation.significance import BaselineComparison
from mgc.reports.cards import baseline_comparison_rows, headline_cards
from mgc.reports.charts import (
    class_f1_chart,
    confidence_chart,
    confusion_chart,
    coverage_chart,
    reliability_chart,
)
from mgc.reports.curve_plots import learning_chart
from mgc.reports.notes import FEW_POSITIVES, list_caveats
from mgc.reports.page import interval_text, render
from mgc.reports.tag_plots import tag_chart
from mgc.storage.store import Store

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
    own_catalogue
        Whether the splits are those that the bundle was trained by.
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
        notes=list_caveats(evaluation, own_catalogue=context.own_catalogue),
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
        "learning": learning_chart(context.histories),
    }
