"""Two recordings sounding at once (He & Li 2024, eq. 6), in the domain of log-mels.

S = αS1 + (1−α)S2 for samples. Two recordings are not correlated, so their powers add: the mel power is
α²P1 + (1−α)²P2 but for the cross terms, whose mean is 0.

Either of one genre, which the sum keeps (overlay, as in the paper); or of any two tracks (blend), about as loud as
each other: then tags are learnt from it alone. What is audible in either is audible in both, so that an instrument of
few recordings is met among the instruments of all others (Kratimenos et al. 2020, "Augmentation methods on monophonic
audio for instrument classification in polyphonic music"). The genre of such a sum nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mgc.arrays import BoolArray, Float32Array, IntArray
from mgc.config.taxonomy import UNKNOWN

LEAST_OWN_PART = 0.5
BLEND_PARTS = (0.3, 0.7)
"""Either is at most 7 dB below the other, or it might not be audible."""
NO_PARTNER = -1


@dataclass(frozen=True)
class Overlay:
    """What chance decided for a batch; arrays of shape (batch,).

    Parameters
    ----------
    partner
        Training window laid over each row, `NO_PARTNER` for none.
    own_part
        α, in [0.5, 1]; in [0.3, 0.7] for a blend.
    start_part
        Where the partner's crop begins, as a part of what room there is.
    blended
        Whether the partner may be of any genre.
    """

    partner: IntArray
    own_part: Float32Array
    start_part: Float32Array
    blended: BoolArray


def draw_overlay(
    rng: np.random.Generator,
    rows: IntArray,
    genres: IntArray,
    tracks: IntArray,
    probability: float,
    blend_probability: float = 0.0,
) -> Overlay:
    """Return partners of another track: of the same genre, or, for a blend, of any.

    Parameters
    ----------
    rows
        Training windows of the batch.
    genres, tracks
        Of every training window.
    probability
        Of a partner of the same genre being sought.
    blend_probability
        Of any other partner for a row that has none.
    """
    partner = np.full(len(rows), NO_PARTNER, dtype=np.int64)
    sought = rng.random(len(rows)) < probability
    lot = rng.random(len(rows))
    for place in np.flatnonzero(sought & (genres[rows] != UNKNOWN)):
        alike = np.flatnonzero((genres == genres[rows[place]]) & (tracks != tracks[rows[place]]))
        if alike.size:
            partner[place] = alike[int(lot[place] * alike.size)]
    own_part = rng.uniform(LEAST_OWN_PART, 1.0, len(rows)).astype(np.float32)
    start_part = rng.random(len(rows)).astype(np.float32)
    blended = np.zeros(len(rows), dtype=bool)
    if blend_probability:
        # Drawn last: without it an epoch is what it was before there were blends.
        blended = (rng.random(len(rows)) < blend_probability) & (partner == NO_PARTNER)
        candidates = rng.integers(0, len(tracks), len(rows))
        blended &= tracks[candidates] != tracks[rows]
        partner = np.where(blended, candidates, partner)
        own_part = np.where(blended, rng.uniform(*BLEND_PARTS, len(rows)), own_part).astype(np.float32)
    return Overlay(partner, own_part, start_part, blended)


def overlay(log_mel: Tensor, other: Tensor, own_part: Tensor) -> Tensor:
    """Return the log-mel of both at once.

    Parameters
    ----------
    log_mel, other
        dB, shape (rows, n_frames, n_mels).
    own_part
        α of each row, shape (rows,).
    """
    part = own_part[:, None, None]
    power = part.square() * 10.0 ** (log_mel / 10.0) + (1.0 - part).square() * 10.0 ** (other / 10.0)
    return 10.0 * torch.log10(power)
