"""kill -9 of the processes that make an experiment's runs: the runs are begun again, and none is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from experiment_makers import small_experiment, write_data
from killing import descendants

from mgc.cluster.experiment import RunSettings, Step, run_experiment
from mgc.studies.experiment_settings import experiment_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_two")]


def test_runs_whose_process_is_killed_are_begun_again(tmp_path: Path) -> None:
    values = small_experiment(write_data(tmp_path / "data"), training={"epochs": 6, "batch_size": 8})
    values["systems"] = values["systems"][1:2]
    experiment = experiment_of(values)
    killed: list[int] = []

    def kill_the_workers(step: Step) -> None:
        if not killed and any(done >= 2 for _, done, _ in step.running):
            killed.extend(descendants(os.getpid(), "ray::ImplicitFunc"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    outcome = run_experiment(experiment, str(tmp_path / "out"), RunSettings(), on_step=kill_the_workers)
    assert killed
    assert (len(outcome.results), outcome.failures) == (3, {})
    assert [len(result.curves[0]) for result in outcome.results.values()] == [6, 6, 6]
