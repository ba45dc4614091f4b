"""Half precision, the time that a device is busy, and what a GPU wants; of CUDA only what a CPU can show."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from model_makers import TAXONOMY, TRAINING, feature_set, small_model

from mgc.config import TrainingConfig
from mgc.config.network_settings import BlockLevelConfig
from mgc.models.forward import member_outputs
from mgc.training.batches import Batch, Shard, TrainingWindows
from mgc.training.device import BusyTime, forward_precision, to_device
from mgc.training.loop import FitResult, Trainer, fit

TRAIN, VALID = feature_set(24, seed=1), feature_set(9, seed=2)


def fitted(precision: str, **settings: object) -> tuple[torch.nn.Module, FitResult]:
    config = TRAINING.model_copy(update={"precision": precision, "epochs": 12, "learning_rate": 1e-2, **settings})
    model = small_model()
    return model, fit(model, TRAIN, VALID, TAXONOMY, config, seed=5)


def test_half_precision_learns_the_same_and_leaves_float32_weights_and_answers() -> None:
    plain, half = fitted("float32"), fitted("bfloat16")
    kinds = {tensor.dtype for tensor in half[1].best_weights.values() if tensor.is_floating_point()}
    assert kinds == {torch.float32}
    assert not any(
        torch.equal(tensor, plain[1].best_weights[name])
        for name, tensor in half[1].best_weights.items()
        if name.endswith("weight") and tensor.ndim > 1
    ), "bfloat16 was not used"
    losses = [[report.train_loss for report in result.reports] for _, result in (plain, half)]
    assert np.abs(np.subtract(*losses)).max() < 0.1
    outputs = member_outputs(half[0], VALID.log_mels)
    assert outputs.genre_logits.dtype == np.float32
    assert half[1].reports[-1].valid_accuracy == 1.0


def test_auto_is_single_precision_on_a_cpu() -> None:
    plain, auto = fitted("float32")[1], fitted("auto")[1]
    for name, tensor in plain.best_weights.items():
        assert torch.equal(tensor, auto.best_weights[name]), name


def test_statistics_are_never_in_half_precision() -> None:
    model = small_model(config=BlockLevelConfig(block_frames=16, embedding_size=8, input_dropout=0.0)).eval()
    log_mel = torch.rand(4, 24, 16) * -80
    seen: list[torch.Tensor] = []
    model.scaling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    with torch.no_grad(), forward_precision("cpu", "bfloat16"):
        logits = model(log_mel).genre_logits
    with torch.no_grad():
        model(log_mel)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(*seen)


class Clock:
    """Stands where `time.perf_counter` does: no time passes but what is waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_a_fit_that_waits_for_its_batches_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, plain_epoch, plain_step = Clock(monkeypatch), TrainingWindows.epoch, Trainer._step
    making = 0.0

    def epoch(windows: TrainingWindows, seed: int, number: int, shard: Shard) -> Iterator[Batch]:
        for batch in plain_epoch(windows, seed, number, shard):
            clock.wait(making)
            yield batch

    def step(trainer: Trainer, batch: Batch) -> torch.Tensor:
        clock.wait(1.0)
        return plain_step(trainer, batch)

    monkeypatch.setattr(TrainingWindows, "epoch", epoch)
    monkeypatch.setattr(Trainer, "_step", step)
    assert fitted("float32", epochs=1)[1].reports[-1].busy_share == 1.0
    making = 3.0
    waiting = fitted("float32", epochs=1)[1].reports[-1]
    assert waiting.busy_share == pytest.approx(0.25)
    assert waiting.windows_per_second == pytest.approx(48 / (6 * 4.0)), "48 windows, six steps"


def test_busy_time_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, busy = Clock(monkeypatch), BusyTime("cpu")
    for _ in range(3):
        with busy.step():
            clock.wait(2.0)
        clock.wait(5.0)
    busy.add_up()
    assert busy.seconds == 6.0


def test_on_a_cpu_a_network_stays_as_it_is() -> None:
    model = small_model()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in model.state_dict().items()}
    to_device(model, "cpu")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]


def test_data_parallel_workers_do_not_share_a_gpu() -> None:
    with pytest.raises(ValueError, match="gpu_share: data-parallel workers"):
        TrainingConfig.model_validate({"workers_per_member": 2, "gpu_share": 0.5})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_fit_learns_resumes_and_answers_as_on_a_cpu() -> None:
    config = TRAINING.model_copy(update={"epochs": 12, "learning_rate": 1e-2})
    model = small_model()
    result = fit(model, TRAIN, VALID, TAXONOMY, config, seed=5, device="cuda")
    assert result.reports[-1].valid_accuracy == 1.0
    assert all(0.0 < report.busy_share <= 1.0 for report in result.reports)
    on_gpu = member_outputs(model, VALID.log_mels, device="cuda")
    on_cpu = member_outputs(model.cpu(), VALID.log_mels)
    np.testing.assert_allclose(on_gpu.genre_logits, on_cpu.genre_logits, atol=1e-2)
