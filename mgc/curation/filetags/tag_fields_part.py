"""What a prediction writes into a file: which fields, and which it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mgc.curation.filetags.tag_formats import GENRE, Values

OWN_GENRE = "MGC_GENRE"
PROBABILITY = "MGC_GENRE_PROBABILITY"
TAGS = "MGC_TAGS"
BUNDLE = "MGC_BUNDLE"

OWN_FIELDS = (OWN_GENRE, PROBABILITY, TAGS, BUNDLE)

TAG_SEPARATOR = "|"
"""As in a label manifest: what is written here can be read there."""


class PredictedLabels(NamedTuple):
    """What a prediction says about a track."""

    genre: str
    genre_probability: float
    tags: Sequence[str]
    bundle_fingerprint: str


def own_fields(predicted: PredictedLabels) -> dict[str, Values]:
    """Return the fields that are mgc's alone: what it heard, how sure it is, and which bundle said so."""
    return {
        OWN_GENRE: (predicted.genre,),
        PROBABILITY: (f"{predicted.genre_probability:.3f}",),
        TAGS: (TAG_SEPARATOR.join(predicted.tags),) if predicted.tags else (),
        BUNDLE: (predicted.bundle_fingerprint,),
    }


def changes_for(
    predicted: PredictedLabels, current: Mapping[str, Values], *, replace_genre: bool = False
) -> dict[str, Values]:
    """Return the fields whose value would change; empty: the file says it all already.

    The genre field that players show is written where there is none, or where mgc itself wrote the one that is
    there. A genre that somebody else wrote stays, unless `replace_genre`.
    """
    wanted = own_fields(predicted)
    genre = current.get(GENRE, ())
    if replace_genre or not any(genre) or genre == current.get(OWN_GENRE):
        wanted[GENRE] = (predicted.genre,)
    ordered = {name: wanted[name] for name in (GENRE, *OWN_FIELDS) if name in wanted}
    return {name: values for name, values in ordered.items() if current.get(name, ()) != values}
