"""What an ensemble says of a student's training rows (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge").

A student learns from probabilities instead of labels: of each window, the ensemble's calibrated prediction.
The losses are linear in the weights of `training.labels`, so soft labels are weights like any other, and a track
without a label teaches as much as one that has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mgc.config import FitConfig
from mgc.models.bundle import Bundle, BundleContents, build_member
from mgc.models.ensemble import EnsembleOutputs, combine
from mgc.models.forward import LogMel, TrackOutputs, member_outputs, window_outputs
from mgc.tables.feature_shards import FeatureSet
from mgc.training.assemble import figures
from mgc.training.batches import require_sound
from mgc.training.losses import LabelWeights, encode_labels, weigh_labels


def distillation_labels(
    teacher: Bundle, tracks: FeatureSet, config: FitConfig, share: float, device: str = "cpu"
) -> LabelWeights:
    """Return the label weights of every window of every track, those of a track next to each other.

    Parameters
    ----------
    teacher
        Must read the features that `tracks` hold.
    share
        Weight of the teacher's prediction against the label, where there is one; 0 to 1.

    Returns
    -------
    LabelWeights
        Shapes (n_windows of all tracks, n_genres) and (…, n_tags), as the teacher's taxonomy has them.

    Raises
    ------
    TrainingError
        Features are not finite, or not alike in shape.
    """
    require_sound(tracks)
    teacher_outputs = ensemble_predictions(teacher, tracks.log_mels, device=device, by_window=True)
    soft = LabelWeights(
        teacher_outputs.genre_probabilities,
        teacher_outputs.tag_probabilities,
        1.0 - teacher_outputs.tag_probabilities,
    )
    labels = encode_labels(tracks, teacher.taxonomy)
    windows = np.repeat(np.arange(len(tracks)), [len(log_mel) for log_mel in tracks.log_mels])
    hard = weigh_labels(labels, len(teacher.taxonomy.genres), config.class_weights).rows(windows)
    genre = np.where(labels.genre_known, share, 1.0).astype(np.float32)[windows, np.newaxis]
    tag = np.where(labels.tags_known, share, 1.0).astype(np.float32)[windows, np.newaxis]
    return LabelWeights(
        genre * soft.genre + (1.0 - genre) * hard.genre,
        tag * soft.tag_positive + (1.0 - tag) * hard.tag_positive,
        tag * soft.tag_negative + (1.0 - tag) * hard.tag_negative,
    )


def ensemble_predictions(
    bundle: BundleContents, log_mels: list[LogMel], *, device: str = "cpu", by_window: bool = False
) -> EnsembleOutputs:
    """Return what a bundle's ensemble says of tracks, a row each, or of each of their windows."""
    forward_pass = window_outputs if by_window else member_outputs
    members = [build_member(member, bundle.features, bundle.taxonomy, device) for member in bundle.members]
    outputs: list[TrackOutputs] = [forward_pass(member, log_mels, device=device) for member in members]
    return combine(outputs, [member.calibration for member in bundle.members], bundle.decision.fusion)


def fidelity_metrics(student: BundleContents, teacher: Bundle, valid: FeatureSet) -> dict[str, Any]:
    """Return the teacher's own validation figures, and how near the student comes to its predictions.

    Returns
    -------
    dict
        `teacher`, as `metrics["ensemble"]`; `fidelity`: the share of tracks for which both name the same genre, and
        the mean distance of their tag probabilities.
    """
    student_outputs, teacher_outputs = (ensemble_predictions(one, valid.log_mels) for one in (student, teacher))
    labels = encode_labels(valid, teacher.taxonomy)
    genres, tags = len(teacher.taxonomy.genres), len(teacher.taxonomy.tags)
    same = (
        student_outputs.genre_probabilities.argmax(axis=1) == teacher_outputs.genre_probabilities.argmax(axis=1)
        if genres
        else None
    )
    distance = np.abs(student_outputs.tag_probabilities - teacher_outputs.tag_probabilities) if tags else None
    return {
        "teacher": figures(teacher_outputs.genre_probabilities, teacher_outputs.tag_probabilities, labels),
        "fidelity": {
            "same_genre": None if same is None else float(same.mean()),
            "tag_distance": None if distance is None else float(distance.mean()),
        },
    }
