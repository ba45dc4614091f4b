"""Views: what is changed, and between which bounds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mgc.config.section import Section
from mgc.config.views import CLEAN, View, parse_view

Range = tuple[float, float]
"""Lowest and highest of what is drawn."""


AUGMENT_BOUNDS = {
    "tempo_ratio": (0.5, 2.0),
    "pitch_semitones": (-12.0, 12.0),
    "presence_db": (-24.0, 24.0),
    "gain_db": (-60.0, 60.0),
    "snr_db": (-20.0, 100.0),
    "overlay_alpha": (0.0, 1.0),
}
"""Within which the ranges of `AugmentConfig` may lie: beyond them a view is no music any more."""


class AugmentConfig(Section):
    """Views: further rows of a track, changed in a way that leaves its genre what it is. By default none.

    A view is `clean` (always made), `overlay`, `pitch`, `loudness`, `gain`, `noise` or `tempo`, or a chain of
    these with `+`, applied in this order; `tempo#2` is a second draw. A range is [lowest, highest]; what is drawn
    depends on `seed`, the track and the view alone. docs/augmentation.md says what each does.
    """

    views: tuple[str, ...] = Field((CLEAN,), description='e.g. `["clean", "tempo", "pitch+loudness+tempo"]`')
    splits: tuple[Literal["train", "valid", "test", "unlisted"], ...] = Field(
        ("train",), description="whose tracks get views; the other splits' tracks are heard clean"
    )
    seed: int = Field(0, description="decides what is drawn")
    tempo_ratio: Range = Field((0.8, 1.25), description="tempo over the track's own, within [0.5, 2]")
    pitch_semitones: Range = Field((-2.0, 2.0), description="pitch shift, within [-12, 12]")
    presence_db: Range = Field((3.0, 9.0), description="loudness: boost of 200 Hz to 4 kHz, within [-24, 24]")
    gain_db: Range = Field((-6.0, 6.0), description="level change, saturated at full scale; within [-60, 60]")
    snr_db: Range = Field((10.0, 30.0), description="noise: music over white noise in a window, within [-20, 100]")
    overlay_alpha: Range = Field((0.5, 0.8), description="overlay: the track's own part, within [0, 1]")
    balance_to_share: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="more numbered views for rare genres, until each has this share of the commonest one's rows",
    )

    @field_validator("views")
    @classmethod
    def _known_views(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return canonical names, the clean view first."""
        written: dict[View, str] = {}
        for name in names:
            view = parse_view(name)
            if view in written:
                twice = "comes twice" if written[view] == name else f"and '{written[view]}' are the same view"
                raise ValueError(f"'{name}' {twice}; a second draw is '{view.numbered(view.number + 1).name}'")
            written[view] = name
        return (CLEAN, *(view.name for view in written if view.kinds))

    @field_validator("tempo_ratio", "pitch_semitones", "presence_db", "gain_db", "snr_db", "overlay_alpha")
    @classmethod
    def _within(cls, drawn: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        lowest, highest = AUGMENT_BOUNDS[str(info.field_name)]
        if not lowest <= drawn[0] <= drawn[1] <= highest:
            raise ValueError(f"a range is [lowest, highest], within [{lowest:g}, {highest:g}]")
        return drawn

    @model_validator(mode="after")
    def _has_views_to_balance_with(self) -> Self:
        if self.balance_to_share is not None and self.views == (CLEAN,):
            raise ValueError("balance_to_share needs views besides 'clean' to make more of")
        return self
