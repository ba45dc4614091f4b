"""One track as it is shown: its sound, and the ensemble's predictions over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float32Array
from mgc.audio.track_features import Outline
from mgc.config import FeatureConfig
from mgc.printable import not_sure

if TYPE_CHECKING:
    from mgc.inference.occlusion import Occlusion

MOST_COLUMNS = 1_100
"""Columns of pictures in time: more than a page's pixels would show."""

_ROUNDING = 1e-6

MIN_ROW_PROBABILITY = 0.05
"""What is never more probable than that in a track has no row in its picture,"""

FEWEST_ROWS = 4
"""unless there would be fewer rows."""


@dataclass(frozen=True)
class Neighbour:
    """A track of the catalogue that sounds alike.

    Parameters
    ----------
    similarity
        Cosine of the embeddings, 1 for the same sound.
    genre, genre_probability, abstained
        Its own answer, and whether its genre is not sure.
    """

    uri: str
    similarity: float
    genre: str | None
    genre_probability: float | None
    abstained: bool = False

    @property
    def genre_text(self) -> str:
        """The genre in words, "not sure: jazz 40 %" where the ensemble abstained; a dash where there is none."""
        if self.genre is None or not self.abstained:
            return self.genre or "–"
        return not_sure(self.genre, self.genre_probability or 0.0)


@dataclass(frozen=True)
class TrackView:
    """One track, ready to be shown.

    Parameters
    ----------
    uri
        As it was given.
    genres, tags
        (name, probability) of the whole track, the likeliest first.
    tag_thresholds
        Probability at which each tag is listed, in the order of `tag_names`.
    windows
        How many the answer was made from.
    outline
        Of the waveform.
    log_mel, cepstrum
        Of windows in time, shape (n_windows, n_frames, n_mels), dB, and (n_windows, n_frames, quefrencies).
    start_seconds, end_seconds
        Of those windows.
    genre_names, tag_names
        Columns of the next two.
    genre_in_time, tag_in_time
        Probabilities of each window, shapes (n_windows, n_genres) and (n_windows, n_tags).
    nearest
        The most similar tracks of a catalogue; None where no predictions were given.
    abstained
        Whether the first of the genres is not sure.
    listed
        Tags of the answer; None: all at or above their thresholds.
    occlusion
        What spoke for the answer; None where that was not computed.
    audio_url
        Where the page finds the file, relative to itself; None where a browser cannot reach it.
    """

    uri: str
    genres: list[tuple[str, float]]
    tags: list[tuple[str, float]]
    tag_thresholds: npt.NDArray[np.float64]
    windows: int
    outline: Outline
    features: FeatureConfig
    log_mel: npt.NDArray[Any]
    cepstrum: npt.NDArray[Any]
    start_seconds: tuple[float, ...]
    end_seconds: tuple[float, ...]
    genre_names: tuple[str, ...]
    tag_names: tuple[str, ...]
    genre_in_time: Float32Array
    tag_in_time: Float32Array
    nearest: list[Neighbour] | None
    bundle_uri: str
    bundle_fingerprint: str
    abstained: bool = False
    listed: Sequence[str] | None = None
    occlusion: Occlusion | None = None
    audio_url: str | None = None

    @property
    def duration_seconds(self) -> float:
        """Length of the track as it was decoded."""
        return self.outline.duration_seconds

    @property
    def listed_tags(self) -> list[tuple[str, float]]:
        """Those at or above their thresholds; of tags that exclude each other the most probable alone."""
        listed_at = dict(zip(self.tag_names, self.tag_thresholds.tolist(), strict=True))
        listed = [(name, probability) for name, probability in self.tags if probability >= listed_at[name]]
        return listed if self.listed is None else [one for one in listed if one[0] in self.listed]

    @property
    def threshold_text(self) -> str:
        """At what probability tags are listed, in words: one for all, or each tag's own."""
        if not self.tag_names or np.ptp(self.tag_thresholds):
            return "their own thresholds"
        return f"{100 * self.tag_thresholds[0]:.0f} %"


def in_time_columns(view: TrackView, values: npt.NDArray[Any]) -> Float32Array:
    """Return windows' frames, shape (n_windows, n_frames, rows), as columns of the whole track, (n_columns, rows).

    A column is the mean over the frames that fall into it, of all windows; NaN where there is none.
    """
    features = view.features
    step_seconds = 1.0 / features.frames_per_second
    first_seconds = features.frame_phase * features.hop_length / features.sample_rate
    # A little more than nothing, here and below: a frame that begins a column must not fall into the one before.
    n_columns = int(min(MOST_COLUMNS, max(1.0, view.duration_seconds / step_seconds + _ROUNDING)))
    n_windows, n_frames, n_rows = values.shape
    seconds = np.array(view.start_seconds)[:, np.newaxis] + first_seconds + step_seconds * np.arange(n_frames)
    columns = (seconds / view.duration_seconds * n_columns + _ROUNDING).astype(np.int64).ravel()
    inside = columns < n_columns  # a short track's window is filled with silence
    frames = values.reshape(n_windows * n_frames, n_rows)[inside].astype(np.float32)
    order = np.argsort(columns[inside], kind="stable")
    filled, firsts, counts = np.unique(columns[inside][order], return_index=True, return_counts=True)
    means = np.full((n_columns, n_rows), np.nan, dtype=np.float32)
    means[filled] = np.add.reduceat(frames[order], firsts, axis=0) / counts[:, np.newaxis]
    return means


def window_edges(view: TrackView) -> npt.NDArray[np.float64]:
    """Return where the moments of the windows end, in seconds, shape (n_windows + 1,).

    A moment is what is nearer to a window's middle than to that of any other.
    """
    middles = (np.array(view.start_seconds) + np.array(view.end_seconds)) / 2
    return np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [view.duration_seconds]])


def in_columns(view: TrackView, in_time: Float32Array) -> Float32Array:
    """Return windows' probabilities at evenly spaced times, shape (MOST_COLUMNS, n_names).

    At each time those of the window whose moment it is (`window_edges`).
    """
    times = (np.arange(MOST_COLUMNS) + 0.5) / MOST_COLUMNS * view.duration_seconds
    return in_time[np.searchsorted(window_edges(view)[1:-1], times)]


def drops_in_columns(view: TrackView, occluded: Occlusion) -> Float32Array:
    """Return how much each time spoke for the answer, shape (MOST_COLUMNS,); NaN where no window of the answer is.

    The mean over the slices that are there: windows may overlap.
    """
    times = (np.arange(MOST_COLUMNS) + 0.5) / MOST_COLUMNS * view.duration_seconds
    inside = (times >= occluded.start_seconds[:, np.newaxis]) & (times < occluded.end_seconds[:, np.newaxis])
    sums = (inside * occluded.slice_drops[:, np.newaxis]).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / inside.sum(axis=0), dtype=np.float32)


def strongest(
    names: Sequence[str], whole: Sequence[tuple[str, float]], in_time: Float32Array, most: int
) -> list[int]:
    """Return which names are worth a row in time: the likeliest of the track or of any moment.

    Returns
    -------
    list[int]
        Their places among `names`, the likeliest of the whole track first.
    """
    peak = dict(zip(names, in_time.max(axis=0).tolist(), strict=True))
    ranked = sorted(whole, key=lambda pair: -max(pair[1], peak[pair[0]]))[:most]
    likely = [pair for pair in ranked if max(pair[1], peak[pair[0]]) >= MIN_ROW_PROBABILITY]
    ranked = likely if len(likely) >= FEWEST_ROWS else ranked[:FEWEST_ROWS]
    place = {name: index for index, name in enumerate(names)}
    return [place[name] for name, _ in sorted(ranked, key=lambda pair: -pair[1])]
