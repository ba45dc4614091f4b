from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from experiment_makers import small_experiment, write_data
from page_checker import HOSTILE, checked

from mgc.studies.experiment_data import Material, folds_of, read_fold, read_material
from mgc.studies.experiment_report import (
    ExperimentOutcome,
    experiment_page,
    headline_cards,
    run_table,
    verdict,
    write_report,
)
from mgc.studies.experiment_settings import DataSettings, experiment_of
from mgc.studies.runs import ExperimentRun, RunResult, SystemPredictions, plan_runs
from mgc.studies.summary import summarise

CURVE = [
    {"epoch": 1, "train_loss": 2.0, "valid_loss": 1.5, "valid_accuracy": 0.9, "valid_rmse": 0.4},
    {"epoch": 2, "train_loss": 1.0, "valid_loss": 1.2, "valid_accuracy": 0.5, "valid_rmse": 0.3},
]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return read_material(DataSettings(min_tag_positives=2, **write_data(tmp_path_factory.mktemp("page"))))


def result_of(run: ExperimentRun, material: Material, right: float) -> RunResult:
    """Return a result that is right on a share of the held-out tracks, the first ones."""
    fold = folds_of(run.protocol, material, run.seed)[run.fold]
    held_out = read_fold(fold, material, ("clean",), run.augment).held_out
    truth = np.eye(2)[[material.taxonomy.genres.index(str(genre)) for genre in held_out.genres]]
    wrong = np.arange(len(held_out)) >= right * len(held_out)
    truth[wrong] = truth[wrong, ::-1]
    windows = [len(own) for own in held_out.log_mels]
    tags = [[0.9 if tag in own else 0.2 for tag in material.taxonomy.tags] for own in held_out.tags]
    predictions = SystemPredictions(
        (0.8 * truth + 0.1).tolist(), tags, [0 if bad else n for bad, n in zip(wrong, windows, strict=True)]
    )
    facts = {
        "train_tracks": 12,
        "audio_seconds": 30.0,
        "answer_cpu_seconds": 0.1,
        "train_seconds": 4.0,
        "seconds": 5.0,
    }
    facts |= {"groups_across": 3, "tracks_across": 0} if run.protocol.name == "segments" else {}
    network = run.system.kind == "network"
    return RunResult(
        run.key, "code", run.system.name, run.protocol.name, run.fold, run.seed,
        list(held_out.track_ids), windows, dict.fromkeys(("", *run.system.heads), predictions),
        facts | ({"parameters": 1234} if network else {}), [CURVE] if network else [],
    )  # fmt: skip


RIGHT = {
    ("net", "segments"): 1.0,
    ("net, mixup", "segments"): 1.0,
    ("net", "artists"): 0.5,
    ("net, mixup", "artists"): 0.75,
}


def outcome_of(material: Material, **changes: Any) -> ExperimentOutcome:
    experiment = experiment_of(small_experiment({"catalogue": "c.parquet", "features": "f"}, **changes))
    runs = plan_runs(experiment, material)
    results = {
        run.key: result_of(run, material, RIGHT.get((run.system.name, run.protocol.name), 0.6)) for run in runs
    }
    return ExperimentOutcome(experiment, material, runs, results, {})


def test_figures_are_those_of_the_answers(material: Material) -> None:
    outcome = outcome_of(material)
    summary = summarise(outcome.experiment, material, outcome.runs, outcome.results)
    net = summary.of("net", "artists")
    assert net is not None
    assert (net.runs, net.planned, net.tracks) == (2, 2, 24)
    assert net.accuracy.value == pytest.approx(0.5)
    assert net.accuracy.low is not None
    assert 0.2 < net.accuracy.low < 0.5
    assert net.window_accuracy.value == pytest.approx(0.5)
    assert net.peeked == pytest.approx(0.9), "the best epoch of each network"
    assert net.confusion.sum() == 24
    assert np.trace(net.confusion) == 12
    assert net.parameters == 1234
    assert net.answer_xrealtime == pytest.approx(300)
    assert net.tags is not None
    assert net.tags.roc_auc.value == 1.0
    assert [tag.tag for tag in net.tags.tags] == ["buzz", "hum", "still"]
    assert summary.systems == ["nearest", "net", "net + SVM", "net, mixup"]
    (gain,) = summary.gains
    assert (gain.system, gain.over) == ("net, mixup", "net")
    assert gain.accuracy.value == pytest.approx(0.25)
    assert gain.roc_auc.value == 0.0


def test_seeds_are_averaged_and_their_spread_shown(material: Material) -> None:
    outcome = outcome_of(material, seeds=[0, 1])
    results = {
        run.key: result_of(run, material, 1.0)
        if run.seed and run.system.name == "nearest"
        else outcome.results[run.key]
        for run in outcome.runs
    }
    summary = summarise(outcome.experiment, material, outcome.runs, results)
    nearest = summary.of("nearest", "artists")
    assert nearest is not None
    one = np.ceil(0.6 * 12) / 12
    assert nearest.accuracy.value == pytest.approx((one + 1.0) / 2, abs=0.05)
    assert nearest.seed_spread == pytest.approx((1.0 - one) / np.sqrt(2), abs=0.05)
    assert nearest.confusion.sum() == 48


def test_the_page_and_its_tables(material: Material, tmp_path: Path) -> None:
    outcome = outcome_of(material)
    summary = write_report(outcome, str(tmp_path))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    checked(page)
    for part in (
        "audit",
        "claims",
        "systems",
        "genres",
        "confusion",
        "tags",
        "gains",
        "learning",
        "notes",
        "provenance",
    ):
        assert f'id="{part}"' in page
    assert "Guo 2024" in page
    assert "92.0 %" in page
    assert "runs are finished" not in page
    text = verdict(summary)
    assert "100.0 % under “segments”" in text
    assert "75.0 % under “artists”" in text
    assert "25 points" in text
    assert [card.text for card in headline_cards(summary)] == ["100.0 %", "75.0 %"]
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert table.height == 12, "a row a run and head"
    own = table.filter((pl.col("system") == "net, mixup") & (pl.col("protocol") == "artists"))
    assert own["accuracy"].to_list() == pytest.approx([0.75, 0.75])
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["runs"] == {"planned": 9, "finished": 9, "failed": 0}
    assert {one["system"] for one in written["results"]} == set(summary.systems)
    assert written["claims"][0]["accuracy"] == 0.92


def test_an_unfinished_experiment_says_so(material: Material) -> None:
    outcome = outcome_of(material)
    some = {run.key: outcome.results[run.key] for run in outcome.runs if run.protocol.name == "segments"}
    broken = replace(outcome, results=some, failures={outcome.runs[-1].key: "it would not [MGC402]"})
    page = experiment_page(broken, summarise(outcome.experiment, material, outcome.runs, some))
    checked(page)
    assert "3 of 9 runs are finished." in page
    assert "it would not [MGC402]" in page
    assert "All systems under “segments”" in page, "what there is, where the primary protocol has nothing yet"
    assert run_table(broken).height == 4


def test_hostile_names_are_shown_and_not_run(material: Material) -> None:
    values = small_experiment({})
    values["name"] = values["about"] = HOSTILE
    values["protocols"][1]["name"] = HOSTILE
    values["systems"][0]["name"] = HOSTILE
    outcome = outcome_of(material, **{key: values[key] for key in ("name", "about", "protocols", "systems")})
    page = experiment_page(outcome, summarise(outcome.experiment, material, outcome.runs, outcome.results))
    checked(page)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 10


@dataclass
class Case:
    changes: dict[str, Any]
    absent: str


@pytest.mark.parametrize(
    "case",
    [
        Case({"protocols": [{"name": "artists", "kind": "group_k_fold", "folds": 2}]}, "would be reported at"),
        Case({"systems": [{"name": "nearest", "kind": "knn"}]}, 'id="learning"'),
    ],
)
def test_parts_without_anything_to_say_are_left_out(material: Material, case: Case) -> None:
    outcome = outcome_of(material, **case.changes)
    page = experiment_page(outcome, summarise(outcome.experiment, material, outcome.runs, outcome.results))
    checked(page)
    assert case.absent not in page
