"""A cell as a plain function: a fold's one side is learnt, the other asked. No Ray in here."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mgc.arrays import Float64Array
from mgc.evaluation.answers import genre_indices
from mgc.models.forward import mean_by_track
from mgc.studies.classical import RowProbabilities, Rows, fit_and_answer, statistics_rows
from mgc.studies.runs import Cell, CellResult, SystemPredictions, code_fingerprint, rounded_rows
from mgc.studies.study_data import FoldFeatures, Material, folds_of, read_fold
from mgc.studies.systems import Fitted, OnEpoch, fit_network


def run_cell(
    cell: Cell, material: Material, on_epoch: OnEpoch = lambda done, total: None, device: str = "cpu"
) -> CellResult:
    """Run one cell: the same arguments give the same answers.

    Parameters
    ----------
    on_epoch
        Told epochs done and in all, of a network's training.

    Raises
    ------
    SplitError, TrainingError, SchemaError
        The tracks cannot be parted, the network not trained, a view is not in the shards.
    """
    fold = folds_of(cell.protocol, material, cell.seed)[cell.fold]
    sides = read_fold(fold, material, cell.system.views, cell.augment)
    output = _CellOutput(material, sides)
    if cell.system.kind == "network":
        _run_network(cell, output, on_epoch, device)
    else:
        _run_classical(cell, output)
    return CellResult(
        key=cell.key,
        code=code_fingerprint(),
        system=cell.system.name,
        protocol=cell.protocol.name,
        fold=cell.fold,
        seed=cell.seed,
        tracks=list(sides.held_out.track_ids),
        windows=output.counts.tolist(),
        answers=output.answers,
        facts=output.facts,
        curves=output.curves,
    )


class _CellOutput:
    """What a cell has gathered so far."""

    def __init__(self, material: Material, sides: FoldFeatures) -> None:
        self.material, self.sides = material, sides
        self.taxonomy = material.taxonomy
        self.counts = np.array([len(own) for own in sides.held_out.log_mels], dtype=np.int64)
        self.answers: dict[str, SystemPredictions] = {}
        self.curves: list[list[dict[str, Any]]] = []
        self.facts: dict[str, Any] = {
            "train_tracks": len(set(sides.train.track_ids)),
            "train_windows": sum(len(own) for own in sides.train.log_mels),
            "asked_tracks": len(sides.held_out),
            "asked_windows": int(self.counts.sum()),
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
        self.answers[head] = SystemPredictions(rounded_rows(genre), rounded_rows(tags), by_track)


def _run_network(cell: Cell, output: _CellOutput, on_epoch: OnEpoch, device: str) -> None:
    train, held_out = output.sides.train, output.sides.held_out
    fitted = fit_network(cell.system, train, held_out, output.taxonomy, cell.seed, device, on_epoch)
    started = time.perf_counter()
    predicted = fitted.predict(held_out)
    output.facts |= {
        "parameters": fitted.parameters,
        "train_seconds": fitted.seconds,
        "answer_seconds": time.perf_counter() - started,
        "epochs": max(len(curve) for curve in fitted.curves),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    output.curves = fitted.curves
    output.answer(
        "",
        predicted.genre.astype(np.float64),
        predicted.tags.astype(np.float64),
        predicted.window_genre,
        output.counts,
    )
    for head in cell.system.heads:
        _run_head(cell, output, fitted, head)


def _run_head(cell: Cell, output: _CellOutput, fitted: Fitted, head: Any) -> None:
    """Fit a classifier on the embeddings that the trained network has of the training tracks."""
    started = time.perf_counter()
    rows = [_embedded(fitted, side, output.material) for side in (output.sides.train, output.sides.held_out)]
    _record(head, fit_and_answer(head, cell.system, rows[0], rows[1], output.taxonomy, cell.seed), rows[1], output)
    output.facts[f"{head}_seconds"] = time.perf_counter() - started


def _embedded(fitted: Fitted, side: Any, material: Material) -> Rows:
    if material.segment_seconds is None:
        embeddings = fitted.predict(side).embeddings.astype(np.float64)
        return Rows(embeddings, np.ones(len(side), dtype=np.int64), side)
    counts = np.array([len(own) for own in side.log_mels], dtype=np.int64)
    return Rows(fitted.window_embeddings(side).astype(np.float64), counts, side)


def _run_classical(cell: Cell, output: _CellOutput) -> None:
    by_window = output.material.segment_seconds is not None
    started = time.perf_counter()
    train, held_out = (statistics_rows(side, by_window) for side in (output.sides.train, output.sides.held_out))
    head: Any = cell.system.kind
    probabilities = fit_and_answer(head, cell.system, train, held_out, output.taxonomy, cell.seed)
    output.facts |= {"train_seconds": time.perf_counter() - started, **probabilities.facts}
    _record("", probabilities, held_out, output)


def _record(head: str, probabilities: RowProbabilities, held_out: Rows, output: _CellOutput) -> None:
    genre, tags = (
        mean_by_track(part.astype(np.float32), held_out.counts) for part in (probabilities.genre, probabilities.tags)
    )
    whole_tracks = bool((held_out.counts == 1).all())
    # A row a track stands for all its windows: there is no answer of a window to count.
    counts = output.counts if whole_tracks else held_out.counts
    windows = np.repeat(probabilities.genre, output.counts, axis=0) if whole_tracks else probabilities.genre
    output.answer(head, genre.astype(np.float64), tags.astype(np.float64), windows, counts)
