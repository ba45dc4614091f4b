"""From a member's logits to probabilities, at the temperature that makes them honest.

The one place where softmax and sigmoid are taken. A temperature above 1 takes back confidence that the
network has no right to; it never changes which genre comes first (Guo et al., "On Calibration of Modern
Neural Networks", 2017, §4.2). `training.calibrate` fits it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit, softmax

from mgc.arrays import Float32Array


@dataclass(frozen=True)
class TemperatureScaling:
    """Temperatures of one member, above 0."""

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

    def to_dict(self) -> dict[str, float]:
        """Return a JSON-ready form."""
        return asdict(self)
