"""One run of an experiment: train a system on one side of a fold, predict the other. No Ray in here.

Every network runs all its epochs and keeps its last weights (or their moving average): to stop at the epoch that
does best on the held-out tracks is to have chosen by them. They are only watched, for the learning curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from mgc.arrays import Float32Array, Float64Array
from mgc.config import EvaluationConfig, FitConfig, ModelConfig
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import CLEAN
from mgc.curation.similarity_score import score_similarity
from mgc.errors import SplitError
from mgc.evaluation.answers import genre_indices
from mgc.models.ensemble import Fusion, TemperatureScaling, combine, unit_length
from mgc.models.forward import TrackOutputs, mean_by_track, member_outputs, outputs_by_track, window_outputs
from mgc.models.network_registry import count_parameters
from mgc.models.published_weights import start_model
from mgc.studies.classical import RowProbabilities, Rows, fit_and_answer, statistics_rows, stored_rows
from mgc.studies.experiment_data import FoldFeatures, Material, folds_of, read_fold
from mgc.studies.experiment_settings import SystemSettings
from mgc.studies.runs import ExperimentRun, RunResult, SystemPredictions, code_fingerprint
from mgc.tables.feature_export import FACTS, read_statistics
from mgc.tables.feature_shards import COLUMNS, FeatureSet
from mgc.training.batches import draw_order
from mgc.training.cached_statistics import adapted_norms
from mgc.training.calibrate import fit_calibration, fit_fusion, group_folds
from mgc.training.loop import EpochReport, fit
from mgc.training.losses import encode_labels

DIGITS = 5
"""Decimal places of a probability in a run's file."""
MEMBER_STEP = 1_000
"""Between the seeds of an ensemble's members, as in `mgc train`."""

NEIGHBOURS = 5
"""Nearest tracks that a recommendation is scored by."""

OnEpoch = Callable[[int, int], None]
"""Called with epochs done and epochs in all."""


def run_system(
    run: ExperimentRun, material: Material, on_epoch: OnEpoch = lambda done, total: None, device: str = "cpu"
) -> RunResult:
    """Train and predict: the same arguments give the same result.

    Parameters
    ----------
    on_epoch
        Called with epochs done and in all, of a network's training.

    Raises
    ------
    SplitError, TrainingError, SchemaError
        The tracks cannot be split so, the network not trained, or a view is not in the shards.
    """
    fold = folds_of(run.protocol, material, run.seed)[run.fold]
    sides = read_fold(fold, material, run.system.views, run.augment)
    output = _RunOutput(material, sides)
    if run.system.kind == "network":
        _run_network(run, output, on_epoch, device)
    else:
        _run_classical(run, output)
    return RunResult(
        key=run.key,
        code=code_fingerprint(),
        system=run.system.name,
        protocol=run.protocol.name,
        fold=run.fold,
        seed=run.seed,
        tracks=list(sides.held_out.track_ids),
        windows=output.counts.tolist(),
        answers=output.answers,
        facts=output.facts,
        curves=output.curves,
    )


class _RunOutput:
    """What a run has gathered so far."""

    def __init__(self, material: Material, sides: FoldFeatures) -> None:
        self.material, self.sides = material, sides
        self.taxonomy = material.taxonomy
        self.counts = np.array([len(own) for own in sides.held_out.log_mels], dtype=np.int64)
        self.answers: dict[str, SystemPredictions] = {}
        self.curves: list[list[dict[str, Any]]] = []
        self.facts: dict[str, Any] = {
            "train_tracks": len(set(sides.train.track_ids)),
            "train_windows": sum(len(own) for own in sides.train.log_mels),
            "held_out_tracks": len(sides.held_out),
            "held_out_windows": int(self.counts.sum()),
            "audio_seconds": float(self.counts.sum() * material.seconds_a_window),
            "groups_across": sides.groups_across,
            "tracks_across": len(set(sides.train.track_ids) & set(sides.held_out.track_ids)),
        }

    def answer(
        self, head: str, genre: Float64Array, tags: Float64Array, windows: npt.NDArray[np.floating[Any]], counts: Any
    ) -> None:
        """Take in a system's probabilities of tracks, and of the windows (or rows) they are the mean of."""
        true = genre_indices(self.sides.held_out.genres, self.taxonomy.genres)
        right = (
            windows.argmax(axis=1) == np.repeat(true, counts) if windows.shape[1] else np.zeros(len(windows), bool)
        )
        ends = np.cumsum(counts)
        by_track = [int(right[end - count : end].sum()) for end, count in zip(ends, counts, strict=True)]
        self.answers[head] = SystemPredictions(_rounded(genre), _rounded(tags), by_track)


def _rounded(probabilities: Float64Array) -> list[list[float]]:
    rows: list[list[float]] = probabilities.round(DIGITS).tolist()
    return rows


def _run_network(run: ExperimentRun, output: _RunOutput, on_epoch: OnEpoch, device: str) -> None:
    train, held_out = output.sides.train, output.sides.held_out
    fitted = fit_network(run.system, train, held_out, output.taxonomy, run.seed, device, on_epoch)
    # Processor time: a busy machine makes a run seven times as long, and its network no slower.
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    predicted = fitted.predict(held_out)
    output.facts |= {
        "parameters": fitted.parameters,
        "train_seconds": fitted.seconds,
        "answer_cpu_seconds" if device == "cpu" else "answer_seconds": clock() - started,
        "epochs": max(len(curve) for curve in fitted.curves),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    output.facts |= _balance(run.system, train, output.taxonomy) | _neighbours(held_out, predicted.embeddings)
    output.curves = fitted.curves
    output.answer(
        "",
        predicted.genre.astype(np.float64),
        predicted.tags.astype(np.float64),
        predicted.window_genre,
        output.counts,
    )
    for head in run.system.heads:
        _run_head(run, output, fitted, head)


def _balance(system: SystemSettings, train: FeatureSet, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the training windows of each genre: as they are, and as an epoch of the first member draws them."""
    counts = [len(own) for own in train.log_mels]
    genres, clean = genre_indices(train.genres, taxonomy.genres), np.array(train.views) == CLEAN
    every = np.repeat(genres, counts)
    drawn = every[draw_order(np.random.default_rng(0), every, system.fit_of(0).sampling)]
    sides = {"windows_by_genre": np.repeat(genres[clean], np.array(counts)[clean]), "drawn_by_genre": drawn}
    return {
        name: np.bincount(some[some >= 0], minlength=len(taxonomy.genres)).tolist() for name, some in sides.items()
    }


def _neighbours(held_out: FeatureSet, embeddings: Float32Array) -> dict[str, float | None]:
    """Return the share of each held-out track's nearest others that has its genre (Zhang's recommendation)."""
    tracks = pl.DataFrame(
        {name: list(getattr(held_out, column)) for name, column in COLUMNS.items() if name != "view"},
        schema_overrides={"genre": pl.String, "tags": pl.List(pl.String)},
    )
    try:
        score = score_similarity(tracks, embeddings, NEIGHBOURS, EvaluationConfig(bootstrap_samples=10), held_out)
    except SplitError:  # too few tracks of other groups
        return {}
    genre = score.genre
    return {
        "neighbours_right": genre.embedding.value,
        "neighbours_right_mfcc": genre.mfcc.value,
        "neighbours_right_chance": genre.chance.value,
    }


def _run_head(run: ExperimentRun, output: _RunOutput, fitted: Fitted, head: Any) -> None:
    """Fit a classifier on the embeddings that the trained network has of the training tracks."""
    started = time.perf_counter()
    rows = [_embedded(fitted, side, output.material) for side in (output.sides.train, output.sides.held_out)]
    _record(head, fit_and_answer(head, run.system, rows[0], rows[1], output.taxonomy, run.seed), rows[1], output)
    output.facts[f"{head}_seconds"] = time.perf_counter() - started


def _embedded(fitted: Fitted, side: Any, material: Material) -> Rows:
    if material.segment_seconds is None:
        embeddings = fitted.predict(side).embeddings.astype(np.float64)
        return Rows(embeddings, np.ones(len(side), dtype=np.int64), side)
    counts = np.array([len(own) for own in side.log_mels], dtype=np.int64)
    return Rows(fitted.window_embeddings(side).astype(np.float64), counts, side)


def _run_classical(run: ExperimentRun, output: _RunOutput) -> None:
    material, sides = output.material, (output.sides.train, output.sides.held_out)
    started = time.perf_counter()
    if run.system.statistics == "shards":
        stored = read_statistics(material.features_uri, material.catalogue).drop(*FACTS.keys() - {"track_id"})
        train, held_out = (stored_rows(side, stored) for side in sides)
    else:
        train, held_out = (statistics_rows(side, material.segment_seconds is not None) for side in sides)
    head: Any = run.system.kind
    probabilities = fit_and_answer(head, run.system, train, held_out, output.taxonomy, run.seed)
    output.facts |= {"train_seconds": time.perf_counter() - started, **probabilities.facts}
    _record("", probabilities, held_out, output)


def _record(head: str, probabilities: RowProbabilities, held_out: Rows, output: _RunOutput) -> None:
    genre, tags = (
        mean_by_track(part.astype(np.float32), held_out.counts) for part in (probabilities.genre, probabilities.tags)
    )
    whole_tracks = bool((held_out.counts == 1).all())
    # A row a track stands for all its windows: there is no answer of a window to count.
    counts = output.counts if whole_tracks else held_out.counts
    windows = np.repeat(probabilities.genre, output.counts, axis=0) if whole_tracks else probabilities.genre
    output.answer(head, genre.astype(np.float64), tags.astype(np.float64), windows, counts)


# Networks: fitted members and their predictions.


@dataclass(frozen=True)
class NetworkPredictions:
    """Predictions of a network or an ensemble; windows of a track stand next to each other; float32.

    Parameters
    ----------
    genre, tags
        Probabilities of each track, shape (n_tracks, …), and `window_genre` of each window.
    embeddings
        Of each track, of length 1.
    """

    genre: Float32Array
    tags: Float32Array
    window_genre: Float32Array
    embeddings: Float32Array


@dataclass(frozen=True)
class Fitted:
    """The members of a system after training.

    Parameters
    ----------
    members
        On their device, in evaluation mode.
    curves
        Epochs of each.
    calibrations, fusion
        Temperatures of each, and how their predictions are joined.
    """

    members: list[nn.Module]
    device: str
    curves: list[list[dict[str, Any]]]
    seconds: float
    calibrations: list[TemperatureScaling]
    fusion: Fusion

    @property
    def parameters(self) -> int:
        """Numbers that training may change, over all members."""
        return sum(count_parameters(member) for member in self.members)

    def predict(self, tracks: FeatureSet) -> NetworkPredictions:
        """Return the members' joined prediction."""
        by_window = [window_outputs(member, tracks.log_mels, device=self.device) for member in self.members]
        by_track = [outputs_by_track(one, tracks.log_mels) for one in by_window]
        whole = combine(by_track, self.calibrations, self.fusion)
        windows = combine(by_window, self.calibrations, self.fusion).genre_probabilities
        return NetworkPredictions(whole.genre_probabilities, whole.tag_probabilities, windows, whole.embeddings)

    def window_embeddings(self, tracks: FeatureSet) -> Float32Array:
        """Return the embedding of each window, of length 1, those of the members side by side."""
        by_window: list[TrackOutputs] = [
            window_outputs(member, tracks.log_mels, device=self.device) for member in self.members
        ]
        return unit_length(np.concatenate([unit_length(one.embeddings) for one in by_window], axis=1))


def fit_network(
    system: SystemSettings,
    train: FeatureSet,
    held_out: FeatureSet,
    taxonomy: Taxonomy,
    seed: int,
    device: str,
    on_epoch: OnEpoch,
) -> Fitted:
    """Fit a system's members one after the other.

    Raises
    ------
    TrainingError
        No track has a label, features are not finite, or the loss ceases to be.
    """
    started = time.perf_counter()
    models = system.models
    train, judged_by = _parted(train) if system.fits_fusion else (train, None)
    fits = [system.fit_of(member) for member in range(len(models))]
    total = system.epochs
    done = 0

    def count_epoch() -> None:
        nonlocal done
        done += 1
        on_epoch(done, total)

    members, curves = [], []
    for member, (config, how) in enumerate(zip(models, fits, strict=True)):
        own_seed = seed + MEMBER_STEP * member
        network, reports = _fit_one(config, train, held_out, taxonomy, how, own_seed, device, count_epoch)
        members.append(network)
        curves.append([asdict(report) for report in reports])
    calibrations, fusion = [TemperatureScaling()] * len(members), Fusion("vote" if system.votes else "mean")
    if judged_by:
        calibrations, fusion = _fusion(system, members, judged_by, taxonomy, device)
    return Fitted(members, device, curves, time.perf_counter() - started, calibrations, fusion)


def _parted(train: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Return what members are fitted on, and a fifth of the groups, clean, for weights that they did not see."""
    fold, clean = group_folds(train.groups), np.array(train.views) == CLEAN
    if fold.max() == 0:
        raise SplitError(
            "members' weights are fitted on a fifth of the training groups, and there is one group alone",
            "set training.fusion to mean",
        )
    return train.at(np.flatnonzero(fold > 0).tolist()), train.at(np.flatnonzero((fold == 0) & clean).tolist())


def _fusion(
    system: SystemSettings, members: list[nn.Module], tracks: FeatureSet, taxonomy: Taxonomy, device: str
) -> tuple[list[TemperatureScaling], Fusion]:
    outputs = [member_outputs(member, tracks.log_mels, device=device) for member in members]
    labels, fused = encode_labels(tracks, taxonomy), system.training.temperature == "fused"
    calibrations = [TemperatureScaling() if fused else fit_calibration(one, labels) for one in outputs]
    return calibrations, fit_fusion(outputs, calibrations, labels, system.training.fusion, fused)


def _fit_one(
    config: ModelConfig,
    train: FeatureSet,
    held_out: FeatureSet,
    taxonomy: Taxonomy,
    training: FitConfig,
    seed: int,
    device: str,
    count_epoch: Callable[[], None],
) -> tuple[nn.Module, list[EpochReport]]:
    torch.manual_seed(seed)
    model = start_model(config, train.features, taxonomy, norms=adapted_norms(config, train))
    fitted = fit(
        model,
        train,
        held_out,
        taxonomy,
        training,
        seed=seed,
        device=device,
        on_epoch=lambda report, state: count_epoch(),
    )
    model.load_state_dict(fitted.state.average or fitted.state.weights)
    return model.eval(), fitted.reports
