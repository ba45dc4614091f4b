"""Names of views: what is heard of a track besides the track itself.

A view's name is `clean`, a kind (`tempo`), or a chain of kinds (`pitch+loudness+tempo`), and may carry a number
(`tempo#2`): the same kinds drawn once more. A chain is always applied in the order of `KINDS`, however it was
written, and its canonical name lists the kinds in that order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
