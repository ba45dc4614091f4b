"""Several members' word on the same tracks, as one.

Probabilities: by default the mean of the members' calibrated ones (He & Li 2024: "combining their predictions"),
which is never a worse log-loss than the members' mean, whatever they disagree on; `fusion` has the other ways.

Embeddings: side by side, each member's normalised to length 1, the whole again. Members begin from different
weights, so their axes have nothing in common and a mean of them would blur; side by side, the cosine of two
tracks is the mean of the cosines that the members see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.arrays import Float32Array
from mgc.models.calibration import TemperatureScaling
from mgc.models.ensemble import Fusion
from mgc.models.forward import TrackOutputs


@dataclass(frozen=True)
class EnsembleOutputs:
    """What an ensemble says of tracks; float32.

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
    """Return the ensemble's word from its members' on the same tracks, in the same order.

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
