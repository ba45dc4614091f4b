"""From fitted members to a bundle's contents: temperatures and figures on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mgc.config import Config, FeatureConfig
from mgc.data.shards import FeatureSet
from mgc.models.bundle import BundleContents, Member, build_member
from mgc.models.calibration import Calibration
from mgc.models.ensemble import combine
from mgc.models.forward import FloatArray, TrackOutputs, member_outputs
from mgc.taxonomy import Taxonomy
from mgc.training.calibrate import fit_calibration
from mgc.training.labels import Labels, labels_of
from mgc.training.metrics import genre_accuracy, genre_log_loss, genre_macro_f1, tag_macro_average_precision
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
    """Return a bundle's contents: each member at its temperature, with validation figures.

    Parameters
    ----------
    weights
        Of each member, as `FitResult.best_weights`.
    valid
        Where it is None, empty or without labels, temperatures stay 1 and there are no figures.
    features
        What the members were trained on.
    facts
        What is known of the training data; JSON-ready.
    """
    models = config.member_models()
    members = [Member(model, tensors, Calibration()) for model, tensors in zip(models, weights, strict=True)]
    metrics: dict[str, Any] = {}
    labels = labels_of(valid, taxonomy) if valid else None
    if valid and labels is not None and labels.useful().any():
        outputs = [
            member_outputs(build_member(member, features, taxonomy, device), valid.log_mels, device=device)
            for member in members
        ]
        calibrations = [fit_calibration(output, labels) for output in outputs]
        members = [
            replace(member, calibration=calibration)
            for member, calibration in zip(members, calibrations, strict=True)
        ]
        metrics = _metrics(outputs, calibrations, labels)
    return BundleContents(tuple(members), features, taxonomy, config.training, metrics, facts)


def _metrics(outputs: list[TrackOutputs], calibrations: list[Calibration], labels: Labels) -> dict[str, Any]:
    whole = combine(outputs, calibrations)
    alone = [combine([output], [calibration]) for output, calibration in zip(outputs, calibrations, strict=True)]
    return {
        "ensemble": figures(whole.genre_probabilities, whole.tag_probabilities, labels),
        "members": [figures(member.genre_probabilities, member.tag_probabilities, labels) for member in alone],
    }


def figures(genre_probabilities: FloatArray, tag_probabilities: npt.NDArray[np.float32], labels: Labels) -> Figures:
    """Return the figures of one member or of the whole; None where no label is known."""
    return {
        "genre_accuracy": genre_accuracy(genre_probabilities, labels),
        "genre_macro_f1": genre_macro_f1(genre_probabilities, labels),
        "genre_log_loss": genre_log_loss(genre_probabilities, labels),
        "tag_macro_average_precision": tag_macro_average_precision(tag_probabilities, labels),
    }
