"""Fitting a member's temperatures on validation logits (Guo et al. 2017, §4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mgc.arrays import Float32Array
from mgc.models.ensemble import TemperatureScaling
from mgc.models.forward import TrackOutputs
from mgc.training.losses import LabelArrays

PRIOR_SPREAD = 0.5
"""Standard deviation of log T before any track is seen: a few tracks, all right, must not make T vanish."""

LOG_TEMPERATURE_BOUNDS = (-3.0, 3.0)


def fit_calibration(outputs: TrackOutputs, labels: LabelArrays) -> TemperatureScaling:
    """Return the temperatures of least negative log-likelihood under the prior log T ~ N(0, PRIOR_SPREAD).

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
    # The tags of a track go together: they count as one track's word, not as n_tags words.
    return _best_temperature(lambda temperature: float(np.logaddexp(0.0, -signed / temperature).mean(axis=1).sum()))


def _best_temperature(loss: Callable[[float], float]) -> float:
    def objective(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / PRIOR_SPREAD) ** 2
        return loss(math.exp(log_temperature)) + prior

    found = minimize_scalar(objective, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded")
    return float(math.exp(found.x))
