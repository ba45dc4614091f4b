"""Fitting, stopping and resuming."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set, small_model, without_labels
from torch import Tensor, nn

from mgc.config import TrainingConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import TrainingError
from mgc.models.layers import ModelOutput
from mgc.training.loop import EpochReport, FitResult, fit
from mgc.training.state import TrainingState

TRAIN, VALID = feature_set(24, seed=1), feature_set(9, seed=2)


def run(config: TrainingConfig = TRAINING, **options: object) -> FitResult:
    model = small_model()
    return fit(model, TRAIN, VALID, TAXONOMY, config, seed=5, **options)  # type: ignore[arg-type]


def test_it_learns_what_can_be_learnt() -> None:
    config = TRAINING.model_copy(update={"epochs": 30, "learning_rate": 2e-2, "mixup_alpha": 0.0})
    reports = run(config).reports
    assert [report.epoch for report in reports] == list(range(1, 31))
    assert reports[-1].valid_accuracy == 1.0
    assert reports[-1].valid_tag_macro_average_precision is not None
    assert reports[-1].valid_tag_macro_average_precision > 0.95
    assert reports[-1].train_loss < 0.6 * reports[0].train_loss
    assert all(report.windows_per_second > 0 for report in reports)


def test_a_resumed_fit_is_the_one_that_never_stopped() -> None:
    saved: dict[int, bytes] = {}

    def keep(report: EpochReport, state: TrainingState) -> None:
        saved[report.epoch] = state.to_bytes()

    straight = run(on_epoch=keep)
    torch.manual_seed(999)  # the generator of whoever resumes is not that of whoever began
    resumed = run(start=TrainingState.from_bytes(saved[3]))
    assert [report.epoch for report in resumed.reports] == [4, 5, 6]
    for part in ("weights", "best_weights", "optimizer"):
        one, two = getattr(straight.state, part), getattr(resumed.state, part)
        assert one.keys() == two.keys()
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=0)
    assert [report.valid_loss for report in resumed.reports] == pytest.approx(
        [report.valid_loss for report in straight.reports[3:]], abs=1e-6
    )


def test_a_finished_fit_has_nothing_left_to_do() -> None:
    first = run()
    again = run(start=first.state)
    assert again.reports == []
    assert again.state is first.state


def test_the_callers_generator_is_left_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    model = small_model()
    fit(model, TRAIN, VALID, TAXONOMY, TRAINING.model_copy(update={"epochs": 1}), seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_best_weights_are_those_of_the_best_epoch() -> None:
    seen: dict[int, dict[str, Tensor]] = {}
    result = run(on_epoch=lambda report, state: seen.update({report.epoch: state.weights}))
    best = min(result.reports, key=lambda report: report.valid_loss or 0.0)
    assert result.state.best_epoch == best.epoch
    assert [report.epoch for report in result.reports if report.kept][-1] == best.epoch
    assert result.state.best_score == best.valid_loss
    assert all(torch.equal(result.best_weights[name], tensor) for name, tensor in seen[best.epoch].items())


def test_the_last_epoch_is_kept_where_that_is_set() -> None:
    seen: dict[int, dict[str, Tensor]] = {}
    config = TRAINING.model_copy(update={"keep": "last", "patience": 1, "epochs": 12, "learning_rate": 2e-2})
    wrong = replace(VALID, genres=["low" if genre == "high" else "high" for genre in VALID.genres])
    remember = {"on_epoch": lambda report, state: seen.update({report.epoch: state.weights})}
    result = fit(small_model(), TRAIN, wrong, TAXONOMY, config, seed=5, **remember)  # type: ignore[arg-type]
    losses = [report.valid_loss or 0.0 for report in result.reports]
    assert min(losses) < losses[-1], "else this test shows nothing"
    assert (result.state.best_epoch, result.stopped_early, len(losses)) == (12, False, 12)
    assert [report.kept for report in result.reports] == [True] * 12
    assert all(torch.equal(result.best_weights[name], tensor) for name, tensor in seen[12].items())


def test_patience_runs_out() -> None:
    # A learning rate this small, and labels that are noise: nothing gets better for long.
    rng = np.random.default_rng(0)
    noisy = replace(VALID, genres=[str(rng.choice(["high", "low"])) for _ in VALID.genres], tags_known=[False] * 9)
    config = TRAINING.model_copy(update={"epochs": 60, "patience": 2, "learning_rate": 2e-2})
    result = fit(small_model(), TRAIN, noisy, TAXONOMY, config, seed=5)
    assert result.stopped_early
    assert result.state.epoch == result.state.best_epoch + 2
    assert len(result.reports) < 60


@pytest.mark.parametrize("valid", [None, without_labels(VALID)])
def test_without_validation_all_epochs_run_and_the_last_counts(
    valid: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = fit(small_model(), TRAIN, valid, TAXONOMY, TRAINING, seed=5)  # type: ignore[arg-type]
    assert "no labelled validation track: training all 6 epochs" in caplog.text
    assert len(result.reports) == 6
    assert result.reports[-1].valid_loss is None
    assert all(torch.equal(result.best_weights[name], tensor) for name, tensor in result.state.weights.items())


def test_genres_alone_and_tags_alone() -> None:
    config = TRAINING.model_copy(update={"epochs": 2})
    for taxonomy in (Taxonomy(TAXONOMY.genres, ()), Taxonomy((), TAXONOMY.tags)):
        train = replace(TRAIN, genres=TRAIN.genres if taxonomy.genres else [None] * len(TRAIN))
        valid = replace(VALID, genres=VALID.genres if taxonomy.genres else [None] * len(VALID))
        report = fit(small_model(taxonomy), train, valid, taxonomy, config, seed=5).reports[-1]
        assert (report.valid_accuracy is None) == (not taxonomy.genres)
        assert (report.valid_tag_macro_average_precision is None) == (not taxonomy.tags)


class Exploding(nn.Module):
    """Gives NaN from the second epoch on."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.model = model
        self.steps_left = steps

    def forward(self, log_mel: Tensor) -> ModelOutput:
        output: ModelOutput = self.model(log_mel)
        self.steps_left -= 1
        return output if self.steps_left >= 0 else ModelOutput(output[0] * torch.nan, output[1], output[2])


def test_a_loss_that_is_not_finite_names_the_epoch() -> None:
    with pytest.raises(TrainingError, match="the training loss became nan in epoch 2"):
        run(wrap=lambda model: Exploding(model, steps=6))


def test_a_state_of_another_fit_is_refused() -> None:
    state = run(TRAINING.model_copy(update={"epochs": 1})).state
    with pytest.raises(TrainingError, match="a fit with seed 5, this one has 6"):
        fit(small_model(), TRAIN, VALID, TAXONOMY, TRAINING, seed=6, start=state)
    other = Taxonomy(("high", "low", "middle"), TAXONOMY.tags)
    with pytest.raises(TrainingError, match="another architecture"):
        fit(small_model(other), TRAIN, VALID, other, TRAINING, seed=5, start=state)
