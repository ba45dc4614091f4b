"""An ensemble's answer: members' logits to probabilities, their fusion, tag thresholds, abstention.

This is the one place where softmax and sigmoid are taken. `training.calibrate` fits all of it on the validation
split, the bundle carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, logit, softmax

from mgc.arrays import Float32Array
from mgc.models.forward import TrackOutputs

Method = Literal["mean", "vote", "weighted", "stacked"]
LEAST_PROBABILITY = 1e-6
HALF = 0.5


@dataclass(frozen=True)
class TemperatureScaling:
    """Temperatures of one member, above 0, by which its logits become probabilities.

    A temperature above 1 takes back confidence that the network has no right to; it never changes which genre comes
    first (Guo et al., "On Calibration of Modern Neural Networks", 2017, §4.2). `training.calibrate` fits it.
    """

    genre_temperature: float = 1.0
    tag_temperature: float = 1.0

    def genre_probabilities(self, logits: Float32Array) -> Float32Array:
        """Return probabilities that sum to 1 over the genres, shape (n_tracks, n_genres) as given."""
        if not logits.shape[1]:
            return logits
        return np.asarray(softmax(logits / self.genre_temperature, axis=1), dtype=np.float32)

    def tag_probabilities(self, logits: Float32Array) -> Float32Array:
        """Return a probability for each tag, shape (n_tracks, n_tags) as given."""
        return np.asarray(expit(logits / self.tag_temperature), dtype=np.float32)


@dataclass(frozen=True)
class HeadFusion:
    """One head's fusion.

    Parameters
    ----------
    weights
        Of each member; empty: all alike.
    biases
        Added to each label's logit, stacked only; empty: none.
    temperature
        Of the fused probabilities.
    """

    weights: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()
    temperature: float = 1.0


@dataclass(frozen=True)
class Fusion:
    """From members' probabilities to the ensemble's.

    Parameters
    ----------
    method
        `mean` and `weighted`: a linear opinion pool, the weighted mean of probabilities. `stacked`: a logarithmic
        one (Wolpert 1992, stacked generalization): the weighted sum of the members' logits, and a bias a label.
        `vote`: each member's is for its likeliest genre, and for the tags it finds likelier than not; the mean of
        their probabilities has one more, divided among the labels, so that it decides where votes are equal.
    genre, tag
        Weights of each head.
    """

    method: Method = "mean"
    genre: HeadFusion = field(default_factory=HeadFusion)
    tag: HeadFusion = field(default_factory=HeadFusion)

    def genre_probabilities(self, members: Sequence[Float32Array]) -> Float32Array:
        """Return shape (n_tracks, n_genres) from as many by each member; rows sum to 1."""
        if not members[0].shape[1]:
            return members[0]
        if self.method == "stacked":
            logits = _weighted([_log(one) for one in members], self.genre) + _row(self.genre.biases)
            return _float32(softmax(logits / self.genre.temperature, axis=1))
        if self.method == "vote":
            mixed = _voted(members, [np.eye(one.shape[1])[one.argmax(axis=1)] for one in members])
        else:
            mixed = _mixed(members, self.genre)
        if self.genre.temperature == 1.0:
            return _float32(mixed)
        return _float32(softmax(log_softmax(_log(mixed), axis=1) / self.genre.temperature, axis=1))

    def tag_probabilities(self, members: Sequence[Float32Array]) -> Float32Array:
        """Return shape (n_tracks, n_tags) from as many by each member."""
        if not members[0].shape[1]:
            return members[0]
        if self.method == "stacked":
            logits = _weighted([_logit(one) for one in members], self.tag) + _row(self.tag.biases)
            return _float32(expit(logits / self.tag.temperature))
        voted = self.method == "vote"
        mixed = _voted(members, [one > HALF for one in members]) if voted else _mixed(members, self.tag)
        return _float32(mixed if self.tag.temperature == 1.0 else expit(_logit(mixed) / self.tag.temperature))


@dataclass(frozen=True)
class Decision:
    """How the members' probabilities become the answer.

    Parameters
    ----------
    fusion
        Of the members.
    tag_thresholds
        Probability at which each tag is listed; empty: 0.5 for all.
    abstain_below
        A genre less probable than this is marked `abstained`; 0: never.
    abstain_precision
        The share of answers that `abstain_below` promises to be right; None: nothing is promised.
    exclusive_tags
        Groups of tags, by index, of which at most one is listed.
    """

    fusion: Fusion = field(default_factory=Fusion)
    tag_thresholds: tuple[float, ...] = ()
    abstain_below: float = 0.0
    abstain_precision: float | None = None
    exclusive_tags: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready; without exclusive tags as before there were any, so that fingerprints stay."""
        return {key: value for key, value in asdict(self).items() if key != "exclusive_tags" or value}

    def thresholds(self, n_tags: int) -> npt.NDArray[np.float64]:
        """Return the threshold of each tag, shape (n_tags,)."""
        return np.array(self.tag_thresholds or (HALF,) * n_tags)


def at_most_one(
    probabilities: npt.NDArray[np.floating[Any]], listed: npt.NDArray[np.bool_], exclusive: Sequence[Sequence[int]]
) -> npt.NDArray[np.bool_]:
    """Return which tags stay listed, shape (n_tracks, n_tags).

    From the most probable down, a tag stays unless one of a group of its own already has: what is left out itself
    leaves nothing out.
    """
    if not exclusive:
        return listed
    apart = np.zeros((listed.shape[1],) * 2, dtype=bool)
    for group in exclusive:
        apart[np.ix_(group, group)] = True
    kept, rows = np.zeros_like(listed), np.arange(len(listed))
    for tags in np.argsort(-probabilities, axis=1, kind="stable").T:
        kept[rows, tags] = listed[rows, tags] & ~(kept & apart[tags]).any(axis=1)
    return kept


@dataclass(frozen=True)
class EnsembleOutputs:
    """An ensemble's probabilities and embeddings of tracks; float32.

    Parameters
    ----------
    genre_probabilities
        Shape (n_tracks, n_genres), rows summing to 1.
    tag_probabilities
        Shape (n_tracks, n_tags).
    embeddings
        Shape (n_tracks, sum of the members' embedding sizes), rows of length 1.
    """

    genre_probabilities: Float32Array
    tag_probabilities: Float32Array
    embeddings: Float32Array


def combine(
    members: Sequence[TrackOutputs], calibrations: Sequence[TemperatureScaling], fusion: Fusion | None = None
) -> EnsembleOutputs:
    """Return the ensemble's answer from its members' outputs for the same tracks, in the same order.

    By default the mean of the members' calibrated probabilities (He & Li 2024: "combining their predictions"), which
    is never a worse log-loss than the members' mean.

    Embeddings stand side by side, each member's normalised to length 1, the whole again. Members begin from different
    weights, so their axes have nothing in common and a mean of them would blur; side by side, the cosine of two
    tracks is the mean of the members' cosines.

    Raises
    ------
    ValueError
        There is no member, or not one calibration for each.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    pairs = list(zip(members, calibrations, strict=True))
    how = fusion or Fusion()
    genre = how.genre_probabilities([one.genre_probabilities(member.genre_logits) for member, one in pairs])
    tag = how.tag_probabilities([one.tag_probabilities(member.tag_logits) for member, one in pairs])
    embeddings = np.concatenate([unit_length(member.embeddings) for member in members], axis=1)
    return EnsembleOutputs(genre, tag, unit_length(embeddings))


def unit_length(vectors: Float32Array) -> Float32Array:
    """Return rows scaled to Euclidean length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _mixed(members: Sequence[Float32Array], head_fusion: HeadFusion) -> npt.NDArray[np.float64]:
    if not head_fusion.weights:
        return np.asarray(np.mean(members, axis=0))
    return _weighted(members, head_fusion)


def _voted(members: Sequence[Float32Array], votes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    return np.asarray((np.sum(votes, axis=0) + np.mean(members, axis=0, dtype=np.float64)) / (len(members) + 1))


def _weighted(members: Sequence[npt.NDArray[Any]], head_fusion: HeadFusion) -> npt.NDArray[np.float64]:
    weights = head_fusion.weights or (1.0 / len(members),) * len(members)
    return np.asarray(np.tensordot(np.array(weights), np.stack(members).astype(np.float64), axes=1))


def _row(biases: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array(biases or (0.0,))


def _log(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(probabilities, LEAST_PROBABILITY).astype(np.float64)))


def _logit(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    inside = np.clip(probabilities.astype(np.float64), LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return np.asarray(logit(inside))


def _float32(values: npt.NDArray[Any]) -> Float32Array:
    return values.astype(np.float32)
