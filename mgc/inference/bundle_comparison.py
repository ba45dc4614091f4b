"""Two bundles' answers for the same file, and where they differ (Guo 2024, §4, holds two models side by side so)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.arrays import Float32Array
from mgc.inference.file_tagger import FileAnswer
from mgc.inference.json_answer import json_answer
from mgc.models.bundle import Bundle


@dataclass(frozen=True)
class Vocabularies:
    """What two bundles can say: names that both know, and those of one alone, in the order of the first."""

    genres_both: tuple[str, ...]
    genres_a: tuple[str, ...]
    genres_b: tuple[str, ...]
    tags_both: tuple[str, ...]
    tags_a: tuple[str, ...]
    tags_b: tuple[str, ...]

    @classmethod
    def of(cls, a: Bundle, b: Bundle) -> Vocabularies:
        """Return what two bundles share."""
        return cls(
            *_shared(a.taxonomy.genres, b.taxonomy.genres),
            *_shared(a.taxonomy.tags, b.taxonomy.tags),
        )


@dataclass(frozen=True)
class Difference:
    """How two bundles differ on one file.

    Parameters
    ----------
    answered
        Whether both have an answer.
    same_genre
        None where one has no answer, or knows no genres.
    genre_distance
        Total variation, 0 (alike) to 1, between the probabilities of the genres; None where the two do not
        know the same genres, so that their probabilities are shares of different wholes.
    tags_a, tags_b
        Tags that one lists and the other does not.
    tag_changes
        Tags that both know with probability of `b` minus that of `a`, the largest change first.
    """

    answered: bool
    same_genre: bool | None
    genre_distance: float | None
    tags_a: list[str]
    tags_b: list[str]
    tag_changes: list[tuple[str, float]]


def difference(a: FileAnswer, b: FileAnswer, bundle_a: Bundle, bundle_b: Bundle) -> Difference:
    """Return where two bundles' answers for one file differ."""
    if a.prediction is None or b.prediction is None:
        return Difference(False, None, None, [], [], [])
    one, other = a.prediction, b.prediction
    genres_a, genres_b = bundle_a.taxonomy.genres, bundle_b.taxonomy.genres
    distance = None
    if genres_a and set(genres_a) == set(genres_b):
        changes = _changes(genres_a, one.genre_probabilities, genres_b, other.genre_probabilities)
        distance = 0.5 * sum(abs(change) for _, change in changes)
    return Difference(
        answered=True,
        same_genre=None if one.genre is None or other.genre is None else one.genre == other.genre,
        genre_distance=distance,
        tags_a=[tag for tag in one.tags if tag not in other.tags],
        tags_b=[tag for tag in other.tags if tag not in one.tags],
        tag_changes=_changes(
            bundle_a.taxonomy.tags, one.tag_probabilities, bundle_b.taxonomy.tags, other.tag_probabilities
        ),
    )


def json_difference(a: FileAnswer, b: FileAnswer, bundle_a: Bundle, bundle_b: Bundle) -> dict[str, Any]:
    """Return both answers and where they differ, JSON-ready."""
    found = difference(a, b, bundle_a, bundle_b)
    return {
        "audio_file": a.uri,
        "same_genre": found.same_genre,
        "genre_distance": found.genre_distance,
        "tags_only_a": found.tags_a,
        "tags_only_b": found.tags_b,
        "tag_changes": dict(found.tag_changes),
        "a": json_answer(a, bundle_a),
        "b": json_answer(b, bundle_b),
    }


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(name for name in a if name in b),
        tuple(name for name in a if name not in b),
        tuple(name for name in b if name not in a),
    )


def _changes(
    names_a: tuple[str, ...], a: Float32Array, names_b: tuple[str, ...], b: Float32Array
) -> list[tuple[str, float]]:
    of_b = dict(zip(names_b, b.tolist(), strict=True))
    changes = [(name, of_b[name] - value) for name, value in zip(names_a, a.tolist(), strict=True) if name in of_b]
    order = np.argsort([-abs(change) for _, change in changes], kind="stable")
    return [changes[place] for place in order]
