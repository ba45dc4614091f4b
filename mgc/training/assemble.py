"""From fitted members to a bundle's contents: calibration and figures on the validation split; distillation.

Distillation (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network"): a student learns from the
teacher ensemble's calibrated probabilities for each window. The losses are linear in the label weights, so soft
labels are weights like any other, and a track without a label counts as much as one that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from torch import nn

from mgc.arrays import BoolArray, Float32Array, IntArray
from mgc.config import Config, FeatureConfig, FitConfig, ModelConfig, TrainingConfig
from mgc.config.network_settings import TransferConfig
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
from mgc.models.forward import TRACKS_AT_ONCE, LogMel, TrackOutputs, joined_outputs, member_outputs, window_outputs
from mgc.models.published_weights import without_published_path
from mgc.tables.feature_cache import spilled
from mgc.tables.feature_shards import FeatureSet
from mgc.training.batches import require_sound
from mgc.training.cached_statistics import reading
from mgc.training.calibrate import fit_calibration, fit_fusion, group_folds
from mgc.training.losses import LabelArrays, LabelWeights, encode_labels, genre_weights, mix
from mgc.training.promise import Judged, Promise, TagPromise, promise_precision, promise_tags
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
    *,
    folds: Sequence[FoldPredictions] = (),
    exclusive: tuple[tuple[int, ...], ...] = (),
) -> BundleContents:
    """Return a bundle's contents: members at their temperatures, how they decide, and figures.

    Parameters
    ----------
    weights
        Of each member, as `FitResult.best_weights`.
    valid
        Where it is None, empty or without labels, and folds decide nothing, nothing is fitted and there are no
        figures.
    features
        What the members were trained on.
    facts
        What is known of the training data; JSON-ready.
    folds
        Predictions to promise on; none: those of the part of `valid` that stopped no training. Where members learn
        from `valid`, too, all that is fitted is fitted on them.
    exclusive
        Groups of tags of which at most one is listed.
    """
    models = [without_published_path(model) for model in config.member_models()]
    members = [Member(model, tensors, TemperatureScaling()) for model, tensors in zip(models, weights, strict=True)]
    contents = BundleContents(tuple(members), features, taxonomy, config.training, {}, facts)
    if config.training.learns_valid:
        return _decided_by_folds(contents, folds, exclusive)
    labels = encode_labels(valid, taxonomy) if valid else None
    if not valid or labels is None or not labels.useful().any():
        return contents
    outputs = [
        member_outputs(build_member(member, features, taxonomy, device), valid.log_mels, device=device)
        for member in members
    ]
    held_out = (
        held_out_folds(folds, config.training)
        if folds
        else held_out_part(outputs, labels, valid.groups, config.training)
    )
    return _decided(contents, outputs, labels, valid.groups, held_out, exclusive)


def _decided_by_folds(
    contents: BundleContents, folds: Sequence[FoldPredictions], exclusive: tuple[tuple[int, ...], ...]
) -> BundleContents:
    """Return the contents with all that is fitted on tracks of folds, and the figures there."""
    if not folds or not any(one.labels.useful().any() for one in folds):
        return contents
    labels, groups = join_labels([one.labels for one in folds]), [group for one in folds for group in one.groups]
    outputs = [joined_outputs(outputs) for outputs in zip(*(one.outputs for one in folds), strict=True)]
    genre, tag = _cross_fitted(
        outputs, labels, groups, contents.training.fusion, contents.training.temperature == "fused"
    )
    what = folds_text(contents.training)
    held_out = HeldOut(genre, tag, labels, groups, f"{what}, joined and calibrated by the others")
    found = _decided(contents, outputs, labels, groups, held_out, exclusive)
    return replace(found, metrics={**found.metrics, "on": what, "ensemble": figures(genre, tag, labels)})


def folds_text(training: TrainingConfig) -> str:
    """Return what the folds are, in a few words."""
    return f"{training.promise_folds} folds of train and valid, groups apart"


def join_labels(parts: Sequence[LabelArrays]) -> LabelArrays:
    """Return the labels of several sets of tracks as one."""
    names = ("genres", "tags", "tags_known")
    return LabelArrays(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))


@dataclass(frozen=True)
class HeldOut:
    """Predictions that decided nothing: what precision is promised on.

    Parameters
    ----------
    genre_probabilities, tag_probabilities
        Shape (n_tracks, n_genres) and (n_tracks, n_tags).
    groups
        Of each track.
    source
        Where they are from, in a few words.
    """

    genre_probabilities: Float32Array
    tag_probabilities: Float32Array
    labels: LabelArrays
    groups: Sequence[str]
    source: str

    @property
    def group_index(self) -> IntArray:
        """Index of each track's group; one without a group is one of its own."""
        names = [group or f"\0{place}" for place, group in enumerate(self.groups)]
        return np.unique(np.array(names, dtype=object), return_inverse=True)[1].astype(np.int64)


def stops_training(groups: Sequence[str], training: TrainingConfig) -> BoolArray:
    """Return which validation tracks may decide an epoch, shape (n_tracks,): of the others precision is promised."""
    if training.promise_folds or (training.abstain_precision is None and training.tag_precision is None):
        return np.ones(len(groups), dtype=bool)
    return np.asarray((group_folds(groups, 2) == 0) & training.stops_early)


def held_out_part(
    outputs: list[TrackOutputs], labels: LabelArrays, groups: Sequence[str], training: TrainingConfig
) -> HeldOut:
    """Return the ensemble's predictions of validation tracks that stopped no training, joined by others' weights."""
    rows = np.flatnonzero(~stops_training(groups, training))
    genre, tag = _cross_fitted(outputs, labels, groups, training.fusion, training.temperature == "fused")
    what = "validation tracks that stopped no training, joined and calibrated by the others"
    return HeldOut(genre[rows], tag[rows], labels.rows(rows), [groups[row] for row in rows.tolist()], what)


@dataclass(frozen=True)
class FoldPredictions:
    """What members say that learnt from none of a fold's groups.

    Parameters
    ----------
    outputs
        Of each member, for the tracks of the fold.
    labels, groups
        Of these tracks.
    seen
        Outputs and labels of the tracks that stopped these members' training; None: there were none.
    """

    outputs: list[TrackOutputs]
    labels: LabelArrays
    groups: Sequence[str]
    seen: tuple[list[TrackOutputs], LabelArrays] | None = None


def predict_fold(
    models: Sequence[ModelConfig],
    weights: Sequence[Tensors],
    seen: Sequence[FeatureSet] | None,
    held: Sequence[FeatureSet],
    taxonomy: Taxonomy,
    features: FeatureConfig,
) -> FoldPredictions:
    """Return what members say of the fold `held`, and of the one that stopped their training, `seen`.

    Parameters
    ----------
    seen, held
        For each member the tracks as it reads them: their log-mels, or statistics in their place.
    """
    members = [Member(model, tensors, TemperatureScaling()) for model, tensors in zip(models, weights, strict=True)]
    networks = [build_member(member, features, taxonomy) for member in members]

    def ask(sides: Sequence[FeatureSet]) -> tuple[list[TrackOutputs], LabelArrays]:
        read = zip(networks, sides, strict=True)
        outputs = [member_outputs(reading(network, tracks), tracks.log_mels) for network, tracks in read]
        return outputs, encode_labels(sides[0], taxonomy)

    return FoldPredictions(*ask(held), held[0].groups, ask(seen) if seen else None)


def held_out_folds(folds: Sequence[FoldPredictions], training: TrainingConfig) -> HeldOut:
    """Return the ensemble's predictions of all folds, each joined by weights of the one that stopped training."""
    answers = [
        fuse(*one.seen, one.outputs, training.fusion, training.temperature == "fused") for one in folds if one.seen
    ]
    genre, tag = (
        np.concatenate([getattr(one, name) for one in answers])
        for name in ("genre_probabilities", "tag_probabilities")
    )
    labels = join_labels([one.labels for one in folds])
    return HeldOut(genre, tag, labels, [group for one in folds for group in one.groups], folds_text(training))


def _promise_genres(held_out: HeldOut, target: float) -> Promise:
    known = held_out.labels.genre_known
    probabilities, truth = held_out.genre_probabilities[known], held_out.labels.genres[known]
    confidence = probabilities.max(axis=1, initial=0.0).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth if probabilities.shape[1] else np.zeros(len(truth), dtype=bool)
    return promise_precision(Judged(confidence, right, held_out.group_index[known]), target)


def _promise_tags(held_out: HeldOut, exclusive: Sequence[Sequence[int]], target: float) -> TagPromise:
    known = np.flatnonzero(held_out.labels.tags_known)
    folds = group_folds([held_out.groups[row] for row in known.tolist()]) if len(known) else known
    probabilities = held_out.tag_probabilities[known].astype(np.float64)
    truth, groups = held_out.labels.tags[known] > 0, held_out.group_index[known]
    return promise_tags(probabilities, truth, groups, folds, exclusive, target)


def _decided(
    contents: BundleContents,
    outputs: list[TrackOutputs],
    labels: LabelArrays,
    groups: Sequence[str],
    held_out: HeldOut,
    exclusive: tuple[tuple[int, ...], ...],
) -> BundleContents:
    """Return the contents with all that is fitted on validation tracks, and with the figures there."""
    training = contents.training
    fused = training.temperature == "fused"
    calibrations = [TemperatureScaling() if fused else fit_calibration(output, labels) for output in outputs]
    fusion = fit_fusion(outputs, calibrations, labels, training.fusion, fused)
    whole = combine(outputs, calibrations, fusion)
    genre = tags = None
    if training.abstain_precision is not None and labels.genre_known.any():
        genre = _promise_genres(held_out, training.abstain_precision)
    if training.tag_precision is not None and labels.tags.shape[1]:
        tags = _promise_tags(held_out, exclusive, training.tag_precision)
    decision = Decision(
        fusion,
        tuple(map(float, tags.thresholds)) if tags else (),
        genre.below if genre else 0.0,
        genre.precision if genre else None,
        exclusive,
    )
    alone = [combine([output], [calibration]) for output, calibration in zip(outputs, calibrations, strict=True)]
    metrics = {
        "ensemble": figures(whole.genre_probabilities, whole.tag_probabilities, labels),
        "members": [figures(member.genre_probabilities, member.tag_probabilities, labels) for member in alone],
        "fusion": compare_fusions(outputs, labels, groups, fused),
        **_without_published(contents, outputs, labels, groups),
        "promise": {
            "on": held_out.source,
            "genre": genre and genre.to_json(),
            "tags": tags and tags.promise.to_json(),
        },
    }
    members = [
        replace(member, calibration=calibration)
        for member, calibration in zip(contents.members, calibrations, strict=True)
    ]
    return replace(contents, members=tuple(members), decision=decision, metrics=metrics)


def _without_published(
    contents: BundleContents, outputs: Sequence[TrackOutputs], labels: LabelArrays, groups: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of the members that build on no published weights, where there are such and others."""
    training = contents.training
    own = [
        output
        for output, member in zip(outputs, contents.members, strict=True)
        if not isinstance(member.config, TransferConfig)
    ]
    if not own or len(own) == len(outputs):
        return {}
    found = figures(*_cross_fitted(own, labels, groups, training.fusion, training.temperature == "fused"), labels)
    return {"without_published": {"method": training.fusion, **found}}


def compare_fusions(
    outputs: Sequence[TrackOutputs], labels: LabelArrays, groups: Sequence[str], fused_temperature: bool
) -> dict[str, Figures]:
    """Return the figures of each way to join members, fitted on four fifths of the groups and scored on the last.

    Unlike the ensemble's own figures these do not come from tracks that temperatures and weights were fitted on.
    """
    methods = get_args(Method) if len(outputs) > 1 else ("mean",)
    return {
        method: figures(*_cross_fitted(outputs, labels, groups, method, fused_temperature), labels)
        for method in methods
    }


def _cross_fitted(
    outputs: Sequence[TrackOutputs], labels: LabelArrays, groups: Sequence[str], method: Method, fused: bool
) -> tuple[Float32Array, Float32Array]:
    """Return the genre and tag probabilities of each track, by weights and temperatures fitted on other groups."""
    genre, tag = np.zeros_like(outputs[0].genre_logits), np.zeros_like(outputs[0].tag_logits)
    fold = group_folds(groups)
    for rest in np.unique(fold):
        fit, others = np.flatnonzero(fold != rest), np.flatnonzero(fold == rest)
        learned = [_rows(output, fit) for output in outputs]
        answers = fuse(learned, labels.rows(fit), [_rows(output, others) for output in outputs], method, fused)
        genre[others], tag[others] = answers.genre_probabilities, answers.tag_probabilities
    return genre, tag


def fuse(
    learned: Sequence[TrackOutputs], known: LabelArrays, asked: Sequence[TrackOutputs], method: Method, fused: bool
) -> EnsembleOutputs:
    """Return the ensemble's answer for some tracks, with weights and temperatures fitted on others."""
    calibrations = [TemperatureScaling() if fused else fit_calibration(one, known) for one in learned]
    return combine(asked, calibrations, fit_fusion(learned, calibrations, known, method, fused))


def _rows(output: TrackOutputs, rows: npt.NDArray[np.intp]) -> TrackOutputs:
    return TrackOutputs(output.genre_logits[rows], output.tag_logits[rows], output.embeddings[rows])


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
