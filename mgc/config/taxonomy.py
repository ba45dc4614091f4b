"""The vocabularies: genres (one a track) and tags (any number a track), label ↔ index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mgc.config import fingerprint_of
from mgc.errors import LabelError, did_you_mean

UNKNOWN = -1
"""Genre index of a track whose genre is not known; masked in the loss and in the metrics."""


@dataclass(frozen=True)
class Taxonomy:
    """An ordered genre vocabulary and an ordered tag vocabulary.

    Parameters
    ----------
    genres, tags
        Names in index order, without repeats. Either may be empty.
    """

    genres: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        for kind, names in (("genre", self.genres), ("tag", self.tags)):
            repeated = {name for name in names if names.count(name) > 1}
            if repeated:
                raise LabelError(f"{kind} named twice in the taxonomy: {', '.join(sorted(repeated))}")

    @classmethod
    def from_labels(
        cls, genres: Iterable[str | None], tags: Iterable[Sequence[str]], min_tag_positives: int = 1
    ) -> Taxonomy:
        """Return the sorted genres seen and the sorted tags seen at least `min_tag_positives` times."""
        counts: dict[str, int] = {}
        for names in tags:
            for name in set(names):
                counts[name] = counts.get(name, 0) + 1
        frequent = sorted(name for name, count in counts.items() if count >= min_tag_positives)
        return cls(tuple(sorted({genre for genre in genres if genre})), tuple(frequent))

    @cached_property
    def _genre_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.genres)}

    @cached_property
    def _tag_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.tags)}

    def genre_index(self, genre: str | None) -> int:
        """Return the index of `genre`, `UNKNOWN` for None.

        Raises
        ------
        LabelError
            The genre is not in the taxonomy.
        """
        if genre is None:
            return UNKNOWN
        if genre not in self._genre_index:
            raise LabelError(f"unknown genre '{genre}'", did_you_mean(genre, list(self.genres)))
        return self._genre_index[genre]

    def tag_vector(self, tags: Iterable[str]) -> npt.NDArray[np.float32]:
        """Return the multi-hot vector of `tags`, shape (n_tags,); tags outside the taxonomy are left out."""
        vector = np.zeros(len(self.tags), dtype=np.float32)
        for tag in tags:
            index = self._tag_index.get(tag)
            if index is not None:
                vector[index] = 1.0
        return vector

    def fingerprint(self) -> str:
        """Return 16 hex digits of the ordered vocabularies."""
        return fingerprint_of(self.to_dict())

    def to_dict(self) -> dict[str, list[str]]:
        """Return a JSON-ready form."""
        return {"genres": list(self.genres), "tags": list(self.tags)}

    @classmethod
    def from_dict(cls, value: dict[str, list[str]]) -> Taxonomy:
        """Return the taxonomy that `to_dict` described."""
        return cls(tuple(value["genres"]), tuple(value["tags"]))
