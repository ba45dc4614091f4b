"""kill -9 in the middle of training, of the driver or of a worker: the bundle is that of an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from bundle_fixtures import Trained
from killing import descendants, job, kill_driver_when, run, wait_until
from small_music import SETTINGS

from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import load_config
from mgc.models.bundle import load_bundle

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]


def progress(bundle: Path) -> list[list[dict[str, Any]]]:
    """Return the history of each member so far."""
    return [json.loads(path.read_text()) for path in sorted(Path(f"{bundle}.training").glob("progress/*.json"))]


def epochs_done(bundle: Path) -> int:
    """Return how far the member that is furthest has come."""
    return max(map(len, progress(bundle)), default=0)


def histories(bundle: Path) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = load_bundle(str(bundle)).facts["histories"]
    return found


def assert_each_epoch_once(bundle: Path, trained: Trained) -> None:
    """Check that the histories hold every epoch once, in order, with the uninterrupted training's figures."""
    for history, whole in zip(histories(bundle), histories(trained.bundle), strict=True):
        assert [epoch["epoch"] for epoch in history] == list(range(1, len(whole) + 1))
        assert [epoch["train_loss"] for epoch in history] == [epoch["train_loss"] for epoch in whole]


def assert_went_on(bundle: Path, before: list[list[dict[str, Any]]]) -> None:
    """Check that what was done before is in the histories, but for the epoch in flight: its seconds tell."""
    for history, done in zip(histories(bundle), before, strict=False):
        assert history[: len(done) - 1] == done[:-1]


def test_the_driver_is_killed_and_the_same_command_goes_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    places = [str(trained.catalogue), "--features", str(trained.features), "--bundle", str(bundle)]
    command = job("train_ensemble.py", *places, settings=SETTINGS)
    kill_driver_when(command, lambda: epochs_done(bundle) >= 2)
    before = progress(bundle)
    assert epochs_done(bundle) < 16, "killed too late to show anything"
    assert not bundle.exists()
    said = run(command)
    assert "taken up after epoch" in said
    assert trained.outcome.fingerprint in said
    assert load_bundle(str(bundle)).fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
    assert_went_on(bundle, before)
    assert not Path(f"{bundle}.training").exists()


def test_a_worker_is_killed_and_another_goes_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    killed: list[int] = []
    before: list[list[dict[str, Any]]] = []

    def kill_a_worker() -> None:
        wait_until(lambda: epochs_done(bundle) >= 2, 120.0)
        killed.extend(descendants(os.getpid(), "ray::RayTrainWorker")[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        before.extend(progress(bundle))

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    request = TrainingRequest(str(trained.catalogue), str(trained.features), str(bundle), load_config(None, SETTINGS))
    outcome = train_ensemble(request)
    killer.join()
    assert len(killed) == 1
    assert outcome.fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
    assert_went_on(bundle, before)
