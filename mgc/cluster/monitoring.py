"""What people watch a job by: TensorBoard scalars of each epoch, and counters for Prometheus."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.util.metrics import Counter, Gauge, Histogram

from mgc.errors import ConfigError

OnEpoch = Callable[[int, dict[str, Any]], None]
"""Called with a member's number and its epoch's figures."""
OnResumed = Callable[[int, list[dict[str, Any]]], None]
"""Called with a member's number and the epochs of the run before."""
SCALARS = {
    "train_loss": "loss/train",
    "valid_loss": "loss/valid",
    "train_accuracy": "accuracy/train",
    "valid_accuracy": "accuracy/valid",
    "valid_rmse": "rmse/valid",
    "valid_tag_macro_average_precision": "tag_pr_auc/valid",
    "learning_rate": "learning_rate",
    "windows_per_second": "windows_per_second",
    "busy_share": "busy_share",
}
"""An epoch's figure → the scalar's name; what is before the slash is a chart of its own."""


class TensorBoardLog:
    """Event files of one training, a run a member: `<directory>/<run>-member-<n>`."""

    def __init__(self, directory: str, run: str) -> None:
        self._make = _writer_class()
        self._directory = directory
        self._run = run
        self._writers: dict[int, Any] = {}

    def resumed(self, member: int, history: list[dict[str, Any]]) -> None:
        """Write the epochs of the run before that was stopped; what it wrote beyond them is hidden."""
        self._open(member, purge_from=1)
        for epoch in history:
            self.epoch(member, epoch)

    def epoch(self, member: int, epoch: Mapping[str, Any]) -> None:
        """Write an epoch's figures, those that there are."""
        writer = self._writers.get(member) or self._open(member)
        for name, scalar in SCALARS.items():
            value = epoch.get(name)
            if value is not None and math.isfinite(value):
                writer.add_scalar(scalar, value, epoch["epoch"])
        writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()

    def _open(self, member: int, purge_from: int | None = None) -> Any:
        place = os.path.join(self._directory, f"{self._run}-member-{member}")  # noqa: PTH118 - may be a URI
        try:
            self._writers[member] = self._make(place, purge_step=purge_from)
        except OSError as error:
            raise ConfigError(
                f"cannot write to logs.tensorboard_dir = {self._directory!r}: {error.strerror or error}",
                "give a folder that this process may write to",
            ) from error
        return self._writers[member]


@contextmanager
def tensorboard_log(directory: str | None, run: str) -> Iterator[TensorBoardLog | None]:
    """Open the event files while the block runs; None where no directory is given.

    Raises
    ------
    ConfigError
        The optional library is not installed, or the directory cannot be written to.
    """
    if directory is None:
        yield None
        return
    opened = TensorBoardLog(directory, run)
    try:
        yield opened
    finally:
        opened.close()


def monitored(log: TensorBoardLog | None, on_epoch: OnEpoch, on_resumed: OnResumed) -> tuple[OnEpoch, OnResumed]:
    """Return callbacks that count epochs for Prometheus too, and write to the log where there is one."""

    def epoch_ended(member: int, epoch: dict[str, Any]) -> None:
        count_epoch(member, epoch)
        if log is not None:
            log.epoch(member, epoch)
        on_epoch(member, epoch)

    def resumed(member: int, history: list[dict[str, Any]]) -> None:
        if log is not None:
            log.resumed(member, history)
        on_resumed(member, history)

    return epoch_ended, resumed


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "logs.tensorboard_dir is set, but tensorboardX is not installed", "pip install 'mgc-tagger[tensorboard]'"
        ) from error
    return SummaryWriter


# Prometheus, through Ray's own metrics (`docs/report.md` lists the names).
#
# Rows and epochs are counted by the driver, once each, as they come back; a chunk is timed by the actor that did it.
# Ray sends what was counted every ten seconds: a scrape lags that far behind. It puts `ray_` before the names.

CHUNK_SECONDS = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0]
"""Upper ends of the histogram's bins."""


@cache
def _tracks() -> Counter:
    return Counter("mgc_tracks", "Tracks that came back, failed ones included", ("job",))


@cache
def _failed() -> Counter:
    return Counter("mgc_tracks_failed", "Tracks that came back failed, by error code", ("job", "code"))


@cache
def _audio_seconds() -> Counter:
    return Counter("mgc_audio_seconds", "Length of the tracks that came back", ("job",))


@cache
def _chunk_seconds() -> Histogram:
    return Histogram("mgc_chunk_seconds", "Wall time of an actor's chunk", CHUNK_SECONDS, ("job",))


@cache
def _epochs() -> Counter:
    return Counter("mgc_training_epochs", "Epochs fitted, those of a run before left out", ("member",))


@cache
def _of_epoch(figure: str) -> Gauge:
    return Gauge(f"mgc_training_{figure}", f"{figure} of a member's last epoch", ("member",))


def count_epoch(member: int, epoch: Mapping[str, Any]) -> None:
    """Count a member's epoch, and show its figures (`SCALARS`), those that there are."""
    tags = {"member": str(member)}
    _epochs().inc(1.0, tags)
    for figure in SCALARS:
        value = epoch.get(figure)
        if value is not None and math.isfinite(value):
            _of_epoch(figure).set(value, tags)


def count_rows(job: str, index: pa.Table) -> None:
    """Count a chunk's index rows: a track once, however many views it has.

    Parameters
    ----------
    job
        Kind of the output: features or predictions.
    index
        Schema INDEX, of one chunk: all rows of a track are in it.
    """
    tracks = index.group_by("track_id").aggregate([("duration_seconds", "max"), ("error_code", "max")])
    job_tag = {"job": job}
    if tracks.num_rows:
        _tracks().inc(float(tracks.num_rows), job_tag)
    seconds = pc.sum(tracks["duration_seconds_max"]).as_py() or 0.0
    if seconds > 0:
        _audio_seconds().inc(seconds, job_tag)
    for entry in pc.value_counts(pc.drop_null(tracks["error_code_max"])).to_pylist():
        _failed().inc(float(entry["counts"]), {**job_tag, "code": entry["values"]})


def time_chunk(job: str, seconds: float) -> None:
    """Note how long an actor took for a chunk."""
    _chunk_seconds().observe(seconds, {"job": job})
