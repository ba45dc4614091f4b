"""The progress meter: counts, rate and time left, as plain lines and as a live line."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from mgc.cluster import progress
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.progress import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets the meter's clock."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def set_to(seconds: float) -> None:
        now[0] = 100.0 + seconds

    return set_to


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=200), written


def test_plain_lines_come_at_intervals_and_at_the_end(clock: Callable[[float], None]) -> None:
    screen, written = console()
    with Meter(screen, "tagging", 1_000).shown() as meter:
        for seconds, items, failed in ((5.0, 100, 0), (6.0, 20, 0), (15.0, 80, 3), (16.0, 700, 0), (17.0, 100, 0)):
            clock(seconds)
            meter.advance(ChunkProgress(items, failed, 300.0 * items))
    # 100 tracks in the ten seconds since the first chunk, 800 left; the last line leaves the rate to the summary.
    assert written.getvalue().splitlines() == [
        "tagging: 200/1,000 tracks, 10.0 tracks/s, 3,000× realtime, 3 failed, 0:01:20 left",
        "tagging: 1,000/1,000 tracks, 3 failed",
    ]


def test_slow_work_is_counted_by_the_minute_with_a_forecast_and_a_note(clock: Callable[[float], None]) -> None:
    screen, written = console()
    with Meter(screen, "running", 4, "runs").shown() as meter:
        meter.update(0, note="net [a], fold 1")
        clock(30.0)
        meter.update(1, seconds_left=3_725.0, note="net [b], fold 2 (epoch 1/9)")
    assert written.getvalue() == "running: 1/4 runs, 2.0 runs/min, 1:02:05 left, net [b], fold 2 (epoch 1/9)\n"


@pytest.mark.parametrize(
    ("seconds_left", "shown"),
    [
        ((168.0, 1_380.0), "0:02:48 to 0:23:00 left"),
        ((95.0, 100.0), "0:01:40 left"),
        ((30.0, float("inf")), "at least 0:00:30 left"),
        ((0.0, float("inf")), "time left not known yet"),
    ],
)
def test_a_forecast_that_is_not_sure_has_two_ends(
    clock: Callable[[float], None], seconds_left: tuple[float, float], shown: str
) -> None:
    screen, written = console()
    with Meter(screen, "running", 4, "runs").shown() as meter:
        meter.update(0)
        clock(30.0)
        meter.update(1, seconds_left=seconds_left)
    assert written.getvalue() == f"running: 1/4 runs, 2.0 runs/min, {shown}\n"


def test_nothing_is_shown_of_what_never_began() -> None:
    screen, written = console()
    with Meter(screen, "tagging", 10).shown():
        pass
    assert not written.getvalue()


def test_a_terminal_has_one_live_line_that_goes_at_the_end(clock: Callable[[float], None]) -> None:
    screen, written = console(terminal=True)
    with Meter(screen, "training", 6, "epochs").shown() as meter:
        meter.update(3, note="member 1/2 [x]")
    shown = written.getvalue()
    assert "training" in shown
    assert "3/6" in shown
    assert "member 1/2 [x]" in shown
    assert "training: " not in shown, "no plain line"


def test_what_goes_before_the_count_is_shown_and_no_rate_is_measured_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    written = io.StringIO()
    meter = Meter(Console(file=written, width=120), "training", 4, "epochs")
    with meter.shown():
        meter.announce("statistics of member 1: 3 of 9 tracks")
        assert meter._first is None
    assert written.getvalue() == "training: statistics of member 1: 3 of 9 tracks\n"
