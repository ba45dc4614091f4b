"""Augmentation of log-mel windows while training, random draws apart from their application.

Every draw of a batch is made at once from a generator seeded by (seed, epoch, batch), for the whole batch: neither
the number of data-parallel workers nor a resume changes how a window is augmented.

Random crops and level; bands of mel bins and of frames masked (SpecAugment, Park et al. 2019); a random equaliser
(the linear kind of FilterAugment, Nam, Kim & Park 2022) and a shift of the spectrum by some mel bins; mixup of two
windows and their labels (Zhang et al. 2018).

Two recordings at once (He & Li 2024, eq. 6): S = αS1 + (1−α)S2 for samples. Two recordings are not correlated, so
their powers add: the mel power is α²P1 + (1−α)²P2 but for the cross terms, whose mean is 0. Either both are of one
genre, which the sum keeps (overlay, as in the paper); or of any two tracks (blend), about as loud as each other, and
then only tags are learnt from it. What is audible in either is audible in both, so that an instrument of few
recordings is met among the instruments of all others (Kratimenos et al. 2020, "Augmentation methods on monophonic
audio for instrument classification in polyphonic music"). The genre of such a sum nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgc.arrays import BoolArray, Float32Array, IntArray
from mgc.config import FitConfig
from mgc.config.taxonomy import UNKNOWN

EQUALISER_POINTS = 6
"""Points of the spectrum, evenly spaced in mel, between which the equaliser's gain is a line."""
LEAST_OWN_PART = 0.5
BLEND_PARTS = (0.3, 0.7)
"""Either is at most 7 dB below the other, or it might not be audible."""
NO_PARTNER = -1


@dataclass(frozen=True)
class WindowShape:
    """A stored window is (n_frames, n_mels), a training crop (crop_frames, n_mels)."""

    n_frames: int
    n_mels: int
    crop_frames: int


@dataclass(frozen=True)
class MaskedBand:
    """One masked band a row, [start, start + width), of `length` places; arrays of shape (batch,)."""

    start: IntArray
    width: IntArray
    length: int

    def mask(self, rows: IntArray) -> Tensor:
        """Return True inside the bands of `rows`, shape (rows, length)."""
        place = np.arange(self.length)
        start, width = self.start[rows, np.newaxis], self.width[rows, np.newaxis]
        return torch.from_numpy((place >= start) & (place < start + width))


@dataclass(frozen=True)
class Draws:
    """The random draws for a batch.

    Parameters
    ----------
    crop_start
        First frame kept of each window, shape (batch,).
    partner, own_part
        Row that each row is mixed with, and the part of the mixture that is its own, in [0.5, 1].
    gain_db
        Level change of each row.
    bins, frames
        Masked bands.
    equaliser_db
        Gain at each point of the equaliser, shape (batch, EQUALISER_POINTS).
    shift
        Mel bins that each row moves up.
    """

    crop_start: IntArray
    partner: IntArray
    own_part: Float32Array
    gain_db: Float32Array
    bins: MaskedBand
    frames: MaskedBand
    equaliser_db: Float32Array
    shift: IntArray


def draw(rng: np.random.Generator, batch: int, shape: WindowShape, config: FitConfig) -> Draws:
    """Return the draws for a batch of windows."""
    own_part = np.ones(batch)
    if config.mixup_alpha:
        drawn = rng.beta(config.mixup_alpha, config.mixup_alpha, batch)
        own_part = np.maximum(drawn, 1.0 - drawn)
    return Draws(
        crop_start=rng.integers(0, shape.n_frames - shape.crop_frames + 1, batch),
        partner=rng.permutation(batch),
        own_part=own_part.astype(np.float32),
        gain_db=rng.uniform(-config.gain_db, config.gain_db, batch).astype(np.float32),
        bins=_draw_band(rng, batch, shape.n_mels, config.mask_frequency_bins),
        frames=_draw_band(rng, batch, shape.crop_frames, config.mask_frames),
        equaliser_db=rng.uniform(-1.0, 1.0, (batch, EQUALISER_POINTS)).astype(np.float32) * config.equaliser_db,
        shift=rng.integers(-config.shift_mel_bins, config.shift_mel_bins + 1, batch),
    )


def _draw_band(rng: np.random.Generator, batch: int, length: int, widest: int) -> MaskedBand:
    # However short the window, half of it stays.
    width = rng.integers(0, min(widest, length // 2) + 1, batch)
    return MaskedBand(rng.integers(0, length - width + 1), width, length)


def augment(log_mel: Tensor, draws: Draws, rows: IntArray) -> Tensor:
    """Return windows shifted, with their level and colour changed, and their bands masked by the window's own mean.

    Parameters
    ----------
    log_mel
        dB, shape (rows, crop_frames, n_mels).
    draws
        Of the whole batch.
    rows
        Which rows of the batch `log_mel` holds.
    """
    moved = _shifted(log_mel, torch.from_numpy(draws.shift[rows]))
    louder = moved + torch.from_numpy(draws.gain_db[rows])[:, None, None]
    if draws.equaliser_db.any():
        points = torch.from_numpy(draws.equaliser_db[rows])[:, None, :]
        louder = louder + F.interpolate(points, log_mel.shape[2], mode="linear", align_corners=True)
    masked = draws.bins.mask(rows)[:, None, :] | draws.frames.mask(rows)[:, :, None]
    return torch.where(masked, louder.mean(dim=(1, 2), keepdim=True), louder)


def _shifted(log_mel: Tensor, shift: Tensor) -> Tensor:
    """Return each row moved up by so many mel bins; what comes in at an edge is the edge bin again."""
    if not shift.any():
        return log_mel
    n_mels = log_mel.shape[2]
    places = (torch.arange(n_mels) - shift[:, None]).clamp(0, n_mels - 1)
    return log_mel.gather(2, places[:, None, :].expand_as(log_mel))


@dataclass(frozen=True)
class Overlay:
    """The random partners of a batch; arrays of shape (batch,).

    Parameters
    ----------
    partner
        Training window laid over each row, `NO_PARTNER` for none.
    own_part
        α, in [0.5, 1]; in [0.3, 0.7] for a blend.
    start_part
        Where the partner's crop begins, as a part of the possible starts.
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
