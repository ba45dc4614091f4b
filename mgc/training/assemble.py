"""From fitted members to a bundle's contents: calibration and figures on the validation split; distillation.

Distillation (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network"): a student learns from the
teacher ensemble's calibrated probabilities for each window. The losses are linear in the label weights, so soft
labels are weights like any other, and a track without a label counts as much as one that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from torch import nn

from mgc.arrays import Float32Array
from mgc.config import Config, FeatureConfig, FitConfig
from mgc.config.taxonomy import Taxonomy
from mgc.evaluation.metrics import (
    genre_accuracy,
    genre_calibration_error,
    genre_log_loss,
    genre_macro_f1,
    tag_macro_average_precision,
)
from mgc.models.bundle import Bundle, BundleContents, Member, build_member
from mgc.models.ensemble import Decision, EnsembleOutputs, Method, TemperatureScaling, combine
from mgc.models.forward import TRACKS_AT_ONCE, LogMel, TrackOutputs, member_outputs, window_outputs
from mgc.models.published_weights import without_published_path
from mgc.tables.feature_cache import spilled
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import require_sound
from mgc.training.calibrate import fit_abstention, fit_calibration, fit_fusion, fit_tag_thresholds, group_folds
from mgc.training.losses import LabelArrays, LabelWeights, encode_labels, genre_weights, mix
from mgc.training.state import Tensors

Figures = dict[str, float | None]


def assemble(
    weights: Sequence[Tensors],
    valid: FeatureSet | None,
    taxonomy: Taxonomy,
    config: Config,
    features: FeatureConfig,
    facts: dict[str, Any],
    device: str = "cpu",
) -> BundleContents:
    """Return a bundle's contents: members at their temperatures, how they decide, and validation figures.

    Parameters
    ----------
    weights
        Of each member, as `FitResult.best_weights`.
    valid
        Where it is None, empty or without labels, nothing is fitted and there are no figures.
    features
        What the members were trained on.
    facts
        What is known of the training data; JSON-ready.
    """
    models = [without_published_path(model) for model in config.member_models()]
    members = [Member(model, tensors, TemperatureScaling()) for model, tensors in zip(models, weights, strict=True)]
    contents = BundleContents(tuple(members), features, taxonomy, config.training, {}, facts)
    labels = encode_labels(valid, taxonomy) if valid else None
    if not valid or labels is None or not labels.useful().any():
        return contents
    outputs = [
        member_outputs(build_member(member, features, taxonomy, device), valid.log_mels, device=device)
        for member in members
    ]
    return _decided(contents, outputs, labels, valid.groups)


def _decided(
    contents: BundleContents, outputs: list[TrackOutputs], labels: LabelArrays, groups: Sequence[str]
) -> BundleContents:
    """Return the contents with all that is fitted on validation tracks, and with the figures there."""
    training = contents.training
    fused = training.temperature == "fused"
    calibrations = [TemperatureScaling() if fused else fit_calibration(output, labels) for output in outputs]
    fusion = fit_fusion(outputs, calibrations, labels, training.fusion, fused)
    whole = combine(outputs, calibrations, fusion)
    precision = training.abstain_precision
    decision = Decision(
        fusion,
        fit_tag_thresholds(whole, labels),
        0.0 if precision is None else fit_abstention(whole, labels, precision),
        precision,
    )
    alone = [combine([output], [calibration]) for output, calibration in zip(outputs, calibrations, strict=True)]
    metrics = {
        "ensemble": figures(whole.genre_probabilities, whole.tag_probabilities, labels),
        "members": [figures(member.genre_probabilities, member.tag_probabilities, labels) for member in alone],
        "fusion": compare_fusions(outputs, labels, groups, fused),
        "abstention": abstention_figures(whole, labels, decision.abstain_below),
    }
    members = [
        replace(member, calibration=calibration)
        for member, calibration in zip(contents.members, calibrations, strict=True)
    ]
    return replace(contents, members=tuple(members), decision=decision, metrics=metrics)


def compare_fusions(
    outputs: Sequence[TrackOutputs], labels: LabelArrays, groups: Sequence[str], fused_temperature: bool
) -> dict[str, Figures]:
    """Return the figures of each way to join members, fitted on four fifths of the groups and scored on the last.

    Unlike the ensemble's own figures these do not come from tracks that temperatures and weights were fitted on.
    """
    fold = group_folds(groups)
    found: dict[str, Figures] = {}
    for method in get_args(Method) if len(outputs) > 1 else ("mean",):
        genre = np.zeros_like(outputs[0].genre_logits)
        tag = np.zeros_like(outputs[0].tag_logits)
        for rest in np.unique(fold):
            fit, held_out = np.flatnonzero(fold != rest), np.flatnonzero(fold == rest)
            learned = [_rows(output, fit) for output in outputs]
            known = labels.rows(fit)
            calibrations = [
                TemperatureScaling() if fused_temperature else fit_calibration(one, known) for one in learned
            ]
            fusion = fit_fusion(learned, calibrations, known, method, fused_temperature)
            answers = combine([_rows(output, held_out) for output in outputs], calibrations, fusion)
            genre[held_out], tag[held_out] = answers.genre_probabilities, answers.tag_probabilities
        found[method] = figures(genre, tag, labels)
    return found


def _rows(output: TrackOutputs, rows: npt.NDArray[np.intp]) -> TrackOutputs:
    return TrackOutputs(output.genre_logits[rows], output.tag_logits[rows], output.embeddings[rows])


def abstention_figures(outputs: EnsembleOutputs, labels: LabelArrays, abstain_below: float) -> Figures:
    """Return the share of tracks answered, and the share of those that is right; None where there are none."""
    probabilities = outputs.genre_probabilities[labels.genre_known]
    if not probabilities.size:
        return {"coverage": None, "accuracy_of_answered": None}
    answered = probabilities.max(axis=1) >= abstain_below
    right = probabilities.argmax(axis=1) == labels.genres[labels.genre_known]
    accuracy = float(right[answered].mean()) if answered.any() else None
    return {"coverage": float(answered.mean()), "accuracy_of_answered": accuracy}


def figures(
    genre_probabilities: Float32Array, tag_probabilities: npt.NDArray[np.float32], labels: LabelArrays
) -> Figures:
    """Return the figures of one member or of the ensemble; None where no label is known."""
    return {
        "genre_accuracy": genre_accuracy(genre_probabilities, labels.genres),
        "genre_macro_f1": genre_macro_f1(genre_probabilities, labels.genres),
        "genre_log_loss": genre_log_loss(genre_probabilities, labels.genres),
        "genre_calibration_error": genre_calibration_error(genre_probabilities, labels.genres),
        "tag_macro_average_precision": tag_macro_average_precision(tag_probabilities, labels.tags, labels.tags_known),
    }


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
    n_genres, n_tags = len(teacher.taxonomy.genres), len(teacher.taxonomy.tags)
    labels = encode_labels(tracks, teacher.taxonomy)
    by_genre = genre_weights(labels.genres[labels.genre_known & config.class_weights], n_genres)
    networks = _networks(teacher, device)

    def weights(start: int) -> Float32Array:
        chosen = slice(start, start + TRACKS_AT_ONCE)
        log_mels, known = tracks.log_mels[chosen], labels.rows(np.arange(len(tracks))[chosen])
        outputs = ensemble_predictions(teacher, log_mels, device=device, by_window=True, networks=networks)
        tags = outputs.tag_probabilities
        soft = LabelWeights(outputs.genre_probabilities, tags, 1.0 - tags)
        windows = np.repeat(np.arange(len(log_mels)), [len(log_mel) for log_mel in log_mels])
        genre_part, tag_part = (
            np.where(part, share, 1.0).astype(np.float32)[windows, np.newaxis]
            for part in (known.genre_known, known.tags_known)
        )
        mixed = mix(soft, known.weighted(by_genre).rows(windows), genre_part, tag_part)
        return np.concatenate([mixed.genre, mixed.tag_positive, mixed.tag_negative], axis=1)

    rows = spilled(map(weights, range(0, len(tracks), TRACKS_AT_ONCE)), (n_genres + 2 * n_tags,))
    return LabelWeights(*np.split(rows, [n_genres, n_genres + n_tags], axis=1))


def ensemble_predictions(
    bundle: BundleContents,
    log_mels: Sequence[LogMel],
    *,
    device: str = "cpu",
    by_window: bool = False,
    networks: Sequence[nn.Module] | None = None,
) -> EnsembleOutputs:
    """Return the answers of a bundle's ensemble for tracks, a row each, or for each of their windows.

    `networks` are the members, where they are built already.
    """
    forward_pass = window_outputs if by_window else member_outputs
    members = networks or _networks(bundle, device)
    outputs: list[TrackOutputs] = [forward_pass(member, log_mels, device=device) for member in members]
    return combine(outputs, [member.calibration for member in bundle.members], bundle.decision.fusion)


def _networks(bundle: BundleContents, device: str) -> list[nn.Module]:
    return [build_member(member, bundle.features, bundle.taxonomy, device) for member in bundle.members]


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
    fidelity: Figures = {"same_genre": None, "tag_distance": None}
    if teacher.taxonomy.genres:
        predicted, expected = (one.genre_probabilities.argmax(axis=1) for one in (student_outputs, teacher_outputs))
        fidelity["same_genre"] = float((predicted == expected).mean())
    if teacher.taxonomy.tags:
        distance = np.abs(student_outputs.tag_probabilities - teacher_outputs.tag_probabilities)
        fidelity["tag_distance"] = float(distance.mean())
    teacher_figures = figures(teacher_outputs.genre_probabilities, teacher_outputs.tag_probabilities, labels)
    return {"teacher": teacher_figures, "fidelity": fidelity}
