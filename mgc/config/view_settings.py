"""Views of a track: their names, what each changes, and between which bounds.

A view's name is `clean`, a kind (`tempo`), or a chain of kinds (`pitch+loudness+tempo`), and may carry a number
(`tempo#2`): the same kinds drawn once more. A chain is always applied in the order of `KINDS`, however it was
written, and its canonical name lists the kinds in that order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mgc.config.section import Section
from mgc.errors import did_you_mean

CLEAN = "clean"
"""The track as it is."""

KINDS = ("overlay", "pitch", "loudness", "gain", "noise", "tempo")
"""The transforms in the order in which they are applied."""

_NUMBERED = re.compile(r"(?P<chain>[^#]*)(?:#(?P<number>[1-9][0-9]*))?\Z")


@dataclass(frozen=True)
class View:
    """A view of a track.

    Parameters
    ----------
    kinds
        The transforms, in the order of `KINDS`; none for the clean view.
    number
        1, or which further draw of the same kinds.
    """

    kinds: tuple[str, ...]
    number: int = 1

    @property
    def name(self) -> str:
        """Return the canonical name."""
        chain = "+".join(self.kinds) or CLEAN
        return chain if self.number == 1 else f"{chain}#{self.number}"

    @property
    def mixes(self) -> bool:
        """Whether it needs a partner's sound."""
        return "overlay" in self.kinds

    def numbered(self, number: int) -> View:
        """Return another draw of the same kinds."""
        return View(self.kinds, number)


def parse_view(name: str) -> View:
    """Return the view that a name means.

    Raises
    ------
    ValueError
        A kind is unknown (the message names the nearest valid one) or comes twice, or the number is none.
    """
    match = _NUMBERED.match(name)
    if not match:
        raise ValueError(f"'{name}' is no view: after '#' comes a number, as in 'tempo#2'")
    chain, number = match["chain"], int(match["number"] or 1)
    if chain == CLEAN:
        if number > 1:
            raise ValueError(f"'{name}': there is but one clean view")
        return View(())
    kinds = chain.split("+")
    for kind in kinds:
        if kind not in KINDS:
            valid = list(KINDS) if len(kinds) > 1 else [CLEAN, *KINDS]
            raise ValueError(
                f"unknown view '{kind}'" + (f" in '{name}'" if kind != name else "") + f": {_near(kind, valid)}"
            )
        if kinds.count(kind) > 1:
            raise ValueError(f"'{name}' names '{kind}' twice")
    return View(tuple(kind for kind in KINDS if kind in kinds), number)


def _near(kind: str, valid: list[str]) -> str:
    # What others call it.
    meant = {"speed": "tempo", "stretch": "tempo", "time_stretch": "tempo", "vocal": "loudness", "mix": "overlay"}
    return f"did you mean '{meant[kind]}'?" if kind in meant else did_you_mean(kind, valid)


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

    section_kind: ClassVar[str] = "augment"
    views: tuple[str, ...] = Field((CLEAN,), description='e.g. `["clean", "tempo", "pitch+loudness+tempo"]`')
    splits: tuple[Literal["train", "valid", "test", "unlisted"], ...] = Field(
        ("train",), description="whose tracks get views; the other splits' tracks have the clean view alone"
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
