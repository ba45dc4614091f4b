"""What is done to a track to make a view of it, with every number decided."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any


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
    """A view asked of a track.

    Parameters
    ----------
    recipe
        What to do.
    partner
        Which of the partners that come with the track is the overlay's.
    """

    recipe: Recipe = CLEAN_RECIPE
    partner: int | None = None
