"""Two recordings of one genre sounding at once (He & Li 2024, eq. 6), in the domain of log-mels.

S = αS1 + (1−α)S2 for samples. Two recordings are not correlated, so their powers add: the mel power is
α²P1 + (1−α)²P2 but for the cross terms, whose mean is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mgc.taxonomy import UNKNOWN
from mgc.training.augment import FloatArray, IntArray

LEAST_OWN_PART = 0.5
NOBODY = -1


@dataclass(frozen=True)
class Overlay:
    """What chance decided for a batch; arrays of shape (batch,).

    Parameters
    ----------
    partner
        Training window laid over each row, `NOBODY` for none.
    own_part
        α, in [0.5, 1].
    start_part
        Where the partner's crop begins, as a part of what room there is.
    """

    partner: IntArray
    own_part: FloatArray
    start_part: FloatArray


def draw_overlay(
    rng: np.random.Generator, rows: IntArray, genres: IntArray, tracks: IntArray, probability: float
) -> Overlay:
    """Return partners of the same genre and of another track.

    Parameters
    ----------
    rows
        Training windows of the batch.
    genres, tracks
        Of every training window.
    probability
        Of a partner being sought.
    """
    partner = np.full(len(rows), NOBODY, dtype=np.int64)
    sought = rng.random(len(rows)) < probability
    lot = rng.random(len(rows))
    for place in np.flatnonzero(sought & (genres[rows] != UNKNOWN)):
        alike = np.flatnonzero((genres == genres[rows[place]]) & (tracks != tracks[rows[place]]))
        if alike.size:
            partner[place] = alike[int(lot[place] * alike.size)]
    own_part = rng.uniform(LEAST_OWN_PART, 1.0, len(rows)).astype(np.float32)
    return Overlay(partner, own_part, rng.random(len(rows)).astype(np.float32))


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
