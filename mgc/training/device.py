"""What a fit does for its device: the layout of convolutions, half precision, the way there, and how busy it is.

On a GPU the network's convolutions lie channels-last, batches come from pinned memory while the step before runs,
and the forward pass is in bfloat16 where `training.precision` allows it: weights, losses and the optimizer stay in
single precision (Micikevicius et al. 2018; no loss scaling, as bfloat16 has the range of float32), and so do
recurrent layers (`mgc.models.layers.states`) and fixed statistics. On a CPU nothing of this is done but what
`precision` says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mgc.config.training_settings import Precision


def to_device(model: nn.Module, device: str) -> None:
    """Move a network to a device, in place; on a GPU its filters channels-last, which its tensor cores read."""
    if is_gpu(device):
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        model.to(device)


def is_gpu(device: str) -> bool:
    """Return whether a device is one of CUDA's."""
    return device.startswith("cuda")


def forward_precision(device: str, precision: Precision) -> torch.autocast:
    """Return the context of a forward pass: autocast to bfloat16, or nothing."""
    if precision == "auto":
        # Emulated, as on GPUs before Ampere, it is slower than float32.
        half = is_gpu(device) and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        half = precision == "bfloat16"
    return torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=half)


class BusyTime:
    """How long a device was on steps, from the beginning of each to its end: on a GPU by its own clock.

    What is left of an epoch is waiting for batches, so a share far below 1 says that reading is what holds a fit up.
    How far a step fills a GPU it does not say.
    """

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self._gpu = torch.device(device) if is_gpu(device) else None
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what the block gives the device to do."""
        if self._gpu is None:
            started = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - started
            return
        stream = torch.cuda.current_stream(self._gpu)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(stream)
        yield
        end.record(stream)
        self._events.append((start, end))

    def add_up(self) -> None:
        """Add the steps so far to `seconds`, once the device has done all that it was given."""
        if self._gpu is not None:
            torch.cuda.synchronize(self._gpu)
            self.seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1_000
            self._events.clear()
