"""`mgc evaluate` says which tracks its figures come from, on the bundle's own catalogue and on any other."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from experiment_makers import TRACKS, write_data
from in_process import without_ray
from model_makers import bundle_contents
from table_makers import catalogue
from tiny_predictions import tag_once

from mgc.cli.app import console
from mgc.cli.evaluate_command import EvaluationRequest, answers_from_predictions, run_evaluation
from mgc.config import Config, EvaluationConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import FingerprintError, SplitError
from mgc.models.bundle import Bundle, write_bundle
from mgc.models.ensemble import Decision

CONFIG = Config(evaluation=EvaluationConfig(bootstrap_samples=20))


def evaluated(data: dict[str, str], bundle: Path, out: Path, split: str) -> tuple[str, str, int]:
    """Return the protocol's text, the page and how many tracks were evaluated."""
    request = EvaluationRequest(
        data["catalogue"], str(bundle), str(out), CONFIG, split, data["features"], baseline=False
    )
    page = Path(run_evaluation(console(), request)).read_text(encoding="utf-8")
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return written["context"]["protocol"], page, written["tracks"]


def test_the_bundles_own_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bundle = write_data(tmp_path), tmp_path / "bundle"
    write_bundle(str(bundle), bundle_contents(facts={"catalogue": data["catalogue"], "train_groups": 9}))
    protocol, page, tracks = evaluated(data, bundle, tmp_path / "valid", "valid")
    assert protocol == (
        "One fixed split; 6 groups stand both in 'train' and in 'valid'. Calibration, and early stopping if there "
        "was any, used this split, so its figures flatter. The bundle was trained on 9 groups."
    )
    assert "so its figures flatter a little" in page
    assert tracks == TRACKS // 4
    assert "One fixed split" in capsys.readouterr().out
    protocol, _, tracks = evaluated(data, bundle, tmp_path / "all", "all")
    assert protocol.startswith(
        "All splits of the catalogue that the bundle was trained on. Split 'train' was trained"
    )
    assert tracks == TRACKS
    with pytest.raises(SplitError, match="split 'test'"):
        evaluated(data, bundle, tmp_path / "test", "test")


def test_a_catalogue_that_the_bundle_was_not_trained_on(tmp_path: Path) -> None:
    data, bundle = write_data(tmp_path), tmp_path / "bundle"
    write_bundle(str(bundle), bundle_contents(facts={"catalogue": "s3://elsewhere/catalogue.parquet"}))
    for split, of, expected in (("train", "Split 'train'", TRACKS * 3 // 4), ("all", "All splits", TRACKS)):
        protocol, page, tracks = evaluated(data, bundle, tmp_path / split, split)
        assert protocol.startswith(
            f"{of} of a catalogue that the bundle was not trained on (that was s3://elsewhere/"
        )
        assert "nothing here stopped it early" in protocol
        assert tracks == expected
        assert "These are the tracks the model was trained on" not in page
        assert "Among these tracks are those the model was trained on" not in page


def test_an_older_bundles_answer_behind_a_failure_counts_as_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    contents, uri = {"a": "1", "b": "1"}, str(tmp_path)
    tag_once(uri, contents)
    tag_once(uri, contents, bundle="new", refused=["a"])
    taxonomy = Taxonomy(("jazz", "rock"), ("drums", "piano"))
    new, old = (
        cast(Bundle, SimpleNamespace(fingerprint=fingerprint, taxonomy=taxonomy, decision=Decision()))
        for fingerprint in ("new", "b" * 16)
    )
    found = answers_from_predictions(new, uri, catalogue(contents), "train")
    assert found.track_ids == ["b"]
    assert [(one.track_id, one.error_code) for one in found.failed] == [("a", "T102_ACCESS_DENIED")]
    with pytest.raises(FingerprintError, match="1 predictions in"):
        answers_from_predictions(old, uri, catalogue(contents), "train")
