"""Protocols: how tracks are split into those that are learned from and those that are predicted.

The same model gives very different figures under different ones (Sturm, "The GTZAN dataset: Its contents, its faults,
their effects on evaluation, and its future use", 2013): segments of one track, or tracks of one artist, on both sides
of a split let it answer from memory. Each protocol here is a function of a catalogue and a seed and returns folds;
none reads features or knows a model. The rows' order does not matter, and the same seed gives the same folds.

====================  =======================================================  =========================
`fixed_split`         the catalogue's own splits (fault-filtered GTZAN, …)     groups apart if they are
`group_k_fold`        k folds, artists (groups) apart, genres balanced         groups apart
`stratified_k_fold`   k folds, genres balanced                                 tracks apart, groups leak
`random_tracks`       one random draw of tracks                                tracks apart, groups leak
`random_segments`     one random draw of windows: for the leak audit only      tracks leak too
====================  =======================================================  =========================
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from mgc.arrays import IntArray
from mgc.errors import SplitError

Parts = tuple[IntArray, IntArray]
"""Rows of train and of valid."""
MAX_SEED = 2**32 - 1
"""Seeds that scikit-learn takes."""


@dataclass(frozen=True)
class Fold:
    """One parting of tracks.

    Parameters
    ----------
    train, valid
        Track ids, sorted; no id in both.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]


@dataclass(frozen=True)
class SegmentFold:
    """One parting of windows: (track id, number of the window), sorted. A track may stand on both sides."""

    train: tuple[tuple[str, int], ...]
    valid: tuple[tuple[str, int], ...]


def fixed_split(catalogue: pl.DataFrame, train: str = "train", valid: str = "valid") -> list[Fold]:
    """Return the one fold that the catalogue's splits make, unlabelled tracks left out.

    Parameters
    ----------
    catalogue
        Schema CATALOGUE, as for all protocols.

    Raises
    ------
    SplitError
        A split has no labelled track, or a genre is only in `valid` and could never be answered.
    """
    known = _labelled(catalogue)
    sides = [known.filter(pl.col("split") == name) for name in (train, valid)]
    for name, side in zip((train, valid), sides, strict=True):
        if side.is_empty():
            raise SplitError(f"split '{name}' has no labelled track", "name a split that has, or index with labels")
    missing = sorted(set(sides[1]["genre"].drop_nulls()) - set(sides[0]["genre"].drop_nulls()))
    if missing:
        raise SplitError(
            f"split '{train}' lacks genre(s) that split '{valid}' has: {', '.join(missing)}",
            "give each genre tracks in both, or leave it out of the catalogue",
        )
    return [Fold(*(tuple(side["track_id"]) for side in sides))]


def group_k_fold(catalogue: pl.DataFrame, folds: int, seed: int = 0) -> list[Fold]:
    """Return folds whose groups (artists) are never on both sides, genres as balanced as the groups allow.

    Tracks of every split count, `unlisted` ones (faulty, say) do not. Tracks without a genre (tags alone) make the
    folds by groups alone.

    Raises
    ------
    SplitError
        There are fewer groups than folds.
    """
    tracks = _drawable(catalogue)
    _require_folds(folds, tracks["group"].n_unique(), "groups")
    classes, groups = _classes(tracks), tracks["group"].to_numpy()
    if np.bincount(classes).max() >= folds:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=_seed(seed))
        with warnings.catch_warnings():
            # That a genre has fewer tracks than there are folds is no news where groups are few.
            warnings.simplefilter("ignore", UserWarning)
            parts = list(splitter.split(classes, classes, groups))
        # Balancing genres may leave a fold empty where groups hardly outnumber the folds.
        if all(len(train) and len(valid) for train, valid in parts):
            return _folds(tracks, parts)
    return _folds(tracks, GroupKFold(folds, shuffle=True, random_state=_seed(seed)).split(classes, classes, groups))


def stratified_k_fold(catalogue: pl.DataFrame, folds: int = 10, seed: int = 0) -> list[Fold]:
    """Return folds with the same share of each genre (ten-fold, as most papers have it). Artists leak across.

    Raises
    ------
    SplitError
        A genre has fewer tracks than there are folds, or no track has a genre.
    """
    tracks = _drawable(catalogue).drop_nulls("genre")
    _require_folds(folds, len(tracks), "tracks with a genre")
    rare = tracks["genre"].value_counts().filter(pl.col("count") < folds).sort("genre")
    if not rare.is_empty():
        name, count = rare.row(0)
        raise SplitError(
            f"genre '{name}' has {count} track(s), fewer than the {folds} folds",
            "ask for fewer folds, or leave the genre out",
        )
    classes = _classes(tracks)
    return _folds(tracks, StratifiedKFold(folds, shuffle=True, random_state=_seed(seed)).split(classes, classes))


def random_tracks(catalogue: pl.DataFrame, valid_fraction: float = 0.2, seed: int = 0) -> list[Fold]:
    """Return one random parting of tracks, balanced by genre, whoever their artists are. Artists leak across.

    Raises
    ------
    SplitError
        A genre has one track alone, or the fraction leaves a side empty.
    """
    tracks = _drawable(catalogue)
    return _folds(tracks, [_drawn(_classes(tracks), valid_fraction, seed)])


def random_segments(
    catalogue: pl.DataFrame, windows: Mapping[str, int], valid_fraction: float = 0.2, seed: int = 0
) -> list[SegmentFold]:
    """Return one random parting of windows, balanced by genre: what no figure should be claimed from.

    It is here for the leak audit, which shows what it would have claimed.

    Parameters
    ----------
    windows
        Windows of each track id (of a `FeatureSet`: `{id: len(log_mel)}`); other tracks are left out.

    Raises
    ------
    SplitError
        As `random_tracks`.
    """
    tracks = _drawable(catalogue).filter(pl.col("track_id").is_in(list(windows)))
    counts = np.array([windows[track_id] for track_id in tracks["track_id"]], dtype=np.int64)
    rows = np.repeat(np.arange(len(tracks)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts]) if len(counts) else rows
    ids = tracks["track_id"].to_list()
    sides = _drawn(_classes(tracks)[rows], valid_fraction, seed)
    train, valid = (tuple((ids[rows[place]], int(numbers[place])) for place in np.sort(side)) for side in sides)
    return [SegmentFold(train, valid)]


def with_fold(catalogue: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """Return the catalogue with the fold as its splits: `train`, `valid`, and `unlisted` for all other tracks.

    What trains and evaluates on a catalogue then needs to know of no protocol.
    """
    ids = pl.col("track_id")
    split = pl.when(ids.is_in(list(fold.train))).then(pl.lit("train")).when(ids.is_in(list(fold.valid)))
    return catalogue.with_columns(split=split.then(pl.lit("valid")).otherwise(pl.lit("unlisted")))


def groups_across(catalogue: pl.DataFrame, fold: Fold) -> list[str]:
    """Return the groups that have tracks on both sides of a fold, sorted: what leaks."""
    sides = [set(catalogue.filter(pl.col("track_id").is_in(list(ids)))["group"]) for ids in (fold.train, fold.valid)]
    return sorted(sides[0] & sides[1])


def _labelled(catalogue: pl.DataFrame) -> pl.DataFrame:
    return catalogue.filter(pl.col("genre").is_not_null() | pl.col("tags_known")).sort("track_id")


def _drawable(catalogue: pl.DataFrame) -> pl.DataFrame:
    tracks = _labelled(catalogue).filter(pl.col("split") != "unlisted")
    if tracks.is_empty():
        raise SplitError("the catalogue has no labelled track to part", "join labels when indexing")
    return tracks


def _classes(tracks: pl.DataFrame) -> IntArray:
    """Return a number for each track's genre; tracks without one are a class of their own."""
    ranks = tracks["genre"].fill_null("").rank("dense")
    return ranks.to_numpy().astype(np.int64)


def _drawn(classes: IntArray, valid_fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    splitter = StratifiedShuffleSplit(1, test_size=valid_fraction, random_state=_seed(seed))
    try:
        train, valid = next(splitter.split(classes, classes))
    except ValueError as error:
        raise SplitError(
            f"{len(classes)} rows of {len(np.unique(classes))} genres cannot be parted at {valid_fraction:g}: "
            f"{error}",
            "give each genre two tracks or more, or another fraction",
        ) from error
    return train, valid


def _folds(tracks: pl.DataFrame, parts: Iterator[Parts] | list[Parts]) -> list[Fold]:
    ids = tracks["track_id"].to_numpy()
    return [Fold(tuple(ids[np.sort(train)].tolist()), tuple(ids[np.sort(valid)].tolist())) for train, valid in parts]


def _require_folds(folds: int, available: int, what: str) -> None:
    if folds < 2 or folds > available:
        raise SplitError(f"{folds} folds of {available} {what}", f"ask for 2 to {available} folds" * (available > 1))


def _seed(seed: int) -> int:
    return seed % MAX_SEED
