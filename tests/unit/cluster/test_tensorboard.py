"""What TensorBoard is given."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from mgc.cluster.monitoring import tensorboard_log
from mgc.errors import ConfigError

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

EPOCH: dict[str, Any] = {
    "epoch": 1,
    "train_loss": 2.5,
    "valid_loss": 1.5,
    "valid_accuracy": 0.5,
    "valid_rmse": None,
    "valid_tag_macro_average_precision": float("nan"),
    "learning_rate": 0.001,
    "windows_per_second": 100.0,
}


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Return (name, step, value) of every scalar in a run's event files, in the order they were written."""
    found = []
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:  # a TFRecord: length, its CRC, the event, its CRC
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[12 + length + 4 :]
    return found


def test_every_figure_that_there_is_becomes_a_scalar(tmp_path: Path) -> None:
    with tensorboard_log(str(tmp_path), "key") as log:
        assert log is not None
        log.epoch(0, EPOCH)
        log.epoch(1, {**EPOCH, "epoch": 2})
    assert scalars(tmp_path / "key-member-0") == [
        ("loss/train", 1, 2.5),
        ("loss/valid", 1, 1.5),
        ("accuracy/valid", 1, 0.5),
        ("learning_rate", 1, pytest.approx(0.001)),
        ("windows_per_second", 1, 100.0),
    ]
    assert {step for _, step, _ in scalars(tmp_path / "key-member-1")} == {2}


def test_a_training_that_goes_on_tells_all_epochs_again(tmp_path: Path) -> None:
    with tensorboard_log(str(tmp_path), "key") as log:
        assert log is not None
        log.resumed(0, [EPOCH, {**EPOCH, "epoch": 2}])
        log.epoch(0, {**EPOCH, "epoch": 3})
    assert [step for name, step, _ in scalars(tmp_path / "key-member-0") if name == "loss/valid"] == [1, 2, 3]


def test_without_a_folder_there_is_none() -> None:
    with tensorboard_log(None, "key") as log:
        assert log is None


def test_the_library_is_optional_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(ConfigError, match=r"not installed.*\n.*pip install 'mgc-tagger\[tensorboard\]'"),
        tensorboard_log(str(tmp_path), "k"),
    ):
        pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with tensorboard_log(str(tmp_path / "file"), "key") as log:
        assert log is not None
        with pytest.raises(ConfigError, match=r"cannot write to logs\.tensorboard_dir"):
            log.epoch(0, EPOCH)
