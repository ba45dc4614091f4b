"""An experiment's report: index.html for people, results.json and results.parquet for machines."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from mgc import __version__
from mgc.data.storage import Store
from mgc.evaluation.bootstrap import rounded
from mgc.evaluation.canvas import numbered
from mgc.evaluation.curve_plots import learning_chart
from mgc.evaluation.page import interval_text, render
from mgc.evaluation.plots import matrix_chart
from mgc.experiment.cells import Cell, CellResult, code_fingerprint
from mgc.experiment.charts import (
    category_chart,
    epochs_chart,
    frequency_chart,
    gain_chart,
    protocol_chart,
)
from mgc.experiment.material import Material
from mgc.experiment.page_view import (
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
from mgc.experiment.settings import Experiment, headed
from mgc.experiment.summary import Result, Summary, summarise

PAGE_FILE, JSON_FILE, TABLE_FILE = "index.html", "results.json", "results.parquet"
SHOWN_AT_ONCE = 4
"""Confusion matrices, and systems in the charts of tags, that are shown without unfolding."""


@dataclass(frozen=True)
class Run:
    """What there is to report: the cells, what they gave, and why some did not."""

    experiment: Experiment
    material: Material
    cells: Sequence[Cell]
    results: dict[str, CellResult]
    failures: dict[str, str]


def write_report(run: Run, uri: str) -> Summary:
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


def cell_table(run: Run) -> pl.DataFrame:
    """Return a row for each finished cell and head: its accuracy and what it took."""
    truth = dict(run.material.catalogue.select("track_id", "genre").iter_rows())
    genres = run.material.taxonomy.genres
    rows: list[dict[str, Any]] = []
    for result in run.results.values():
        for head, answered in result.answers.items():
            guessed = [genres[int(np.argmax(one))] if one else None for one in answered.genre]
            known = [
                (truth[track], guess) for track, guess in zip(result.tracks, guessed, strict=True) if truth[track]
            ]
            rows.append(
                {
                    "system": headed(result.system, head),
                    "protocol": result.protocol,
                    "fold": result.fold,
                    "seed": result.seed,
                    "tracks": len(result.tracks),
                    "accuracy": float(np.mean([true == guess for true, guess in known])) if known else None,
                    "window_accuracy": sum(answered.windows_right) / max(1, sum(result.windows)),
                    **{name: result.facts.get(name) for name in FACTS},
                    "key": result.key,
                    "code": result.code,
                    "mgc_version": result.version,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None).sort("system", "protocol", "seed", "fold")


FACTS = (
    "train_tracks", "train_windows", "tracks_across", "groups_across", "parameters", "epochs", "train_seconds",
    "answer_seconds", "audio_seconds", "seconds",
)  # fmt: skip


def report_json(run: Run, summary: Summary) -> str:
    """Return the figures for machines."""
    value = {
        "name": run.experiment.name,
        "mgc_version": __version__,
        "code": code_fingerprint(),
        "data": {
            "catalogue": run.experiment.data.catalogue,
            "features": run.experiment.data.features,
            "fingerprint": run.material.fingerprint,
            "tracks": run.material.catalogue.height,
        },
        "cells": {"planned": len(run.cells), "finished": len(run.results), "failed": len(run.failures)},
        "genres": list(summary.genres),
        "results": [_result_json(one) for one in summary.results],
        "gains": [
            {
                "system": one.system,
                "over": one.over,
                "accuracy": one.accuracy.to_json(),
                "roc_auc": one.roc_auc.to_json(),
            }
            for one in summary.gains
        ],
        "claims": [
            {"system": line.system, "paper": line.claim.paper, "accuracy": line.claim.accuracy,
             "figure": line.claim.figure, "protocol": line.claim.protocol}
            for line in claim_lines(summary)
        ],
        "experiment": run.experiment.model_dump(mode="json"),
    }  # fmt: skip
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _result_json(one: Result) -> dict[str, Any]:
    tags = one.tags
    return {
        **{name: getattr(one, name) for name in ("system", "protocol", "cells", "planned", "tracks")},
        **{name: getattr(one, name).to_json() for name in ("accuracy", "window_accuracy", "macro_f1")},
        "recall": [figure.to_json() for figure in one.recall],
        "confusion": one.confusion.tolist(),
        **{
            name: rounded(getattr(one, name))
            for name in ("seed_spread", "peeked", "parameters", "train_seconds", "answer_xrealtime")
        },
        **{name: rounded(getattr(one, name)) for name in ("train_tracks", "tracks_across", "groups_across")},
        "tags": None
        if tags is None
        else {
            "tracks": tags.tracks,
            "macro_roc_auc": tags.roc_auc.to_json(),
            "macro_pr_auc": tags.pr_auc.to_json(),
            "categories": {each.category: each.roc_auc.to_json() for each in tags.categories},
            "tags": {
                each.tag: {
                    "positives": each.positives,
                    "roc_auc": each.roc_auc.to_json(),
                    "pr_auc": each.pr_auc.to_json(),
                }
                for each in tags.tags
            },
        },
    }


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


def experiment_page(run: Run, summary: Summary) -> str:
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
