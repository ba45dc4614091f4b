"""What a run counts for Prometheus: a track once, whatever its views, and each failure under its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from mgc.cluster import monitoring as metrics
from mgc.cluster.monitoring import CHUNK_SECONDS, count_rows, time_chunk
from mgc.tables.run_index import INDEX


class Seen:
    """A metric that remembers what it was told."""

    def __init__(self) -> None:
        self.values: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.values.append((value, tags))

    observe = set = inc


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    made = {name: Seen() for name in ("_tracks", "_failed", "_audio_seconds", "_chunk_seconds")}
    for name, metric in made.items():
        monkeypatch.setattr(metrics, name, lambda metric=metric: metric)
    return lambda name: made[name].values


def index(*rows: tuple[str, str, float | None, str | None]) -> pa.Table:
    filled = [
        dict.fromkeys(INDEX.names)
        | {"track_id": track, "view": view, "duration_seconds": seconds, "error_code": code}
        | {"content_id": "c", "recipe": "", "part": "p", "sequence": 1, "fingerprint": "f"}
        for track, view, seconds, code in rows
    ]
    return pa.Table.from_pylist(filled, schema=INDEX)


def test_tracks_are_counted_once_and_failures_by_code(seen: Callable[[str], Any]) -> None:
    count_rows(
        "features",
        index(
            ("a", "clean", 30.0, None),
            ("a", "tempo_fast", 30.0, None),
            ("b", "clean", 10.0, None),
            ("c", "clean", None, "T202_NOT_AUDIO"),
            ("d", "clean", None, "T202_NOT_AUDIO"),
            ("e", "clean", None, "T101_NOT_FOUND"),
        ),
    )
    assert seen("_tracks") == [(5.0, {"job": "features"})]
    assert seen("_audio_seconds") == [(40.0, {"job": "features"})]
    assert sorted((tags["code"], value) for value, tags in seen("_failed")) == [
        ("T101_NOT_FOUND", 1.0),
        ("T202_NOT_AUDIO", 2.0),
    ]


def test_epochs_are_counted_and_their_figures_shown_beside_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    epochs, gauges = Seen(), {name: Seen() for name in metrics.SCALARS}
    monkeypatch.setattr(metrics, "_epochs", lambda: epochs)
    monkeypatch.setattr(metrics, "_of_epoch", gauges.__getitem__)
    told: list[tuple[int, Any]] = []
    on_epoch, on_resumed = metrics.monitored(None, lambda *step: told.append(step), lambda *step: told.append(step))
    on_resumed(1, [{"epoch": 1, "valid_loss": 9.0}])
    epoch = {"epoch": 2, "train_loss": 0.5, "valid_loss": float("nan"), "valid_rmse": None, "learning_rate": 1e-3}
    on_epoch(1, epoch)
    assert told == [(1, [{"epoch": 1, "valid_loss": 9.0}]), (1, epoch)]
    assert epochs.values == [(1.0, {"member": "1"})], "a resumed epoch was counted by the run that did it"
    shown = {name: gauge.values for name, gauge in gauges.items() if gauge.values}
    assert shown == {"train_loss": [(0.5, {"member": "1"})], "learning_rate": [(1e-3, {"member": "1"})]}


def test_an_empty_chunk_counts_nothing(seen: Callable[[str], Any]) -> None:
    count_rows("predictions", index())
    assert seen("_tracks") == seen("_audio_seconds") == seen("_failed") == []
    time_chunk("predictions", 2.5)
    assert seen("_chunk_seconds") == [(2.5, {"job": "predictions"})]


def test_rays_own_metrics_take_them_without_a_cluster() -> None:
    count_rows("predictions", index(("a", "clean", 1.0, None), ("b", "clean", None, "T201_EMPTY_FILE")))
    time_chunk("predictions", 0.1)
    assert metrics._tracks().info["name"] == "mgc_tracks"
    assert metrics._failed().info["tag_keys"] == ("job", "code")
    metrics.count_epoch(0, {"valid_loss": 1.0})
    assert metrics._of_epoch("valid_loss").info["name"] == "mgc_training_valid_loss"
    assert sorted(CHUNK_SECONDS) == CHUNK_SECONDS
