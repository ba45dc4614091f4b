"""What an ensemble says of a student's lessons (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge").

A student is taught by probabilities instead of labels: of each window, the ensemble's calibrated word on that window.
The losses are linear in the masses of `training.labels`, so soft labels are masses like any other, and a track
without a label teaches as much as one that has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mgc.config import FitConfig
from mgc.data.shards import FeatureSet
from mgc.models.bundle import Bundle, BundleContents, build_member
from mgc.models.ensemble import EnsembleOutputs, combine
from mgc.models.forward import LogMel, TrackOutputs, member_outputs, window_outputs
from mgc.training.batches import require_sound
from mgc.training.ensemble import figures
from mgc.training.labels import Masses, labels_of, masses_of


def teach(teacher: Bundle, tracks: FeatureSet, config: FitConfig, share: float, device: str = "cpu") -> Masses:
    """Return the masses of every window of every track, those of a track next to each other.

    Parameters
    ----------
    teacher
        Must hear what `tracks` hold.
    share
        Weight of the teacher's word against the label, where there is one; 0 to 1.

    Returns
    -------
    Masses
        Shapes (n_windows of all tracks, n_genres) and (…, n_tags), as the teacher's taxonomy has them.

    Raises
    ------
    TrainingError
        Features are not finite, or not alike in shape.
    """
    require_sound(tracks)
    said = ensemble_word(teacher, tracks.log_mels, device=device, by_window=True)
    soft = Masses(said.genre_probabilities, said.tag_probabilities, 1.0 - said.tag_probabilities)
    labels = labels_of(tracks, teacher.taxonomy)
    windows = np.repeat(np.arange(len(tracks)), [len(log_mel) for log_mel in tracks.log_mels])
    hard = masses_of(labels, len(teacher.taxonomy.genres), config.class_weights).rows(windows)
    genre = np.where(labels.genre_known, share, 1.0).astype(np.float32)[windows, np.newaxis]
    tag = np.where(labels.tags_known, share, 1.0).astype(np.float32)[windows, np.newaxis]
    return Masses(
        genre * soft.genre + (1.0 - genre) * hard.genre,
        tag * soft.tag_positive + (1.0 - tag) * hard.tag_positive,
        tag * soft.tag_negative + (1.0 - tag) * hard.tag_negative,
    )


def ensemble_word(
    bundle: BundleContents, log_mels: list[LogMel], *, device: str = "cpu", by_window: bool = False
) -> EnsembleOutputs:
    """Return what a bundle's ensemble says of tracks, a row each, or of each of their windows."""
    hear = window_outputs if by_window else member_outputs
    members = [build_member(member, bundle.features, bundle.taxonomy, device) for member in bundle.members]
    outputs: list[TrackOutputs] = [hear(member, log_mels, device=device) for member in members]
    return combine(outputs, [member.calibration for member in bundle.members], bundle.decision.fusion)


def beside_teacher(student: BundleContents, teacher: Bundle, valid: FeatureSet) -> dict[str, Any]:
    """Return the teacher's own validation figures, and how near the student comes to its word.

    Returns
    -------
    dict
        `teacher`, as `metrics["ensemble"]`; `fidelity`: the share of tracks for which both name the same genre, and
        the mean distance of their tag probabilities.
    """
    learnt, said = (ensemble_word(one, valid.log_mels) for one in (student, teacher))
    labels = labels_of(valid, teacher.taxonomy)
    genres, tags = len(teacher.taxonomy.genres), len(teacher.taxonomy.tags)
    same = learnt.genre_probabilities.argmax(axis=1) == said.genre_probabilities.argmax(axis=1) if genres else None
    distance = np.abs(learnt.tag_probabilities - said.tag_probabilities) if tags else None
    return {
        "teacher": figures(said.genre_probabilities, said.tag_probabilities, labels),
        "fidelity": {
            "same_genre": None if same is None else float(same.mean()),
            "tag_distance": None if distance is None else float(distance.mean()),
        },
    }
