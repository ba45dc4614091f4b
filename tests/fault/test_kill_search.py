"""kill -9 in the middle of a search: the same command goes on, and finds what an uninterrupted one finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bundle_fixtures import Trained
from killing import job, kill_driver_when, run
from small_music import SETTINGS

pytestmark = [pytest.mark.ray, pytest.mark.slow]
# No trial is stopped early: which ones are, depends on who comes first.
SEARCH = [*SETTINGS, "training.epochs=6", "search.trials=3", "search.grace_epochs=6", "search.trials_at_once=2"]


def epochs_saved(output: Path) -> int:
    """Return how many epochs the trials that are saved have done."""
    return sum(
        json.loads(path.read_text())["evaluations"] for path in output.glob("run/*/*/checkpoint_*/progress.json")
    )


def found(output: Path) -> list[tuple[Any, ...]]:
    trials = json.loads((output / "tuning.json").read_text())["trials"]
    return [(trial["number"], trial["epochs"], trial["loss"], trial["accuracy"]) for trial in trials]


def test_the_driver_is_killed_and_the_same_command_goes_on(trained: Trained, tmp_path: Path) -> None:
    def command(output: Path) -> list[str]:
        places = [str(trained.catalogue), "--features", str(trained.features), "--output", str(output)]
        return job("tune.py", *places, settings=SEARCH)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_driver_when(command(killed), lambda: epochs_saved(killed) >= 4)
    before = epochs_saved(killed)
    assert before < 18, "killed too late to show anything"
    assert not (killed / "tuning.json").exists()
    said = run(command(killed))
    assert "best.toml" in said
    told_anew = said.count("epoch   1  ")
    assert told_anew < 3, "trials that had begun began anew"
    run(command(whole))
    assert found(killed) == found(whole)
    assert not (killed / "run").exists()
