"""An experiment's runs as trials of Ray Tune, and the same command as a user gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experiment_makers import small_experiment, write_data
from page_checker import checked
from typer.testing import CliRunner

from mgc.cli.app import build_app
from mgc.cluster.experiment import RunSettings, Step, run_experiment
from mgc.studies.experiment_settings import experiment_of

FILE = """
name = "classical"
seeds = [0]
[[protocols]]
name = "artists"
kind = "group_k_fold"
folds = 2
[[systems]]
name = "nearest"
kind = "knn"
[[systems]]
name = "broken"
views = ["clean", "tempo"]
"""


@pytest.mark.ray
@pytest.mark.usefixtures("ray_two")
@pytest.mark.slow
def test_runs_run_side_by_side_and_give_what_they_give_alone(tmp_path: Path) -> None:
    values = small_experiment(write_data(tmp_path / "data"))
    values["systems"] = values["systems"][:2]
    # Several of each, of some seconds: a network may be fitted before Ray Tune has the next trial begin.
    values["seeds"] = [0, 1]
    values["training"]["epochs"] = 40
    experiment = experiment_of(values)
    steps: list[Step] = []
    outcome = run_experiment(experiment, str(tmp_path / "out"), RunSettings(), on_step=steps.append)
    n_runs = len(outcome.results)
    assert (n_runs, outcome.run_now, outcome.failures) == (12, 12, {})
    assert max(len(step.running) for step in steps) == 2, "two CPUs, two runs at once"
    assert (steps[-1].finished, steps[-1].total) == (n_runs, n_runs)
    assert not (tmp_path / "out" / "running").exists()
    alone = run_experiment(experiment, str(tmp_path / "alone"), RunSettings(here=True))
    assert outcome.results.keys() == alone.results.keys()
    for key, one in outcome.results.items():
        assert one.answers.keys() == alone.results[key].answers.keys()
        for head, answered in one.answers.items():
            # Not to the last bit: a library may add in another order in another process, and training magnifies that.
            other = alone.results[key].answers[head]
            np.testing.assert_allclose(answered.genre, other.genre, atol=1e-4)
            np.testing.assert_allclose(answered.tags, other.tags, atol=1e-4)
    assert run_experiment(experiment, str(tmp_path / "out"), RunSettings()).run_now == 0


def test_the_command_writes_the_page_and_says_which_runs_failed(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    file, out = tmp_path / "experiment.toml", tmp_path / "out"
    file.write_text(FILE, encoding="utf-8")
    arguments = ["reproduce", str(file), "-o", str(out), "--catalogue", data["catalogue"], "-f", data["features"]]
    done = CliRunner().invoke(build_app("reproduce"), [*arguments, "--here"])
    assert done.exit_code == 1, "a run failed"
    output = " ".join(done.output.split())
    assert "experiment 4 runs" in output
    assert "failed broken · artists, fold 1/2, seed 0: augment.views wants tempo" in output
    assert "nearest 1.000" in output
    checked((out / "index.html").read_text(encoding="utf-8"))
    again = CliRunner().invoke(build_app("reproduce"), [*arguments, "--page-only"])
    assert again.exit_code == 0
    assert "experiment 4 runs, 2 of them finished before" in again.output
    lonely = CliRunner().invoke(build_app("reproduce"), arguments[:-2])
    assert "--catalogue and --features belong together" in str(lonely.exception)
