"""Windows cover the track, evenly, and no more than allowed."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.audio.windows import MOST_WINDOWS, window_starts, window_starts_every
from mgc.config import FeatureConfig


def starts(duration_seconds: float, **settings: float) -> list[float]:
    return window_starts(duration_seconds, FeatureConfig(**settings))


@pytest.mark.parametrize(
    ("duration_seconds", "expected"),
    [
        (0.001, [0.0]),
        (9.9, [0.0]),
        (10.0, [0.0]),
        (10.4, [0.0]),  # a remainder of 0.4 s is not worth a window
        (15.0, [0.0, 5.0]),
        (20.0, [0.0, 10.0]),
        (30.0, [0.0, 10.0, 20.0]),
        (30.04, [0.0, 10.02, 20.04]),  # an MP3's padding
        (60.0, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
        (110.0, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
    ],
)
def test_starts_of_ten_second_windows(duration_seconds, expected):
    np.testing.assert_allclose(starts(duration_seconds, window_seconds=10.0, max_windows=6), expected)


def test_ten_hours_are_read_in_as_many_windows_as_allowed():
    found = starts(36_000.0, window_seconds=10.0, max_windows=4)
    np.testing.assert_allclose(found, [0.0, 11_996.666667, 23_993.333333, 35_990.0])


def test_one_window_is_the_first():
    assert starts(100.0, window_seconds=10.0, max_windows=1) == [0.0]


@pytest.mark.parametrize(
    ("duration_seconds", "every_seconds", "expected"),
    [
        (3.0, 2.0, [0.0]),
        (10.0, 2.0, [0.0]),
        (10.4, 2.0, [0.0, 0.4]),
        (15.0, 2.0, [0.0, 2.0, 4.0, 5.0]),
        (16.05, 2.0, [0.0, 2.0, 4.0, 6.05]),  # a start at 6 would be almost the last one
        (35.0, 10.0, [0.0, 10.0, 20.0, 25.0]),
        (60.0, 25.0, [0.0, 25.0, 50.0]),
    ],
)
def test_starts_every_so_many_seconds(duration_seconds, every_seconds, expected):
    found = window_starts_every(duration_seconds, every_seconds, FeatureConfig(window_seconds=10.0))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("duration_seconds", [700.0, 36_000.0])
def test_very_many_windows_start_farther_apart(duration_seconds):
    config = FeatureConfig(window_seconds=10.0)
    found = window_starts_every(duration_seconds, 1.0, config)
    assert MOST_WINDOWS - 2 <= len(found) <= MOST_WINDOWS
    assert found[-1] == duration_seconds - 10.0
    np.testing.assert_allclose(np.diff(found)[:-1], (duration_seconds - 10.0) / (MOST_WINDOWS - 2))
