"""An experiment's figures for machines: results.json, and a row a cell for results.parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mgc import __version__
from mgc.evaluation.bootstrap import rounded
from mgc.studies.figures import Result, Summary
from mgc.studies.page_view import claim_lines
from mgc.studies.runs import Cell, CellResult, code_fingerprint
from mgc.studies.study_data import Material
from mgc.studies.study_settings import Experiment, headed


@dataclass(frozen=True)
class ExperimentRun:
    """What there is to report: the cells, what they gave, and why some did not."""

    experiment: Experiment
    material: Material
    cells: Sequence[Cell]
    results: dict[str, CellResult]
    failures: dict[str, str]


def cell_table(run: ExperimentRun) -> pl.DataFrame:
    """Return a row for each finished cell and head: its accuracy and what it took."""
    truth = dict(run.material.catalogue.select("track_id", "genre").iter_rows())
    genres = run.material.taxonomy.genres
    rows: list[dict[str, Any]] = []
    for result in run.results.values():
        for head, answered in result.answers.items():
            predictions = [genres[int(np.argmax(one))] if one else None for one in answered.genre]
            known = [
                (truth[track], predicted)
                for track, predicted in zip(result.tracks, predictions, strict=True)
                if truth[track]
            ]
            rows.append(
                {
                    "system": headed(result.system, head),
                    "protocol": result.protocol,
                    "fold": result.fold,
                    "seed": result.seed,
                    "tracks": len(result.tracks),
                    "accuracy": float(np.mean([true == predicted for true, predicted in known])) if known else None,
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


def report_json(run: ExperimentRun, summary: Summary) -> str:
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
