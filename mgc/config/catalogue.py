"""How a folder or prefix becomes a catalogue."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from mgc.config.section import Fraction, Section


class CatalogueConfig(Section):
    """How a folder or prefix becomes a catalogue."""

    manifest: str | None = Field(None, description="CSV or Parquet of labels, joined on path, uri or track_id")
    labels_from: Literal["manifest", "folder", "none"] | None = Field(
        None, description="where labels come from; by default the manifest if given, else nothing"
    )
    dataset: str | None = Field(
        None, description="labels and splits of a public data set: gtzan, magnatagatune, fma or mtg-jamendo"
    )
    annotations: str | None = Field(
        None, description="folder of the data set's annotations; None: looked for in the root and beside it"
    )
    subset: str | None = Field(
        None,
        description="fma: small, medium, large; mtg-jamendo: genre, instrument, moodtheme, top50tags",
    )
    split_number: int = Field(0, ge=0, le=4, description="which of mtg-jamendo's five splits")
    dataset_split: Literal["own", "drawn"] = Field(
        "own", description="the data set's own split, or one drawn with its artists kept apart"
    )
    files: Literal["audio", "npy"] = Field("audio", description="what a track is: an audio file, or a mel `.npy`")
    corrections: tuple[str, ...] = Field(
        (), description="further files of labels on top, such as filled-in review queues; a later one wins"
    )
    genres: tuple[str, ...] = Field((), description="the genres allowed; empty: those found")
    unknown_genre: Literal["error", "unlabelled"] = Field(
        "error", description="a genre outside `genres`: stop, or take the track as unlabelled"
    )
    content_id: Literal["stat", "hash"] = Field("stat", description="ETag or size+mtime, or a hash of the bytes")
    valid_fraction: Fraction = Field(
        0.2, description="share of the labelled tracks held out to choose and calibrate the model"
    )
    test_fraction: Fraction = Field(0.0, description="share held out for the final figures")
    split_seed: int = Field(0, description="decides which groups are held out")

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.valid_fraction + self.test_fraction >= 1.0:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        return self
