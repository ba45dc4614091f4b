"""Answers to figures: everything about one split, each figure with its confidence interval."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgc.config import EvaluationConfig
from mgc.errors import SplitError
from mgc.evaluation.answers import OUTSIDE, LabelledPredictions
from mgc.evaluation.bootstrap import JsonRecord, Resample, make_resampling
from mgc.evaluation.genre_metrics import GenreEvaluation, evaluate_genres
from mgc.evaluation.tag_metrics import TagEvaluation, evaluate_tags

FORMAT = 1
"""Version of the JSON form; raised when a key changes its meaning."""

METHOD = (
    "percentile bootstrap; basic bootstrap for macro_pr_auc and ece; Clopper-Pearson over groups for shares that no "
    "resample changes; Wilson, by the design effect of groups, for reliability bins and abstention"
)


@dataclass(frozen=True)
class Evaluation(JsonRecord):
    """Every figure of one split.

    Parameters
    ----------
    split
        Its name.
    tracks, answered
        Tracks of the split; those of them that gave an answer.
    groups
        Different groups (artists, works) among the tracks of the split.
    genre, tag
        None where nothing is labelled.
    failed_by_code
        Tracks without an answer, by error code, the commonest first.
    outside_genres, outside_tracks
        Genres of the split that the model never learned, and how many answered tracks are of them.
    resample, bootstrap_samples, confidence, seed
        How the intervals were made.
    """

    split: str
    tracks: int
    answered: int
    groups: int
    genre: GenreEvaluation | None
    tag: TagEvaluation | None
    resample: Resample
    bootstrap_samples: int
    confidence: float
    seed: int
    failed_by_code: dict[str, int] = field(default_factory=dict)
    outside_genres: tuple[str, ...] = ()
    outside_tracks: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form.

        Keys: `format`, `split`, `tracks`, `answered`, `groups`, `failed` (count by code), `outside_genres`,
        `outside_tracks`, `intervals` (`method`, `resample`, `samples`, `confidence`, `seed`), `genre` and `tags`
        (null where nothing is labelled). A figure is `{"value", "low", "high"}`: value is null where it is not
        defined, the ends where there is too little to resample. What is in `genre` and `tags` is listed at
        `GenreEvaluation` and `TagEvaluation`.
        """
        return {
            "format": FORMAT,
            "split": self.split,
            "tracks": self.tracks,
            "answered": self.answered,
            "groups": self.groups,
            "failed": dict(self.failed_by_code),
            "outside_genres": list(self.outside_genres),
            "outside_tracks": self.outside_tracks,
            "intervals": {
                "method": METHOD,
                "resample": self.resample,
                "samples": self.bootstrap_samples,
                "confidence": self.confidence,
                "seed": self.seed,
            },
            "genre": self.genre.to_json() if self.genre else None,
            "tags": self.tag.to_json() if self.tag else None,
        }


def evaluate(answers: LabelledPredictions, config: EvaluationConfig, resample: Resample = "track") -> Evaluation:
    """Return all figures of the answers, with intervals from resampled tracks or groups.

    No figure depends on the order of the tracks.

    Raises
    ------
    SplitError
        No track that was answered has a genre the model knows, or tags.
    """
    ordered = answers.in_track_order()
    track_ids = [*ordered.track_ids, *(failure.track_id for failure in ordered.failed)]
    groups = [*ordered.groups, *(failure.group for failure in ordered.failed)]
    _require_labels(ordered)
    resampling = make_resampling(track_ids, groups, config, resample)
    failed = Counter(failure.error_code for failure in ordered.failed)
    return Evaluation(
        split=ordered.split,
        tracks=len(track_ids),
        answered=len(ordered),
        groups=len({group or track for group, track in zip(groups, track_ids, strict=True)}),
        genre=evaluate_genres(ordered, resampling),
        tag=evaluate_tags(ordered, resampling, config.min_tag_positives),
        resample=resample,
        bootstrap_samples=config.bootstrap_samples,
        confidence=config.confidence,
        seed=config.seed,
        failed_by_code=dict(sorted(failed.items(), key=lambda item: (-item[1], item[0]))),
        outside_genres=tuple(ordered.outside_genres),
        outside_tracks=int(np.count_nonzero(ordered.genre_true == OUTSIDE)),
    )


def _require_labels(answers: LabelledPredictions) -> None:
    if answers.labelled.any() or (answers.tags and answers.tags_known.any()):
        return
    where = f"split '{answers.split}'" if answers.split else "the tracks given"
    if not len(answers):
        raise SplitError(
            f"nothing to evaluate: {where} has no track with an answer ({len(answers.failed)} failed)",
            "choose a split that has tracks, or see why they failed in the predictions' error columns",
        )
    outside = f"; its genres are unknown to the model: {', '.join(answers.outside_genres)}"
    raise SplitError(
        f"nothing to evaluate: no answered track of {where} has a label that the model knows"
        + (outside if answers.outside_genres else ""),
        "join labels when indexing (--manifest or --labels-from folder), and evaluate the model on its own genres",
    )
