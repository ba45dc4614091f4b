"""A project: what the clips of one composer share, and the plan of which projects have which roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mgc.demo.score import MAJOR, MINOR, Key
from mgc.demo.styles import Style

T = TypeVar("T")

MIN_ROLES = 3
"""A project with fewer takes its style's core role in."""

PROGRESSIONS: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {
    MAJOR: ((0, 4, 5, 3), (0, 3, 4, 3), (0, 5, 3, 4), (0, 3, 0, 4)),
    MINOR: ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 6)),
}
"""Scale degrees of the chords' roots, by scale."""


@dataclass(frozen=True)
class Project:
    """The material of one composer: every clip of the project is made of it."""

    style: Style
    name: str
    tempo_bpm: float
    key: Key
    progression: tuple[int, ...]
    orchestra: dict[str, str]
    kit: dict[str, str]
    bass: str
    chords: str
    arpeggio_beats: float
    arpeggio_order: tuple[int, ...]
    rhythm: tuple[float, ...]
    contour: tuple[int, ...]


def plan_projects(style: Style, count: int, seeds: list[int]) -> list[Project]:
    """Return `count` projects of a style.

    Each role plays in its share of them, to the nearest whole project, and half of them are in major: in so
    few projects independent draws would leave some tags without an example.
    """
    rng = np.random.default_rng(seeds)
    roles = {role: _shared_out(rng, share, count) for role, share in style.shares.items()}
    major = _shared_out(rng, 0.5, count)
    tempos = style.tempo_bpm[0] + (rng.permutation(count) + rng.random(count)) / count * (
        style.tempo_bpm[1] - style.tempo_bpm[0]
    )
    return [
        _draw(
            style,
            f"{style.name}-{index + 1:02}",
            float(tempos[index]),
            MAJOR if major[index] else MINOR,
            [role for role in roles if roles[role][index]],
            np.random.default_rng([*seeds, index]),
        )
        for index in range(count)
    ]


def _shared_out(rng: np.random.Generator, share: float, count: int) -> list[bool]:
    chosen = rng.permutation(count)[: round(share * count)]
    return [index in chosen for index in range(count)]


def _one_of(rng: np.random.Generator, choices: Sequence[T], otherwise: T) -> T:
    return choices[int(rng.integers(len(choices)))] if choices else otherwise


def _draw(
    style: Style,
    name: str,
    tempo_bpm: float,
    scale: tuple[int, ...],
    roles: list[str],
    rng: np.random.Generator,
) -> Project:
    if len(roles) < MIN_ROLES and style.core not in roles:
        roles = [*roles, style.core]
    orchestra = {role: _one_of(rng, style.orchestra[role], "") for role in roles if role != "drums"}
    rhythm = _one_of(rng, style.rhythms, ())
    return Project(
        style=style,
        name=name,
        tempo_bpm=round(tempo_bpm, 1),
        key=Key(48 + int(rng.integers(12)), scale),
        progression=_one_of(rng, PROGRESSIONS[scale], ()),
        orchestra=orchestra,
        kit=dict(_one_of(rng, style.drums, {})) if "drums" in roles else {},
        bass=_one_of(rng, style.bass, ""),
        chords=_one_of(rng, style.chords, ""),
        arpeggio_beats=_one_of(rng, style.arpeggio_beats, 0.5),
        arpeggio_order=_one_of(rng, ((0, 1, 2, 3), (0, 2, 1, 2), (3, 2, 1, 0), (0, 1, 2, 3, 2, 1)), ()),
        rhythm=rhythm,
        contour=tuple(int(step) for step in rng.choice((-2, -1, -1, 0, 1, 1, 2), len(rhythm))),
    )
