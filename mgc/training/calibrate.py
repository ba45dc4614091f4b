"""Fitting what each member's word weighs, on validation tracks.

`weighted`: the mixture of the members' probabilities of least negative log-likelihood, by expectation-maximization.
`stacked`: a logistic regression on the members' logits, held near their mean by a Gaussian prior, because there are
hundreds of tracks and not thousands. Both by head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from mgc.models.ensemble import LEAST_PROBABILITY, Fusion, HeadFusion, Method, TemperatureScaling, combine
from mgc.models.forward import TrackOutputs
from mgc.training.calibrate_part import genre_temperature, tag_temperature
from mgc.training.losses import LabelArrays

Float64Array = npt.NDArray[np.float64]

MIXTURE_ROUNDS = 200
PRIOR_TRACKS = 5.0
"""The mixture begins as if so many tracks had said that all members are alike: equal networks stay near equal."""
WEIGHT_SPREAD = 0.25
BIAS_SPREAD = 0.5
"""Standard deviations of the stack's weights around 1 / members, and of its biases around 0."""


@dataclass(frozen=True)
class _Heads:
    """Members' calibrated probabilities of tracks whose label is known, and the truth.

    Parameters
    ----------
    genre, tag
        Shapes (n_members, n_tracks, n_genres) and (n_members, n_tracks, n_tags).
    genre_truth, tag_truth
        Genre index, shape (n_tracks,); 0 or 1, shape (n_tracks, n_tags).
    """

    genre: Float64Array
    genre_truth: npt.NDArray[np.int64]
    tag: Float64Array
    tag_truth: Float64Array


def fit_fusion(
    outputs: Sequence[TrackOutputs],
    calibrations: Sequence[TemperatureScaling],
    labels: LabelArrays,
    method: Method,
    fused_temperature: bool = False,
) -> Fusion:
    """Return the fusion of least negative log-likelihood on validation tracks.

    Parameters
    ----------
    outputs
        Of each member, for the same tracks.
    calibrations
        Temperatures of each member.
    labels
        Of the tracks; a head of which nothing is known keeps equal weights.
    fused_temperature
        Also fit the temperature of what came out.
    """
    fusion = Fusion(method)
    if method != "mean" and len(outputs) > 1:
        heads = _heads(outputs, calibrations, labels)
        fit_genre, fit_tag = (
            (_mixture_of_genres, _mixture_of_tags) if method == "weighted" else (_stack_genres, _stack_tags)
        )
        fusion = Fusion(
            method,
            fit_genre(heads) if heads.genre.size else HeadFusion(),
            fit_tag(heads) if heads.tag.size else HeadFusion(),
        )
    return _with_temperature(fusion, outputs, calibrations, labels) if fused_temperature else fusion


def _heads(
    outputs: Sequence[TrackOutputs], calibrations: Sequence[TemperatureScaling], labels: LabelArrays
) -> _Heads:
    genre_known, tags_known = labels.genre_known, labels.tags_known
    pairs = list(zip(outputs, calibrations, strict=True))
    genre = np.stack([one.genre_probabilities(output.genre_logits[genre_known]) for output, one in pairs])
    tag = np.stack([one.tag_probabilities(output.tag_logits[tags_known]) for output, one in pairs])
    return _Heads(
        genre.astype(np.float64),
        labels.genres[genre_known],
        tag.astype(np.float64),
        labels.tags[tags_known].astype(np.float64),
    )


def _mixture_of_genres(heads: _Heads) -> HeadFusion:
    tracks = np.arange(len(heads.genre_truth))
    return HeadFusion(_mixture(heads.genre[:, tracks, heads.genre_truth], np.ones(len(tracks))))


def _mixture_of_tags(heads: _Heads) -> HeadFusion:
    likelihood = np.where(heads.tag_truth > 0, heads.tag, 1.0 - heads.tag).reshape(len(heads.tag), -1)
    # The tags of a track go together: they count as one track's word.
    return HeadFusion(_mixture(likelihood, np.full(likelihood.shape[1], 1.0 / heads.tag_truth.shape[1])))


def _mixture(likelihood: Float64Array, counts: Float64Array) -> tuple[float, ...]:
    """Return mixture weights from each member's likelihoods, shape (n_members, n), by EM with a Dirichlet prior."""
    members = len(likelihood)
    inside = np.maximum(likelihood, LEAST_PROBABILITY)
    weights = np.full(members, 1.0 / members)
    for _ in range(MIXTURE_ROUNDS):
        shares = weights[:, None] * inside
        shares /= shares.sum(axis=0)
        weights = (shares * counts).sum(axis=1) + PRIOR_TRACKS / members
        weights /= weights.sum()
    return tuple(float(weight) for weight in weights)


def _stack_genres(heads: _Heads) -> HeadFusion:
    logits = np.log(np.maximum(heads.genre, LEAST_PROBABILITY))
    tracks = np.arange(len(heads.genre_truth))

    def loss(weights: Float64Array, biases: Float64Array) -> float:
        mixed = np.tensordot(weights, logits, axes=1) + biases
        return -float(log_softmax(mixed, axis=1)[tracks, heads.genre_truth].sum())

    return _stack(loss, len(logits), logits.shape[2])


def _stack_tags(heads: _Heads) -> HeadFusion:
    inside = np.clip(heads.tag, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    logits = np.log(inside / (1.0 - inside))
    signs = np.where(heads.tag_truth > 0, 1.0, -1.0)

    def loss(weights: Float64Array, biases: Float64Array) -> float:
        mixed = np.tensordot(weights, logits, axes=1) + biases
        return float(np.logaddexp(0.0, -signs * mixed).sum() / signs.shape[1])

    return _stack(loss, len(logits), logits.shape[2])


def _stack(loss: Callable[[Float64Array, Float64Array], float], members: int, labels: int) -> HeadFusion:
    centre = 1.0 / members

    def objective(values: Float64Array) -> float:
        weights, biases = values[:members], values[members:]
        prior = np.square((weights - centre) / WEIGHT_SPREAD)
        penalty = float(prior.sum()) + float(np.square(biases / BIAS_SPREAD).sum())
        return loss(weights, biases) + 0.5 * penalty

    start = np.concatenate([np.full(members, centre), np.zeros(labels)])
    found = minimize(objective, start, method="L-BFGS-B").x
    return HeadFusion(tuple(map(float, found[:members])), tuple(map(float, found[members:])))


def _with_temperature(
    fusion: Fusion, outputs: Sequence[TrackOutputs], calibrations: Sequence[TemperatureScaling], labels: LabelArrays
) -> Fusion:
    whole = combine(outputs, calibrations, fusion)
    genre = np.log(np.maximum(whole.genre_probabilities, LEAST_PROBABILITY))
    inside = np.clip(whole.tag_probabilities, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    tag = np.log(inside) - np.log1p(-inside)
    return Fusion(
        fusion.method,
        HeadFusion(fusion.genre.weights, fusion.genre.biases, genre_temperature(genre, labels)),
        HeadFusion(fusion.tag.weights, fusion.tag.biases, tag_temperature(tag, labels)),
    )
