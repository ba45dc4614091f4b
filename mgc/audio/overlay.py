"""Two tracks of a genre at once: S = α S1 + (1 - α) S2 (He & Li 2024, eq. 6)."""

from __future__ import annotations

import numpy as np

from mgc.arrays import Float32Array


def overlay(samples: Float32Array, partner: Float32Array, alpha: float) -> Float32Array:
    """Return the mixture of two sounds at their own levels, shape (n,).

    Parameters
    ----------
    samples, partner
        Mono, shape (n,) and (m,); a shorter partner is silent where it has ended, a longer one is cut.
    alpha
        Part of `samples`, in [0, 1].
    """
    mixed = samples * np.float32(alpha)
    overlap = partner[: mixed.size]
    mixed[: overlap.size] += np.float32(1.0 - alpha) * overlap
    return mixed


def partner_start(
    start_seconds: float, length_seconds: float, duration_seconds: float, partner_seconds: float
) -> float:
    """Return where in the partner a stretch begins that goes with one of the track.

    At the same share of the way through: the beginning goes with the beginning and the end with the end, however
    long the two are; equally long tracks are laid over one another as they are.

    Parameters
    ----------
    start_seconds, length_seconds
        The track's stretch.
    duration_seconds, partner_seconds
        Lengths of the two tracks.
    """
    slack = duration_seconds - length_seconds
    share = start_seconds / slack if slack > 0 else 0.0
    return share * max(0.0, partner_seconds - length_seconds)
