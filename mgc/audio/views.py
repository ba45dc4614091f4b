"""What is done to a track to make a view of it, with every number decided by the driver.

A view is a function of (seed, track, view) and nothing else. Every number is drawn from a hash of its own name, so
that no order of drawing, no number of workers, no retry and no version of a random generator can change a recipe; a
kind draws the same whatever other kinds a view has.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

from mgc.config import AugmentConfig, FeatureConfig, Range
from mgc.config.view_settings import View

_DECIMALS = 6
"""Of what is drawn: far below what is audible, and a recipe stays readable."""

_GRID_HZ = 25
"""Rates of a pitch shift are multiples of it, so that source and target samples meet often; at 22,050 Hz that is one
cent."""


@dataclass(frozen=True)
class Recipe:
    """A view's transforms; None leaves one out.

    Parameters
    ----------
    overlay_alpha
        Own part in the mixture with the partner's sound (`overlay`).
    partner
        `<track_id>@<content_id>` of the overlay's partner: a view is only current while that is.
    pitch_semitones
        Pitch shift (`pitch`).
    presence_db
        Boost of the band of the voice (`loudness`).
    gain_db
        Level change (`gain`).
    snr_db, noise_seed
        Music over noise, and what the noise is drawn from (`noise`).
    tempo_ratio
        Tempo over the track's own (`tempo`); a view is 1 / tempo_ratio times as long.
    """

    overlay_alpha: float | None = None
    partner: str | None = None
    pitch_semitones: float | None = None
    presence_db: float | None = None
    gain_db: float | None = None
    snr_db: float | None = None
    noise_seed: int | None = None
    tempo_ratio: float | None = None

    def to_values(self) -> dict[str, Any]:
        """Return what is not None, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    def to_text(self) -> str:
        """Return the recipe as it stands in tables: JSON, empty for the clean view. Equal texts, equal views."""
        values = self.to_values()
        return json.dumps(values, separators=(",", ":")) if values else ""

    @classmethod
    def from_text(cls, text: str) -> Recipe:
        """Return the recipe that `to_text` wrote."""
        return cls(**json.loads(text)) if text else CLEAN_RECIPE


CLEAN_RECIPE = Recipe()
"""The track as it is."""


@dataclass(frozen=True)
class ViewRequest:
    """A view wanted of a track.

    Parameters
    ----------
    recipe
        What to do.
    partner
        Which of the partners that come with the track is the overlay's.
    """

    recipe: Recipe = CLEAN_RECIPE
    partner: int | None = None


def hashed(*names: object) -> int:
    """Return 64 bits that depend on all of `names`, evenly spread."""
    text = "\0".join(map(str, names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def draw_recipe(view: View, track_id: str, config: AugmentConfig, partner: str | None = None) -> Recipe:
    """Return a view's recipe.

    Parameters
    ----------
    view
        Its kinds and number.
    track_id
        The track's.
    config
        Seed and ranges.
    partner
        See `Recipe.partner`; for views with an overlay.
    """
    key = (config.seed, track_id, view.name)

    def between(kind: str, drawn: Range) -> float | None:
        if kind not in view.kinds:
            return None
        part = hashed(*key, kind) / 2**64
        return round(drawn[0] + (drawn[1] - drawn[0]) * part, _DECIMALS)

    return Recipe(
        overlay_alpha=between("overlay", config.overlay_alpha),
        partner=partner if view.mixes else None,
        pitch_semitones=between("pitch", config.pitch_semitones),
        presence_db=between("loudness", config.presence_db),
        gain_db=between("gain", config.gain_db),
        snr_db=between("noise", config.snr_db),
        noise_seed=hashed(*key, "noise seed") % 2**32 if "noise" in view.kinds else None,
        tempo_ratio=between("tempo", config.tempo_ratio),
    )


def sped_rate(sample_rate: int, pitch_semitones: float) -> int:
    """Return the rate in Hz to resample to for sounds that are higher when taken for `sample_rate`.

    They are shorter by the same factor. No phase vocoder has to make them longer again: the analysis steps by as much
    less from frame to frame (`place`). Formants move with the pitch, as in `librosa.effects.pitch_shift`.
    """
    if pitch_semitones == 0.0:
        return sample_rate
    steps: int = round(sample_rate * 2.0 ** (-pitch_semitones / 12.0) / _GRID_HZ)
    return max(1, steps) * _GRID_HZ


@dataclass(frozen=True)
class Placing:
    """How a view's windows are read and analysed: tempo and pitch are a matter of where frames lie.

    Every feature is a function of frames of samples. A time stretch that keeps every frame's spectrum and moves the
    frames apart is what a phase vocoder is after (Laroche & Dolson 1999), and its magnitudes are interpolations of
    those of the original's frames. So a stretched track is the original, its frames centred at k * hop_length *
    tempo_ratio: nothing is synthesised, no phase is estimated, transients stay as sharp as they are. A pitch shift is
    a resampling whose change of tempo is undone the same way.

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
