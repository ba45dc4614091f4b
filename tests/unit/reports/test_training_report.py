"""The curves of a training, beside the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_makers import MODEL, TRAINING, bundle_contents
from page_checker import HOSTILE, checked

from mgc.config import TrainingConfig
from mgc.errors import BundleError
from mgc.models.bundle import load_bundle, write_bundle
from mgc.reports.training_report import best_epoch, curves_chart, curves_picture, write_training_report


def epoch(number: int, valid_loss: float | None, **more: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": 3.0 / number,
        "valid_loss": valid_loss,
        "valid_accuracy": None if valid_loss is None else 1.0 - valid_loss / 4,
        "valid_tag_macro_average_precision": None,
        "valid_rmse": None if valid_loss is None else valid_loss / 5,
        "learning_rate": 1e-3,
        "seconds": 60.0,
        "windows_per_second": 100.0,
        **more,
    }


HISTORY = [epoch(1, 2.0), epoch(2, 1.0), epoch(3, 1.5)]


def written(place: Path, histories: list[list[dict[str, Any]]], **facts: Any) -> str:
    write_bundle(str(place), bundle_contents(len(histories), facts={"histories": histories, **facts}))
    return str(place)


def test_page_picture_and_figures_lie_beside_the_bundle(tmp_path: Path) -> None:
    bundle = written(tmp_path / "b", [HISTORY, HISTORY[:1]], tracks={"train": 7, "valid": 2})
    fingerprint = load_bundle(bundle).fingerprint
    page = write_training_report(bundle)
    assert page == str(tmp_path / "b" / "training.html")
    text = Path(page).read_text()
    checked(text)
    assert "2 members</strong> in 4 min 00 s of epochs" in text
    assert "<strong>7 tracks</strong>" in text
    assert "Genre accuracy" in text
    assert "Tags: PR-AUC" not in text, "no epoch has it"
    found = json.loads((tmp_path / "b" / "training.json").read_text())
    assert found["bundle_fingerprint"] == fingerprint
    assert [member["kept_epoch"] for member in found["members"]] == [2, 1]
    assert found["members"][0]["epochs"] == HISTORY
    assert (tmp_path / "b" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert load_bundle(bundle).fingerprint == fingerprint, "it is the same bundle with a report beside it"


def test_fits_that_differ_are_listed_on_the_page(tmp_path: Path) -> None:
    entries = [MODEL.model_dump(), {**MODEL.model_dump(), "training": {"optimizer": "sgd", "learning_rate": 0.05}}]
    training = TrainingConfig.model_validate({**TRAINING.model_dump(), "ensemble": entries})
    write_bundle(str(tmp_path), bundle_contents(2, training=training, facts={"histories": [HISTORY, HISTORY]}))
    write_training_report(str(tmp_path))
    page = (tmp_path / "training.html").read_text()
    checked(page)
    assert "<dt>member 1</dt><dd>optimizer adamw, learning_rate 0.005</dd>" in page
    assert "<dt>member 2</dt><dd>optimizer sgd, learning_rate 0.05</dd>" in page
    found = json.loads((tmp_path / "training.json").read_text())["members"]
    assert [member["training"]["optimizer"] for member in found] == ["adamw", "sgd"]
    alike = written(tmp_path / "alike", [HISTORY, HISTORY])
    write_training_report(alike)
    assert "their fits differ" not in (tmp_path / "alike" / "training.html").read_text()


def test_a_page_that_is_there_is_left_unless_requested(tmp_path: Path) -> None:
    bundle = written(tmp_path / "b", [HISTORY])
    page = tmp_path / "b" / "training.html"
    write_training_report(bundle, anew=False)
    page.write_text("mine")
    write_training_report(bundle, anew=False)
    assert page.read_text() == "mine"
    write_training_report(bundle)
    assert page.read_text() != "mine"


def test_nothing_is_written_where_nothing_is_known(tmp_path: Path) -> None:
    write_bundle(str(tmp_path / "b"), bundle_contents(1))
    assert write_training_report(str(tmp_path / "b")) is None
    assert not list((tmp_path / "b").glob("training*"))
    with pytest.raises(BundleError, match="no model bundle"):
        write_training_report(str(tmp_path / "none"))


def test_epochs_of_an_older_mgc_and_hostile_names(tmp_path: Path) -> None:
    old = {"epoch": 1, "train_loss": 1.0, "valid_loss": None, "learning_rate": 0.1, "windows_per_second": 1.0}
    page = write_training_report(written(tmp_path / "b", [[{**old, "seconds": 1.0}]], catalogue=HOSTILE))
    assert page
    checked(Path(page).read_text())


def test_without_validation_the_last_epoch_is_kept() -> None:
    assert best_epoch([epoch(1, None), epoch(2, None)]) == 2
    assert best_epoch(HISTORY) == 2
    assert best_epoch([epoch(1, float("nan"), train_loss=None), epoch(2, 1.0)]) == 2
    assert best_epoch([]) is None
    kept = [dict(one, kept=number < 2) for number, one in enumerate([epoch(1, 3.0), epoch(2, 4.0), epoch(3, 1.0)])]
    assert best_epoch(kept) == 2, "what the fit says goes before what its losses say"


def test_many_members_and_none() -> None:
    chart = curves_chart([HISTORY] * 9)
    assert chart is not None
    assert "member 9" in chart
    assert "Loss, Genre accuracy, RMSE of genre probabilities of each member over epochs" in chart
    assert curves_chart([]) is None
    assert curves_picture([[]]) is None
