"""Data-parallel training in two processes of torch.distributed, as Ray Train starts it."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from model_makers import MODEL, TAXONOMY, TRAINING, feature_set, small_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mgc.training.loop import fit
from mgc.training.state import TrainingState

WORLD_SIZE = 2
CONFIG = TRAINING.model_copy(update={"epochs": 2})
# Without dropout, and with batch norm fixed, the gradient of the parts is that of the whole.
STILL = MODEL.model_copy(update={"dropout": 0.0})


def model() -> nn.Module:
    network = small_model(config=STILL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.0
            module.register_forward_pre_hook(hold_still)
    return network


def hold_still(norm: nn.Module, _: object) -> None:
    norm.eval()


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD_SIZE
    )
    result = fit(
        model(),
        feature_set(10, seed=1),
        feature_set(5, seed=2),
        TAXONOMY,
        CONFIG,
        seed=5,
        wrap=DistributedDataParallel,
        shard=(rank, WORLD_SIZE),
    )
    scores = torch.tensor([report.valid_loss for report in result.reports], dtype=torch.float64)
    Path(folder, f"{rank}.state").write_bytes(result.state.to_bytes())
    torch.save(scores, Path(folder, f"{rank}.scores"))
    torch.distributed.destroy_process_group()


def test_two_workers_fit_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, str(tmp_path)), nprocs=WORLD_SIZE)
    states = [TrainingState.from_bytes((tmp_path / f"{rank}.state").read_bytes()) for rank in range(WORLD_SIZE)]
    scores = [torch.load(tmp_path / f"{rank}.scores", weights_only=True) for rank in range(WORLD_SIZE)]
    assert torch.equal(scores[0], scores[1])
    alone = fit(model(), feature_set(10, seed=1), feature_set(5, seed=2), TAXONOMY, CONFIG, seed=5)
    for name, tensor in alone.state.weights.items():
        torch.testing.assert_close(states[0].weights[name], tensor, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(states[0].weights[name], states[1].weights[name])
