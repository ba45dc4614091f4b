"""Tempo and pitch as a matter of where frames lie.

Every feature is a function of frames of samples. A time stretch that keeps every frame's spectrum and moves the
frames apart is what a phase vocoder is after (Laroche & Dolson 1999), and its magnitudes are interpolations of those
of the original's frames. So a stretched track is the original, its frames centred at k * hop_length * tempo_ratio:
nothing is synthesised, no phase is guessed, transients stay as sharp as they are. A pitch shift is a resampling
(`mgc.audio.pitch`) whose change of tempo is undone the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from mgc.audio.pitch import sped_rate
from mgc.audio.views import Recipe
from mgc.config import FeatureConfig


@dataclass(frozen=True)
class Placing:
    """How a view's windows are read and analysed.

    Parameters
    ----------
    rate
        Hz that the source is resampled to; then taken for the settings' sample rate.
    n_samples
        Samples of a window at `rate`.
    frame_step
        Samples between frame centres; None: the settings' hop.
    tempo_ratio
        Seconds of the source in a second of the view.
    """

    rate: int
    n_samples: int
    frame_step: float | None
    tempo_ratio: float


def place(recipe: Recipe, features: FeatureConfig) -> Placing:
    """Return the placing of a view; a window of it has as many frames as one of the clean track."""
    ratio = 1.0 if recipe.tempo_ratio is None else recipe.tempo_ratio
    rate = sped_rate(features.sample_rate, recipe.pitch_semitones or 0.0)
    spread = ratio * rate / features.sample_rate
    step = None if spread == 1.0 else features.hop_length * spread
    return Placing(rate, round(features.window_samples * spread), step, ratio)
