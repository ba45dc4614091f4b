"""kill -9 in the middle of training, of the driver or of a worker: the bundle is that of an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bundle_fixtures import Trained
from killing import descendants, job, kill_driver_when, run, wait_until
from small_music import SETTINGS, TWO_FITS

from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import load_config
from mgc.models.bundle import load_bundle

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_two")]
CONFIG = load_config(None, TWO_FITS)


def progress(bundle: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the history so far of each member that has one."""
    written = Path(f"{bundle}.training").glob("progress/*-member-*.json")
    return {int(path.stem.rpartition("-")[2]): json.loads(path.read_text()) for path in written}


def epochs_done(bundle: Path) -> int:
    """Return how far the member that is furthest has come."""
    return max(map(len, progress(bundle).values()), default=0)


def histories(bundle: Path) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = load_bundle(str(bundle)).facts["histories"]
    return found


def assert_each_epoch_once(bundle: Path, trained: Trained) -> None:
    """Check that the histories hold every epoch once, in order, with the uninterrupted training's figures."""
    for history, whole in zip(histories(bundle), histories(trained.bundle), strict=True):
        assert [epoch["epoch"] for epoch in history] == list(range(1, len(whole) + 1))
        assert [epoch["train_loss"] for epoch in history] == [epoch["train_loss"] for epoch in whole]


def assert_went_on(bundle: Path, before: dict[int, list[dict[str, Any]]]) -> None:
    """Check that what was done before is in the histories, but for the epoch in flight: its seconds tell."""
    for member, done in before.items():
        assert histories(bundle)[member][: len(done) - 1] == done[:-1]


def test_the_driver_is_killed_and_the_same_command_goes_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    places = [str(trained.catalogue), "--features", str(trained.features), "--bundle", str(bundle)]
    command = job("train_ensemble.py", *places, settings=TWO_FITS)
    kill_driver_when(command, lambda: epochs_done(bundle) >= 2)
    before = progress(bundle)
    assert epochs_done(bundle) < CONFIG.training.epochs, "killed too late to show anything"
    assert not bundle.exists()
    said = run(command)
    assert "resumed after epoch" in said
    assert trained.outcome.fingerprint in said
    assert load_bundle(str(bundle)).fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
    assert_went_on(bundle, before)
    assert not Path(f"{bundle}.training").exists()


def test_the_workers_are_killed_and_others_go_on(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    killed: list[int] = []
    before: dict[int, list[dict[str, Any]]] = {}

    def kill_the_workers() -> None:
        wait_until(lambda: epochs_done(bundle) >= 2, 120.0)
        killed.extend(descendants(os.getpid(), "ray::RayTrainWorker"))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        before.update(progress(bundle))

    killer = threading.Thread(target=kill_the_workers)
    killer.start()
    request = TrainingRequest(str(trained.catalogue), str(trained.features), str(bundle), CONFIG)
    outcome = train_ensemble(request)
    killer.join()
    assert 1 <= len(killed) <= CONFIG.training.members
    assert max(map(len, before.values())) < CONFIG.training.epochs, "killed too late to show anything"
    assert outcome.fingerprint == trained.outcome.fingerprint
    assert_each_epoch_once(bundle, trained)
    assert_went_on(bundle, before)


def killed_again_and_again(command: list[str], bundle: Path) -> str:
    """Run a command whose workers die whenever they are at work, as where memory is short; return its stderr."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: epochs_done(bundle) >= 1, 200.0, lambda: process.poll() is None)
        begun = time.monotonic()
        while process.poll() is None:
            assert time.monotonic() - begun < 500.0, "it hangs"
            for pid in descendants(process.pid, "ray::RayTrainWorker"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        _, printed = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 2, printed
    return " ".join(printed.split())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["train", "distill"])
def test_workers_that_die_again_and_again_end_the_command_with_its_reason(
    trained: Trained, tmp_path: Path, kind: str
) -> None:
    bundle = tmp_path / "bundle"
    places = [str(trained.catalogue), "--features", str(trained.features), "--bundle", str(bundle)]
    script = {"train": ["train_ensemble.py"], "distill": ["distill.py", str(trained.bundle)]}[kind]
    command = job(*script, *places, settings=[*SETTINGS, "training.members=1", "training.max_failures=1"])
    said = killed_again_and_again([*command, "--set", "training.epochs=400"], bundle)
    assert "[MGC402]" in said
    assert "a member could not be trained: " in said
    print(said)
    assert "look at the memory of their nodes" in said
    assert "the same command goes on from the last checkpoint" in said
    assert "Traceback" not in said
    assert not bundle.exists()
