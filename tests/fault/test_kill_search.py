"""kill -9 or Ctrl+C in a search: the same command goes on, and finds what an uninterrupted one finds."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from bundle_fixtures import Trained
from killing import job, kill_driver_when, run, started, wait_until
from small_music import SETTINGS

pytestmark = [pytest.mark.ray, pytest.mark.slow]
INTERRUPTED = 130
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


def search(trained: Trained, output: Path) -> list[str]:
    places = [str(trained.catalogue), "--features", str(trained.features), "--output", str(output)]
    return job("tune.py", *places, settings=SEARCH)


def test_an_interrupted_search_is_not_taken_for_a_finished_one(trained: Trained, tmp_path: Path) -> None:
    with started(search(trained, tmp_path)) as driver:
        wait_until(lambda: epochs_saved(tmp_path) >= 2, 120.0, lambda: driver.poll() is None)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(60.0) == INTERRUPTED
    assert not (tmp_path / "tuning.json").exists()
    assert epochs_saved(tmp_path) >= 2, "for the same command to go on from"


def test_the_driver_is_killed_and_the_same_command_goes_on(trained: Trained, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_driver_when(search(trained, killed), lambda: epochs_saved(killed) >= 4)
    before = epochs_saved(killed)
    assert before < 18, "killed too late to show anything"
    assert not (killed / "tuning.json").exists()
    output = run(search(trained, killed))
    assert "best.toml" in output
    begun_anew = output.count("epoch   1  ")
    assert begun_anew < 3, "trials that had begun began anew"
    run(search(trained, whole))
    assert found(killed) == found(whole)
    assert not (killed / "run").exists()
