"""Calibration on validation tracks: temperatures and members' weights; thresholds are in `promise`.

Members' weights, by head: `weighted` is the mixture of the members' probabilities of least negative log-likelihood,
by expectation-maximization; `stacked` a logistic regression on the members' logits, held near their mean by a
Gaussian prior, because there are hundreds of tracks and not thousands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from mgc.arrays import Float32Array
from mgc.models.ensemble import (
    LEAST_PROBABILITY,
    Fusion,
    HeadFusion,
    Method,
    TemperatureScaling,
    combine,
)
from mgc.models.forward import TrackOutputs
from mgc.training.losses import LabelArrays

Float64Array = npt.NDArray[np.float64]
Members = list[tuple[TrackOutputs, TemperatureScaling]]

PRIOR_SPREAD = 0.5
"""Standard deviation of log T before any track is seen: a few tracks, all right, must not make T vanish."""
LOG_TEMPERATURE_BOUNDS = (-3.0, 3.0)
MIXTURE_ROUNDS = 200
PRIOR_TRACKS = 5.0
"""Of the Dirichlet prior: as if on so many tracks all members were alike, so that equal networks stay near equal."""
WEIGHT_SPREAD = 0.25
BIAS_SPREAD = 0.5
"""Standard deviations of the stack's weights around 1 / members, and of its biases around 0."""
FOLDS = 5


def group_folds(groups: Sequence[str], folds: int = FOLDS) -> npt.NDArray[np.int64]:
    """Return the fold of each track, shape (n_tracks,): at most so many, no group in two."""
    names, index = np.unique(np.array(groups), return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(names))
    return np.asarray(shuffled[index] % min(folds, len(names)), dtype=np.int64)


def fit_calibration(outputs: TrackOutputs, labels: LabelArrays) -> TemperatureScaling:
    """Return a member's temperatures of least negative log-likelihood (Guo et al. 2017, §4.2).

    The prior is log T ~ N(0, PRIOR_SPREAD).

    Parameters
    ----------
    outputs
        Logits of validation tracks.
    labels
        Of the same tracks; where nothing is known the temperature is 1.
    """
    return TemperatureScaling(
        genre_temperature(outputs.genre_logits, labels), tag_temperature(outputs.tag_logits, labels)
    )


def genre_temperature(genre_logits: Float32Array, labels: LabelArrays) -> float:
    """Return the genre head's temperature for logits of shape (n_tracks, n_genres)."""
    known = labels.genre_known
    logits, truth = genre_logits[known].astype(np.float64), labels.genres[known]
    if not logits.size:
        return 1.0

    def loss(temperature: float) -> float:
        scores = log_softmax(logits / temperature, axis=1)
        return -float(scores[np.arange(len(truth)), truth].sum())

    return _best_temperature(loss)


def tag_temperature(tag_logits: Float32Array, labels: LabelArrays) -> float:
    """Return the tag head's temperature for logits of shape (n_tracks, n_tags)."""
    known = labels.tags_known
    logits, truth = tag_logits[known].astype(np.float64), labels.tags[known]
    if not logits.size:
        return 1.0
    signed = np.where(truth > 0, logits, -logits)
    # The tags of a track go together: they count as one observation, not as n_tags.
    return _best_temperature(lambda temperature: float(np.logaddexp(0.0, -signed / temperature).mean(axis=1).sum()))


def _best_temperature(loss: Callable[[float], float]) -> float:
    def objective(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / PRIOR_SPREAD) ** 2
        return loss(math.exp(log_temperature)) + prior

    found = minimize_scalar(objective, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded")
    return float(math.exp(found.x))


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
        Also fit the temperature of the fused probabilities.
    """
    fusion = Fusion(method)
    if method in ("weighted", "stacked") and len(outputs) > 1:
        members = list(zip(outputs, calibrations, strict=True))
        fusion = Fusion(method, _fit_genre(members, labels, method), _fit_tag(members, labels, method))
    return _with_temperature(fusion, outputs, calibrations, labels) if fused_temperature else fusion


def _fit_genre(members: Members, labels: LabelArrays, method: Method) -> HeadFusion:
    known = labels.genre_known
    probabilities = np.stack([one.genre_probabilities(output.genre_logits[known]) for output, one in members])
    if not probabilities.size:
        return HeadFusion()
    inside = np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY)
    truth = labels.genres[known]
    tracks = np.arange(len(truth))
    if method == "weighted":
        return _mixture(inside[:, tracks, truth], np.ones(len(tracks)))
    return _stack(np.log(inside), lambda mixed: -float(log_softmax(mixed, axis=1)[tracks, truth].sum()))


def _fit_tag(members: Members, labels: LabelArrays, method: Method) -> HeadFusion:
    known = labels.tags_known
    probabilities = np.stack([one.tag_probabilities(output.tag_logits[known]) for output, one in members])
    if not probabilities.size:
        return HeadFusion()
    probabilities = probabilities.astype(np.float64)
    has_tag = labels.tags[known] > 0
    n_tags = has_tag.shape[1]
    # The tags of a track go together: they count as one observation.
    if method == "weighted":
        likelihood = np.where(has_tag, probabilities, 1.0 - probabilities).reshape(len(members), -1)
        return _mixture(np.maximum(likelihood, LEAST_PROBABILITY), np.full(likelihood.shape[1], 1.0 / n_tags))
    inside = np.clip(probabilities, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    signs = np.where(has_tag, 1.0, -1.0)
    return _stack(
        np.log(inside / (1.0 - inside)), lambda mixed: float(np.logaddexp(0.0, -signs * mixed).sum() / n_tags)
    )


def _mixture(likelihood: Float64Array, counts: Float64Array) -> HeadFusion:
    """Return mixture weights from each member's likelihoods, shape (n_members, n), by EM with a Dirichlet prior."""
    members = len(likelihood)
    weights = np.full(members, 1.0 / members)
    for _ in range(MIXTURE_ROUNDS):
        shares = weights[:, None] * likelihood
        shares /= shares.sum(axis=0)
        weights = (shares * counts).sum(axis=1) + PRIOR_TRACKS / members
        weights /= weights.sum()
    return HeadFusion(tuple(map(float, weights)))


def _stack(logits: Float64Array, loss: Callable[[Float64Array], float]) -> HeadFusion:
    """Return weights and biases of least loss of the mixed logits, from shape (n_members, n_tracks, n_labels)."""
    members, _, labels = logits.shape
    centre = 1.0 / members

    def objective(values: Float64Array) -> float:
        weights, biases = values[:members], values[members:]
        prior = np.square((weights - centre) / WEIGHT_SPREAD)
        penalty = float(prior.sum()) + float(np.square(biases / BIAS_SPREAD).sum())
        return loss(np.tensordot(weights, logits, axes=1) + biases) + 0.5 * penalty

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
        replace(fusion.genre, temperature=genre_temperature(genre, labels)),
        replace(fusion.tag, temperature=tag_temperature(tag, labels)),
    )
