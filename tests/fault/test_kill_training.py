"""kill -9 in the middle of training, of the driver or of a worker: the bundle is that of an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from bundle_fixtures import Trained
from killing import descendants, job, kill_driver_when, run, wait_until
from small_music import SETTINGS

from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import load_config
from mgc.models.bundle import load_bundle

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]


def epochs_done(bundle: Path) -> int:
    """Return how far the member that is furthest has come."""
    written = Path(f"{bundle}.training").glob("progress/*.json")
    return max((len(json.loads(path.read_text())) for path in written), default=0)


def assert_each_epoch_once(bundle: Path, trained: Trained) -> None:
    """Check that the histories hold every epoch once, in order, with the uninterrupted training's figures."""
    histories = load_bundle(str(bundle)).facts["histories"]
    whole = load_bundle(str(trained.bundle)).facts["histories"]
    for history, uninterrupted in zip(histories, whole, strict=True):
        assert [epoch["epoch"] for epoch in history] == list(range(1, len(uninterrupted) + 1))
        assert [epoch["train_loss"] for epoch in history] == [epoch["train_loss"] for epoch in uninterrupted]


def test_the_driver_is_killed_and_the_same_command_goes_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    places = [str(trained.catalogue), "--features", str(trained.features), "--bundle", str(bundle)]
    command = job("train_ensemble.py", *places, settings=SETTINGS)
    kill_driver_when(command, lambda: epochs_done(bundle) >= 2)
    assert not (bundle / "manifest.json").exists(), "killed too late to show anything"
    before = epochs_done(bundle)
    said = run(command)
    assert trained.outcome.fingerprint in said
    # It went on: no member began at its first epoch again.
    assert said.count("epoch   1 ") == 0, said
    assert 2 <= before < trained.outcome.epochs[0]
    assert load_bundle(str(bundle)).fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
    assert not Path(f"{bundle}.training").exists()


def test_a_worker_is_killed_and_another_goes_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    killed: list[int] = []

    def kill_a_worker() -> None:
        wait_until(lambda: epochs_done(bundle) >= 2, 120.0)
        killed.extend(descendants(os.getpid(), "ray::RayTrainWorker")[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    request = TrainingRequest(str(trained.catalogue), str(trained.features), str(bundle), load_config(None, SETTINGS))
    outcome = train_ensemble(request)
    killer.join()
    assert len(killed) == 1
    assert outcome.fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
