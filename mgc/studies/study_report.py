"""An experiment's report: index.html for people, results.json and results.parquet for machines."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from markupsafe import Markup

from mgc.reports.charts import matrix_chart
from mgc.reports.page import interval_text, render
from mgc.reports.svg import learning_chart, numbered
from mgc.storage.store import Store
from mgc.studies.figures import Result, Summary
from mgc.studies.page_view import (
    claim_lines,
    claimed,
    headline_cards,
    headline_system,
    how,
    notes,
    protocol_lines,
    signed,
    verdict,
)
from mgc.studies.runs import code_fingerprint
from mgc.studies.study_charts import (
    category_chart,
    epochs_chart,
    frequency_chart,
    gain_chart,
    protocol_chart,
)
from mgc.studies.summary import summarise
from mgc.studies.tables import ExperimentRun, cell_table, report_json

PAGE_FILE, JSON_FILE, TABLE_FILE = "index.html", "results.json", "results.parquet"
SHOWN_AT_ONCE = 4
"""Confusion matrices, and systems in the charts of tags, that are shown without unfolding."""


def write_report(run: ExperimentRun, uri: str) -> Summary:
    """Write the page and the tables of the finished cells into a folder or prefix; return the figures.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    summary = summarise(run.experiment, run.material, run.cells, run.results)
    store = Store.open(uri)
    store.write_atomic(JSON_FILE, report_json(run, summary).encode())
    table = io.BytesIO()
    cell_table(run).write_parquet(table)
    store.write_atomic(TABLE_FILE, table.getvalue())
    store.write_atomic(PAGE_FILE, experiment_page(run, summary).encode())
    return summary


@dataclass(frozen=True)
class AuditLine:
    """A system's results, a protocol each, and how far they lie apart."""

    system: str
    results: list[Result | None]

    @property
    def spread(self) -> float | None:
        """Highest accuracy minus lowest; None below two."""
        values = [one.accuracy.value for one in self.results if one and one.accuracy.value is not None]
        return max(values) - min(values) if len(values) > 1 else None


def experiment_page(run: ExperimentRun, summary: Summary) -> str:
    """Return the report for people, one HTML page."""
    primary = summary.primary
    details = sorted(summary.under(primary), key=lambda one: -(one.accuracy.value or 0.0))
    protocols = protocol_lines(summary)
    labels = {cell.key: cell.label for cell in run.cells}
    support = details[0].confusion.sum(axis=1) if details else np.zeros(1)
    return render(
        "experiment.html",
        experiment=run.experiment,
        summary=summary,
        material=run.material,
        source=run.experiment.data.catalogue or "",
        primary=primary,
        primary_how=how(run.experiment.protocol(primary)),
        protocols=protocols,
        headline=headline_system(summary),
        verdict=verdict(summary),
        cards=headline_cards(summary),
        audit=[AuditLine(system, [summary.of(system, one.name) for one in protocols]) for system in summary.systems],
        claims=claim_lines(summary),
        details=details,
        majority=float(support.max() / max(1, support.sum())),
        tagger=max((one for one in details if one.tags), key=_macro_roc, default=None),
        charts=_charts(summary, details),
        notes=notes(summary),
        finished=len(run.results),
        planned=len(run.cells),
        missing=len(run.cells) - len(run.results),
        failures=[(labels.get(key, key), message) for key, message in run.failures.items()],
        cell_seconds=sum(float(one.facts.get("seconds") or 0.0) for one in run.results.values()),
        code=code_fingerprint(),
        settings=json.dumps(run.experiment.model_dump(mode="json"), indent=2, ensure_ascii=False),
        interval_text=interval_text,
        signed=signed,
        made_at=datetime.now(UTC),
    )


def _charts(summary: Summary, details: Sequence[Result]) -> dict[str, Any]:
    networks = [one for one in details if one.curves]
    tagged = sorted((one for one in details if one.tags), key=lambda one: -_macro_roc(one))[:SHOWN_AT_ONCE]
    matrices = _apart([(one.system, matrix_chart(summary.genres, one.confusion)) for one in details])
    return {
        "protocols": protocol_chart(summary, claimed(summary)),
        "confusions": matrices[:SHOWN_AT_ONCE],
        "more_confusions": matrices[SHOWN_AT_ONCE:],
        "frequency": frequency_chart(tagged),
        "categories": category_chart(tagged),
        "gain_accuracy": gain_chart(summary.gains, "accuracy", "accuracy"),
        "gain_roc": gain_chart(summary.gains, "roc_auc", "macro ROC-AUC"),
        "epochs": epochs_chart(networks),
        "learning": _apart([(one.system, learning_chart(one.curves)) for one in networks]),
    }


def _apart(named: Sequence[tuple[str, Markup | None]]) -> list[tuple[str, Markup]]:
    """Return the charts that there are, each with ids of its own."""
    return [(name, numbered(drawn, place)) for place, (name, drawn) in enumerate(named) if drawn is not None]


def _macro_roc(one: Result) -> float:
    return (one.tags.roc_auc.value or 0.0) if one.tags else 0.0
