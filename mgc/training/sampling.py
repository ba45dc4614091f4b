"""Which windows an epoch is made of: all, or as many of each genre as of another."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mgc.arrays import IntArray
from mgc.config.taxonomy import UNKNOWN

Sampling = Literal["all", "oversample", "undersample"]


def draw_order(rng: np.random.Generator, genres: IntArray, sampling: Sampling) -> IntArray:
    """Return the windows of an epoch in random order.

    Parameters
    ----------
    genres
        Genre index of each window, `UNKNOWN` where it is not known, shape (n_windows,).
    sampling
        `oversample` repeats windows of rare genres until each genre has as many as the most frequent one, a
        window not again before each of its genre has been taken; `undersample` leaves windows of frequent
        genres out, others each epoch. Windows of unknown genre come once.

    Returns
    -------
    IntArray
        Window indices, shape (`epoch_size`,).
    """
    if sampling == "all":
        return rng.permutation(len(genres))
    wanted = _wanted(genres, sampling)
    chosen = [np.flatnonzero(genres == UNKNOWN)]
    for genre in np.unique(genres[genres != UNKNOWN]):
        windows = np.flatnonzero(genres == genre)
        rounds = -(-wanted // len(windows))
        chosen.append(np.concatenate([rng.permutation(windows) for _ in range(rounds)])[:wanted])
    return rng.permutation(np.concatenate(chosen))


def epoch_size(genres: IntArray, sampling: Sampling) -> int:
    """Return how many windows `draw_order` gives."""
    if sampling == "all":
        return len(genres)
    known = genres[genres != UNKNOWN]
    return len(genres) - len(known) + _wanted(genres, sampling) * len(np.unique(known))


def _wanted(genres: IntArray, sampling: Sampling) -> int:
    counts = np.unique(genres[genres != UNKNOWN], return_counts=True)[1]
    if not counts.size:
        return 0
    return int(counts.max() if sampling == "oversample" else counts.min())
