"""The transforms of a view, in the one order in which they are applied.

overlay → pitch → loudness → gain → noise → tempo. The mixture is shifted as one; pitch is part of the resampling
that every window goes through, and tempo of the analysis (`placing`); what lies between works on samples. The
equaliser and the noise come after the shift: a voice's band is that of the ear, and noise has no pitch.
"""

from __future__ import annotations

from mgc.arrays import Float32Array
from mgc.audio.gain import amplify
from mgc.audio.loudness import emphasise
from mgc.audio.noise import add_noise
from mgc.audio.overlay import overlay
from mgc.audio.views import Recipe


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
