"""The transforms of a view, in the one order in which they are applied.

overlay → pitch → loudness → gain → noise → tempo. The mixture is shifted as one; pitch is part of the resampling
that every window goes through, and tempo of the analysis (`views.place`); what lies between works on samples. The
equaliser and the noise come after the shift: a voice's band is that of the ear, and noise has no pitch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from mgc.arrays import Float32Array
from mgc.audio.views import Recipe

LOW_HZ, HIGH_HZ = 200.0, 4_000.0
"""Band in which voices carry."""

_MARGIN_SECONDS = 0.1
"""Silence between a window's end and its beginning, which the transform holds for neighbours."""


def amplify(samples: Float32Array, gain_db: float) -> Float32Array:
    """Return samples times a gain, saturated at ±1 as a converter would, shape (n,).

    Log-mels are relative to the track's loudest bin: a gain changes in them only what it saturates. It changes
    energies (RMS) in full.
    """
    louder = samples * np.float32(10.0 ** (gain_db / 20.0))
    return np.clip(louder, np.float32(-1.0), np.float32(1.0), out=louder)


def emphasise(samples: Float32Array, presence_db: float, sample_rate: int) -> Float32Array:
    """Return mono samples with the band of the voice boosted by `presence_db` (negative: cut), shape (n,).

    He & Li (2024) name "vocal emphasis" and not how it is made. Lifting the middle channel would be another way, but
    a track is analysed as the mean of its channels, and that is the middle channel already. So it is an equaliser
    with zero phase, applied by the Fourier transform of the window.
    """
    size = scipy.fft.next_fast_len(samples.size + round(_MARGIN_SECONDS * sample_rate), real=True)
    spectrum = scipy.fft.rfft(samples, size)
    spectrum *= presence_response(size, presence_db, sample_rate)
    return np.asarray(scipy.fft.irfft(spectrum, size, overwrite_x=True)[: samples.size], dtype=np.float32)


@lru_cache(maxsize=4)
def presence_response(size: int, presence_db: float, sample_rate: int) -> Float32Array:
    """Return the equaliser's magnitude at the bins of a real transform of `size` samples.

    That of a peaking filter (Bristow-Johnson, Audio EQ Cookbook) centred at 894 Hz, the geometric mean of the band's
    ends, where the gain in dB is half.

    Parameters
    ----------
    size
        Samples.
    presence_db
        Gain at the band's middle; half of it at its ends, 0 far from it.
    sample_rate
        Hz.
    """
    centre_hz, octaves = np.sqrt(LOW_HZ * HIGH_HZ), np.log2(HIGH_HZ / LOW_HZ)
    omega = 2.0 * np.pi * min(centre_hz, 0.45 * sample_rate) / sample_rate
    slope = np.sin(omega) * np.sinh(0.5 * np.log(2.0) * octaves * omega / np.sin(omega))
    amplitude = 10.0 ** (presence_db / 40.0)
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)

    boost, cut = slope * amplitude, slope / amplitude
    middle = -2.0 * np.cos(omega) * z
    zeros = (1.0 + boost) + middle + (1.0 - boost) * z * z
    poles = (1.0 + cut) + middle + (1.0 - cut) * z * z
    response: Float32Array = np.abs(zeros / poles).astype(np.float32)
    return response


def add_noise(samples: Float32Array, snr_db: float, seed: tuple[int, ...]) -> Float32Array:
    """Return mono samples plus white Gaussian noise, shape (n,).

    Parameters
    ----------
    samples
        One window.
    snr_db
        Power of the window over the power of its noise; silence gets none.
    seed
        What the noise is drawn from.
    """
    rms = float(np.sqrt(np.dot(samples, samples) / max(1, samples.size)))
    noise = np.random.default_rng(seed).standard_normal(samples.size, dtype=np.float32)
    noise *= np.float32(rms * 10.0 ** (-snr_db / 20.0))
    noise += samples
    return noise


def overlay(samples: Float32Array, partner: Float32Array, alpha: float) -> Float32Array:
    """Return the mixture S = α S1 + (1 - α) S2 of two sounds at their own levels (He & Li 2024, eq. 6), shape (n,).

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


def changes_samples(recipe: Recipe) -> bool:
    """Return whether a view's samples are others than the resampled track's."""
    settings = (recipe.overlay_alpha, recipe.presence_db, recipe.gain_db, recipe.snr_db)
    return any(value is not None for value in settings)


def change_samples(
    samples: Float32Array, recipe: Recipe, sample_rate: int, window: int, partner: Float32Array | None = None
) -> Float32Array:
    """Return one window's samples as the view has them, shape (n,).

    Parameters
    ----------
    samples
        Resampled as `Placing` says, shape (n,).
    recipe
        What to do.
    sample_rate
        Hz that the samples are taken for.
    window
        The window's number: each has noise of its own.
    partner
        The overlay's other sound, resampled alike.
    """
    if recipe.overlay_alpha is not None and partner is not None:
        samples = overlay(samples, partner, recipe.overlay_alpha)
    if recipe.presence_db is not None:
        samples = emphasise(samples, recipe.presence_db, sample_rate)
    if recipe.gain_db is not None:
        samples = amplify(samples, recipe.gain_db)
    if recipe.snr_db is not None:
        samples = add_noise(samples, recipe.snr_db, (recipe.noise_seed or 0, window))
    return samples
