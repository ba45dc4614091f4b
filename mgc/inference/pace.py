"""How fast bundles hear, measured in turn in one process: what a small student gains over its teacher."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from mgc.inference.predictor import Predictor
from mgc.models.bundle import Bundle

ROUNDS = 5
WINDOWS = 32


def windows_per_second(bundles: Sequence[Bundle], rounds: int = ROUNDS) -> list[float]:
    """Return the windows that each bundle's ensemble judges in a second on one thread, medians of rounds in turn.

    The networks alone, on noise: how long a network takes does not depend on what it hears. Features are not made.
    """
    tracks = [_noise(bundle) for bundle in bundles]
    predictors = [Predictor(bundle) for bundle in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    with threadpool_limits(1):
        for turn in range(rounds + 1):
            for predictor, track, taken in zip(predictors, tracks, seconds, strict=True):
                started = time.perf_counter()
                predictor.predict([track])
                if turn:  # the first one also builds what later ones find
                    taken.append(time.perf_counter() - started)
    return [WINDOWS / statistics.median(taken) for taken in seconds]


def _noise(bundle: Bundle) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    features = bundle.features
    rng = np.random.default_rng(0)
    shape = (WINDOWS, features.n_frames, features.n_mels)
    return rng.uniform(-features.top_db, 0.0, shape).astype(np.float32)
