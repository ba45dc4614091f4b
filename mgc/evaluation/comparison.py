"""Two systems on the same tracks: is one better, or only luckier?

The bootstrap is paired: a resample draws tracks, and both systems answer the same ones, so that what is hard for both
cancels. That is a far sharper question than whether two intervals overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.arrays import BoolArray
from mgc.config import EvaluationConfig
from mgc.errors import SplitError
from mgc.evaluation.answers import LabelledPredictions, predicted_genres
from mgc.evaluation.bootstrap import UNDEFINED, Figure, JsonRecord, Resample, Resampling, make_resampling, ratio
from mgc.evaluation.evaluate import Evaluation, evaluate


@dataclass(frozen=True)
class BaselineComparison(JsonRecord):
    """A system beside its baseline, on the tracks that both answered.

    Parameters
    ----------
    baseline
        What it is, in a few words.
    evaluation
        The baseline's own figures.
    tracks
        Tracks with a known genre that both answered.
    accuracy_difference
        Accuracy of the system minus that of the baseline on these, with its paired interval; not defined where
        there are none.
    only_ours_right, only_baseline_right
        Tracks that tell the two apart.
    details
        How the baseline was fitted, in a sentence.
    """

    baseline: str
    evaluation: Evaluation
    tracks: int
    accuracy_difference: Figure
    only_ours_right: int
    only_baseline_right: int
    details: str = ""


def compare(
    ours: LabelledPredictions,
    baseline: LabelledPredictions,
    config: EvaluationConfig,
    *,
    name: str,
    details: str = "",
    resample: Resample = "track",
) -> BaselineComparison:
    """Return the paired comparison of accuracy, with the baseline's figures.

    Raises
    ------
    SplitError
        There is no track that both answered, or the baseline answered none that is labelled.
    """
    both = set(ours.track_ids) & set(baseline.track_ids)
    if not both:
        raise SplitError(
            f"no track was answered by both the ensemble and '{name}'",
            "evaluate both on the same split of the same catalogue",
        )
    here, there = _rightness(ours), _rightness(baseline)
    shared = sorted(here.keys() & there.keys())
    ours_right = np.array([here[track] for track in shared], dtype=bool)
    baseline_right = np.array([there[track] for track in shared], dtype=bool)
    group_of = dict(zip(ours.track_ids, ours.groups, strict=True))
    groups = [group_of[track] for track in shared]
    return BaselineComparison(
        baseline=name,
        evaluation=evaluate(baseline, config, resample),
        tracks=len(shared),
        accuracy_difference=_paired_difference(
            ours_right, baseline_right, make_resampling(shared, groups, config, resample) if shared else None
        ),
        only_ours_right=int(np.count_nonzero(ours_right & ~baseline_right)),
        only_baseline_right=int(np.count_nonzero(baseline_right & ~ours_right)),
        details=details,
    )


def _paired_difference(ours_right: BoolArray, baseline_right: BoolArray, resampling: Resampling | None) -> Figure:
    """Return the difference of two accuracies over the same tracks; not defined without any."""
    if resampling is None:
        return UNDEFINED
    gain = ours_right.astype(np.int64) - baseline_right
    replicates = np.concatenate(
        [
            ratio((weights * gain[:, None]).sum(axis=0, dtype=np.float64), weights.sum(axis=0, dtype=np.float64))
            for weights in resampling.chunks()
        ]
    )
    return resampling.share(float(gain.mean()), replicates, least=-1.0)


def _rightness(answers: LabelledPredictions) -> dict[str, bool]:
    """Return track id → right, for the tracks whose genre is known and in the vocabulary."""
    if not answers.genres:
        return {}
    right = predicted_genres(answers.genre_probabilities) == answers.genre_true
    return {
        track: bool(is_right)
        for track, is_right, known in zip(answers.track_ids, right, answers.labelled, strict=True)
        if known
    }
