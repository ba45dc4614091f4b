"""Which seconds and which bands of a track spoke for its answer: each is silenced in turn, and the answer made anew.

Occlusion sensitivity (Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", §4.2) on the
log-mel that the networks take: it needs nothing of a network but its answers, so one mechanism serves them all, and
their ensemble. What is silenced lies at the floor of the log-mel, `features.top_db` under its loudest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mgc.arrays import Float32Array, Float64Array
from mgc.audio.features.filter_banks import filter_banks
from mgc.audio.track_features import TrackFeatures
from mgc.inference.predictor import Predictor, TrackPrediction
from mgc.models.bundle import Bundle
from mgc.models.forward import LogMel

MOST_SLICES = 12
"""Of a window in time, a second each where it is no longer."""
BANDS = 8
"""Of equal width on the mel scale."""


@dataclass(frozen=True)
class Occlusion:
    """How much less probable the answered genre (of a bundle without genres, the likeliest tag) is without a part.

    Negative where it is more probable: that part spoke against it.

    Parameters
    ----------
    name, probability
        What was answered, with nothing silenced.
    start_seconds, end_seconds
        Of the slices of the windows that the answer is made from, shape (n_slices,); windows may overlap.
    slice_drops
        Probability less without that slice of its window, shape (n_slices,).
    band_hz
        Edges of the bands, shape (n_bands + 1,).
    band_drops
        Probability less without that band in all windows, shape (n_bands,).
    """

    name: str
    probability: float
    start_seconds: Float64Array
    end_seconds: Float64Array
    slice_drops: Float64Array
    band_hz: Float64Array
    band_drops: Float64Array


def occlusion(predictor: Predictor, bundle: Bundle, track: TrackFeatures) -> Occlusion | None:
    """Return what spoke for a track's answer; None for a bundle with neither genres nor tags.

    Takes as long as some dozens of answers.
    """
    features, log_mel = bundle.features, track.log_mel
    (whole,) = predictor.predict([log_mel])
    is_genre = whole.genre is not None
    names = bundle.taxonomy.genres if is_genre else bundle.taxonomy.tags
    if not names:
        return None
    best = int(_probabilities(whole, is_genre).argmax())
    probability = float(_probabilities(whole, is_genre)[best])

    n_slices = max(1, min(MOST_SLICES, round(features.window_seconds)))
    frames = np.linspace(0, log_mel.shape[1], n_slices + 1).round().astype(int)
    edges = np.linspace(0.0, features.window_seconds, n_slices + 1)
    bands = np.linspace(0, log_mel.shape[2], BANDS + 1).round().astype(int)
    floor = features.silence
    starts, ends, occluded = [], [], []
    for window, begins in enumerate(track.start_seconds):
        for number in range(n_slices):
            if begins + edges[number] < track.duration_seconds:
                starts.append(begins + edges[number])
                ends.append(min(begins + edges[number + 1], track.duration_seconds))
                occluded.append(_silenced(log_mel, floor, (window, slice(*frames[number : number + 2]))))
    without_slice = [float(_probabilities(one, is_genre)[best]) for one in predictor.predict(occluded)]
    occluded = [_silenced(log_mel, floor, (..., slice(low, high))) for low, high in pairwise(bands)]
    without_band = [float(_probabilities(one, is_genre)[best]) for one in predictor.predict(occluded)]
    hz = filter_banks(features).mel_hz
    return Occlusion(
        names[best],
        probability,
        np.array(starts),
        np.array(ends),
        probability - np.array(without_slice),
        np.interp(bands / log_mel.shape[2], np.linspace(0.0, 1.0, hz.size), hz),
        probability - np.array(without_band),
    )


def _silenced(log_mel: LogMel, floor: float, part: Any) -> LogMel:
    silenced = log_mel.copy()
    silenced[part] = floor
    return silenced


def _probabilities(prediction: TrackPrediction, is_genre: bool) -> Float32Array:
    return prediction.genre_probabilities if is_genre else prediction.tag_probabilities
