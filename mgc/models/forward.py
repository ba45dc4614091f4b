"""The forward pass from tracks to logits: windows of many tracks at once, then a mean for each track.

Validation while training and the predictor share it, so that what is measured is what is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mgc.arrays import Float32Array
from mgc.models.layers import ModelOutput

LogMel = npt.NDArray[Any]
"""A track's log-mel in dB, float16 or float32, shape (n_windows, n_frames, n_mels)."""

WINDOWS_IN_STEP = 8
"""A pass is filled up to a multiple of this: matrix kernels round the rows of an unfilled group in another way.

So, on a CPU, a track's answer is the same to the last bit whichever tracks it shares a pass with, and a run that
was killed and resumed writes the table of one that was not.
"""


TRACKS_AT_ONCE = 256
"""Whose windows' outputs are in memory before their means are."""


@dataclass(frozen=True)
class TrackOutputs:
    """One network's output for tracks, the mean over each one's windows; or, a row each, for windows.

    Parameters
    ----------
    genre_logits
        Shape (n_tracks, n_genres).
    tag_logits
        Shape (n_tracks, n_tags).
    embeddings
        Shape (n_tracks, embedding_size), not normalised.
    """

    genre_logits: Float32Array
    tag_logits: Float32Array
    embeddings: Float32Array


def member_outputs(
    model: nn.Module, log_mels: Sequence[LogMel], *, batch_windows: int = 64, device: str = "cpu"
) -> TrackOutputs:
    """Return a network's logits and embedding for each track, in order; see `window_outputs`."""
    parts = []
    for start in range(0, len(log_mels) or 1, TRACKS_AT_ONCE):
        some = log_mels[start : start + TRACKS_AT_ONCE]
        windows = window_outputs(model, some, batch_windows=batch_windows, device=device)
        parts.append(outputs_by_track(windows, some))
    return joined_outputs(parts)


def joined_outputs(parts: Sequence[TrackOutputs]) -> TrackOutputs:
    """Return the outputs of several sets of tracks, of which there is one at least, as one."""
    return TrackOutputs(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


def window_outputs(
    model: nn.Module, log_mels: Sequence[LogMel], *, batch_windows: int = 64, device: str = "cpu"
) -> TrackOutputs:
    """Return a network's logits and embedding for each window, those of a track next to each other."""
    return ensemble_window_outputs([model], log_mels, batch_windows=batch_windows, device=device)[0]


def ensemble_window_outputs(
    models: Sequence[nn.Module], log_mels: Sequence[LogMel], *, batch_windows: int = 64, device: str = "cpu"
) -> list[TrackOutputs]:
    """Return each network's logits and embedding for each window, those of a track next to each other.

    Leaves the networks in evaluation mode. For no tracks the arrays have shape (0, 0). A batch is made once for all
    networks.

    Parameters
    ----------
    models
        As `build_model` makes them, on `device`.
    log_mels
        One array a track. Windows of different tracks share a forward pass where they are equally long.
    batch_windows
        Windows a pass.

    Raises
    ------
    ValueError
        A track has no window or is not of three dimensions.
    """
    for number, log_mel in enumerate(log_mels):
        if log_mel.ndim != 3 or 0 in log_mel.shape:
            raise ValueError(f"track {number}: log-mel of shape {log_mel.shape}, not (windows, frames, mels)")
    for model in models:
        model.eval()
    by_model: list[list[ModelOutput]] = [[] for _ in models]
    with torch.inference_mode():
        for batch in _batches(log_mels, batch_windows):
            windows = batch.to(device).float()
            for model, outputs in zip(models, by_model, strict=True):
                outputs.append(_forward_padded(model, windows))
    return [_joined(outputs) for outputs in by_model]


def outputs_by_track(windows: TrackOutputs, log_mels: Sequence[LogMel]) -> TrackOutputs:
    """Return the mean over each track's windows of `window_outputs`."""
    if not log_mels:
        return windows
    counts = np.array([len(log_mel) for log_mel in log_mels], dtype=np.int64)
    parts = (windows.genre_logits, windows.tag_logits, windows.embeddings)
    return TrackOutputs(*(mean_by_track(part, counts) for part in parts))


def mean_by_track(windows: Float32Array, counts: npt.NDArray[np.int64]) -> Float32Array:
    """Return the mean over each track's windows.

    Parameters
    ----------
    windows
        Shape (sum of counts, d), the windows of a track next to each other.
    counts
        Windows of each track, at least 1, shape (n_tracks,).

    Returns
    -------
    Float32Array
        Shape (n_tracks, d).
    """
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    sums = np.add.reduceat(windows, starts, axis=0) if windows.shape[1] else windows[starts]
    return (sums / counts[:, np.newaxis]).astype(np.float32)


def _batches(log_mels: Sequence[LogMel], batch_windows: int) -> Iterator[torch.Tensor]:
    """Yield runs of equally shaped windows across tracks, at most `batch_windows` at a time."""
    waiting: list[LogMel] = []
    for window in (window for log_mel in log_mels for window in log_mel):
        if waiting and (len(waiting) == batch_windows or window.shape != waiting[0].shape):
            yield torch.from_numpy(np.stack(waiting))
            waiting = []
        waiting.append(window)
    if waiting:
        yield torch.from_numpy(np.stack(waiting))


def _forward_padded(model: nn.Module, windows: torch.Tensor) -> ModelOutput:
    """Return a network's output for windows, shape (n, n_frames, n_mels), whatever n is."""
    spare = windows[:1].expand(-len(windows) % WINDOWS_IN_STEP, -1, -1)
    output: ModelOutput = model(torch.cat([windows, spare]) if len(spare) else windows)
    return ModelOutput(*(part[: len(windows)] for part in output))


def _joined(outputs: list[ModelOutput]) -> TrackOutputs:
    genre, tag, embedding = (
        torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 0), np.float32)
        for parts in ([output[part] for output in outputs] for part in range(3))
    )
    return TrackOutputs(genre, tag, embedding)
