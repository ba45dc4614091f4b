"""What chance decides about a view: a function of (seed, track, view) and nothing else.

Every number is drawn from a hash of its own name, so that no order of drawing, no number of workers, no retry and
no version of a random generator can change a recipe; a kind draws the same whatever else is asked of it.
"""

from __future__ import annotations

import hashlib

from mgc.audio.views import Recipe
from mgc.config import AugmentConfig, Range
from mgc.config.view_settings import View

_DECIMALS = 6
"""Of what is drawn: far below what is heard, and a recipe stays readable."""


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
