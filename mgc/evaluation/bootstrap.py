"""Confidence intervals by resampling tracks, or whole groups of them.

The percentile bootstrap (Efron & Tibshirani 1993, chapter 13): tracks are drawn with replacement, the figure
is computed anew, and the interval holds the middle of what came out. A resample is a vector of weights - how
often each track was drawn - so that figures are weighted sums and thousands of resamples are one matrix.

Expected calibration error and the mean PR-AUC of many rare tags are biased upwards in small samples, and more so
in resamples of them; their intervals are mirrored (`corrected_figure`). For 20 tags with 3 to 30 % positives among
200 tracks, percentile intervals of the mean held the truth in 56 % of trials, mirrored ones in 90 %.

Tracks of one artist resemble each other, and an interval over tracks is too narrow where there are few
artists. Resampling by group draws whole groups instead (the cluster bootstrap, Davison & Hinkley 1997,
section 3.8).

Where all tracks are alike - all right, or none - every resample gives the same figure, and the bootstrap claims a
certainty that there is not. Shares and differences then have the exact interval (Clopper & Pearson 1934) over what
is independent: groups where they are known, else tracks. Other figures have no interval there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mgc.arrays import Float64Array, IntArray
from mgc.config import EvaluationConfig

Resample = Literal["track", "group"]
WeightArray = npt.NDArray[np.int32]

WEIGHTS_A_CHUNK = 100_000
"""Tracks times resamples worked on at once: what stays in the processor's cache."""

USABLE_SHARE = 0.5
"""An interval needs a figure that is defined in at least this share of the resamples."""

SAME = 1e-9
"""Replicates that differ by less differ by rounding."""


EXACT = (
    "where no resample changes a share or a difference, as where all are right, they are exact (Clopper-Pearson), "
    "over groups where there are groups."
)
"""For pages: what stands in place of a bootstrap that cannot vary."""


class JsonRecord:
    """A dataclass that is written as JSON under the names of its fields."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form: floats rounded to six places, what is not finite as None."""
        return {name: _json_value(value) for name, value in vars(self).items()}


def _json_value(value: object) -> object:
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, tuple):
        return [_json_value(one) for one in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return rounded(value) if isinstance(value, float) else value


@dataclass(frozen=True)
class Figure(JsonRecord):
    """A figure with its interval; None where it is not defined.

    Parameters
    ----------
    value
        On the tracks as they are.
    low, high
        Ends of the confidence interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


UNDEFINED = Figure(None)


@dataclass(frozen=True)
class Resampling:
    """A fixed set of resamples: the same weights each time.

    Parameters
    ----------
    clusters
        What is drawn together: cluster index of each track, shape (n,), in [0, n_clusters).
    samples
        Number of resamples.
    confidence
        Probability that the interval is meant to hold.
    groups
        Group index of each track, shape (n,): what exact intervals count. None: the clusters.
    """

    clusters: IntArray
    samples: int
    confidence: float
    seed: int
    groups: IntArray | None = None

    def chunks(self) -> Iterator[WeightArray]:
        """Yield weights, how often each track was drawn, of shape (n, n_resamples), a chunk at a time."""
        n_clusters = int(self.clusters.max()) + 1
        generator = np.random.default_rng(self.seed)
        each = max(1, WEIGHTS_A_CHUNK // len(self.clusters))
        for start in range(0, self.samples, each):
            drawn = np.empty((min(each, self.samples - start), n_clusters), dtype=np.int32)
            for row in drawn:
                row[:] = np.bincount(generator.integers(0, n_clusters, n_clusters), minlength=n_clusters)
            yield np.ascontiguousarray(drawn[:, self.clusters].T)

    @property
    def independent(self) -> IntArray:
        """Index of what each track is one with, shape (n,): its group where groups are known."""
        return self.clusters if self.groups is None else self.groups

    def several(self, rows: npt.NDArray[np.intp] | slice = slice(None)) -> bool:
        """Return whether there is anything to resample among some tracks: two or more that are not drawn together."""
        return len(np.unique(self.clusters[rows])) > 1

    def figure(self, value: float | None, replicates: Float64Array, *, enough: bool = True) -> Figure:
        """Return `value` with the percentile interval of its replicates, shape (samples,), NaN: not defined.

        No interval is given where there is not `enough` to resample, where fewer than half of the resamples define
        the figure, or where none of them changes it.
        """
        if value is None or not np.isfinite(value):
            return UNDEFINED
        usable = replicates[np.isfinite(replicates)]
        if not enough or len(usable) < USABLE_SHARE * len(replicates):
            return Figure(float(value))
        tail = (1.0 - self.confidence) / 2
        if np.abs(usable - value).max() < SAME:
            return Figure(float(value))
        low, high = np.quantile(usable, [tail, 1.0 - tail])
        return Figure(float(value), float(low), float(high))

    def share(
        self,
        value: float | None,
        replicates: Float64Array,
        rows: npt.NDArray[np.intp] | slice = slice(None),
        least: float = 0.0,
    ) -> Figure:
        """Return a mean over some tracks of values in [`least`, 1], with an interval that is exact where it must be.

        Where no resample changes the mean, or there is one unit alone, all units seen are alike; of those not seen a
        share may differ, at most so large as Clopper and Pearson's bound for 0 of n.
        """
        figure = self.figure(value, replicates, enough=self.several(rows))
        defined = np.isfinite(replicates)
        if figure.value is None or figure.low is not None or defined.mean() < USABLE_SHARE:
            return figure
        units = len(np.unique(self.independent[rows]))
        other = 1.0 - float(((1.0 - self.confidence) / 2) ** (1.0 / units))
        low, high = figure.value - other * (figure.value - least), figure.value + other * (1.0 - figure.value)
        return Figure(figure.value, low, high)

    def corrected_figure(self, value: float | None, replicates: Float64Array, *, enough: bool = True) -> Figure:
        """Return `value`, a share, with the basic bootstrap interval: for figures that small samples bias.

        What resampling adds to the figure, the sample itself had already added to the truth; the interval is
        mirrored at the value to take it off (Davison & Hinkley 1997, section 5.2), and never leaves it out.
        """
        plain = self.figure(value, replicates, enough=enough)
        if plain.value is None or plain.low is None or plain.high is None:
            return plain
        low, high = 2 * plain.value - plain.high, 2 * plain.value - plain.low
        return Figure(plain.value, max(0.0, min(low, plain.value)), min(1.0, max(high, plain.value)))


def make_resampling(
    track_ids: Sequence[str], groups: Sequence[str], config: EvaluationConfig, resample: Resample = "track"
) -> Resampling:
    """Return the resamples of tracks, or of whole groups; a track with an empty group is one of its own."""
    names = [f"g:{group}" if group else f"t:{track}" for track, group in zip(track_ids, groups, strict=True)]
    of_group = np.unique(names, return_inverse=True)[1].astype(np.int64)
    clusters = of_group if resample == "group" else np.arange(len(track_ids))
    return Resampling(clusters, config.bootstrap_samples, config.confidence, config.seed, of_group)


def ratio(numerator: Float64Array, denominator: Float64Array) -> Float64Array:
    """Return the quotient, NaN where the denominator is 0."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def mean_of_defined(values: Float64Array) -> Float64Array:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))


def rounded(value: float | None) -> float | None:
    """Return a JSON-ready number: six places, None for what is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
