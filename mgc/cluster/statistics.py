"""Statistics that no epoch changes, made once for all fits by the actor pool, as shards of their own.

A network of fixed statistics (`StatisticsNetwork`), those of frozen published weights among them, maps a window to
the same values in every epoch, fold and seed. They are an incremental run like extraction: resumed where it was
killed, one row a (track, view), in `<bundle>.training/statistics/<fingerprint>/`, which goes with the training's
other files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import ray
import torch
from safetensors.numpy import load, save

from mgc.audio.features.filter_banks import FilterBanks, hold
from mgc.cluster.actor_pool import ChunkProgress
from mgc.cluster.members import MemberSetup
from mgc.cluster.predict import gpu_share
from mgc.cluster.run import CatalogueJob, RunOptions, run_incrementally
from mgc.config import FeatureConfig, ModelConfig, fingerprint_of
from mgc.config.network_settings import BlockLevelConfig, TransferConfig
from mgc.config.taxonomy import Taxonomy
from mgc.config.view_settings import AugmentConfig
from mgc.errors import TrainingError
from mgc.models.layers import StatisticsNetwork
from mgc.models.published_weights import start_model
from mgc.models.transfer import ADAPTED_ON, Norms
from mgc.storage.store import Store
from mgc.tables.feature_cache import SHAPE
from mgc.tables.feature_shards import FeatureSet, frames_from, items_with_features, read_feature_set
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import ITEM, current_rows
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import ERROR_FIELDS, marked
from mgc.tables.slices import Slices
from mgc.training.cached_statistics import adapted_norms, adapts_norms, can_cache_statistics, window_statistics

WORTH_A_POOL = 1_000
"""Tracks times fits from which on the pool makes them: below, its start takes longer than what it saves."""


@dataclass(frozen=True)
class FixedStatistics:
    """What an actor needs to make a network's statistics; plain values, so that it can travel."""

    features_uri: str
    features: FeatureConfig
    model: ModelConfig
    published: Mapping[str, str]
    banks: Mapping[FeatureConfig, FilterBanks]
    use_gpu: bool
    norms: Norms | None

    @property
    def fingerprint(self) -> str:
        """Of the network and of the features that it maps."""
        norms = {name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in (self.norms or {}).items()}
        return fingerprint_of(
            {
                "model": self.model.fingerprint(),
                "published": dict(self.published),
                "norms": norms,
                "of": self.features.fingerprint(),
            }
        )

    def network(self) -> StatisticsNetwork | None:
        """Return the network, its perceptron not fitted; None where it has no fixed statistics."""
        found = start_model(self.model, self.features, Taxonomy((), ()), self.published, self.norms)
        return found if isinstance(found, StatisticsNetwork) else None


def with_norms(setups: Sequence[MemberSetup], catalogue: pl.DataFrame, work: Store, key: str) -> list[MemberSetup]:
    """Return the setups with the batch norms of published networks brought to the tracks to be trained on.

    They are made once, before any fold, by a task for each network, and kept in `work` for who resumes: no label has
    a part in them.

    Parameters
    ----------
    catalogue
        Its split 'train' is trained on; some tracks that have features are read.
    key
        Of the data and settings.
    """
    places = [f"norms/{key}-{setup.model.fingerprint()}" if adapts_norms(setup.model) else None for setup in setups]
    missing = {place: setup for place, setup in zip(places, setups, strict=True) if place and not work.exists(place)}
    if missing:
        train = catalogue.filter(pl.col("split") == "train")
        items = items_with_features(setups[0].features_uri, train, AugmentConfig())["track_id"].sort()
        if items.is_empty():
            return list(setups)  # who reads the split says what is wrong
        chosen = items.gather(np.random.default_rng(0).permutation(len(items))[:ADAPTED_ON])
        task = ray.remote(num_cpus=1)(_norms)
        some = train.filter(pl.col("track_id").is_in(chosen.implode()))
        coming = {place: task.remote(setup, some) for place, setup in missing.items()}
        for place, norms in coming.items():
            work.write_atomic(place, save(ray.get(norms)))
    made = {place: load(work.read_bytes(place)) for place in set(places) if place}
    return [replace(setup, norms=made[place] if place else None) for setup, place in zip(setups, places, strict=True)]


def _norms(setup: MemberSetup, catalogue: pl.DataFrame) -> Norms:
    hold(setup.banks)
    tracks = read_feature_set(setup.features_uri, catalogue, "train")
    return adapted_norms(setup.model, tracks, setup.published) or {}


def worth_a_pool(tracks: int, setups: Sequence[MemberSetup]) -> bool:
    """Return whether any member may have fixed statistics, and so many tracks are fitted on that a pool pays."""
    may_have = any(isinstance(setup.model, BlockLevelConfig | TransferConfig) for setup in setups)
    return may_have and tracks * (1 + setups[0].config.training.promise_folds) >= WORTH_A_POOL


def make_statistics(
    setup: MemberSetup,
    *,
    items: pl.DataFrame,
    first: FeatureSet,
    work_uri: str,
    on_note: Callable[[str], None],
) -> str | None:
    """Return where a member's statistics of items are, once they are made.

    Parameters
    ----------
    items
        Of all tracks that any fit or fold reads (schema PLAN), with the shard of each.
    first
        One of them, which tells the shape of all.
    on_note
        Called with what is done, in words.

    Returns
    -------
    str or None
        URI of the shards; None where the network has none, or its fit changes windows.
    """
    config = setup.config
    training = config.training
    wanted = FixedStatistics(
        setup.features_uri,
        first.features,
        setup.model,
        setup.published,
        setup.banks,
        training.use_gpu != "never",
        setup.norms,
    )
    hold(setup.banks)
    network = wanted.network()
    if network is None or not can_cache_statistics(network, first, training.for_member(setup.member)):
        return None
    done = 0

    def advance(step: ChunkProgress) -> None:
        nonlocal done
        done += step.items
        on_note(f"statistics of member {setup.member + 1}: {done:,} of {items.height:,} tracks")

    uri = f"{work_uri}/statistics/{wanted.fingerprint}"
    job = CatalogueJob(
        output=OutputDirectory(Store.open(uri), "statistics"),
        items=Slices.of(items),
        fingerprint=wanted.fingerprint,
        make_worker=partial(StatisticsWorker, wanted, first.log_mels[0].shape[1:]),
        config=config,
        gpus_per_worker=partial(gpu_share, training.use_gpu),
    )
    run_incrementally(job, RunOptions(on_progress=advance))
    return uri


class StatisticsWorker:
    """Items whose features are in shards in, rows of statistics out.

    Parameters
    ----------
    shape
        (n_frames, n_mels) of every window.

    Raises
    ------
    BundleError, FingerprintError
        Published weights are not there, or are others than the run began with.
    """

    def __init__(self, wanted: FixedStatistics, shape: tuple[int, int]) -> None:
        torch.set_num_threads(1)  # the pool has one actor a CPU
        hold(wanted.banks)
        self._device = "cuda" if torch.cuda.is_available() and wanted.use_gpu else "cpu"
        network = wanted.network()
        assert network is not None, "the driver has seen it"
        self._network = network.to(self._device).eval()
        self._features = OutputDirectory(Store.open(wanted.features_uri), "features")
        self._shape = shape
        self._schema = marked("statistics", fingerprint=wanted.fingerprint)

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        """Return one row for each item; nothing of the run is in them.

        Raises
        ------
        TrainingError
            Windows of a track have another shape than the others.
        """
        items = frame_of(rows)
        wanted = items.select(*ITEM, pl.col("features_part").alias("part"))
        columns = ["duration_seconds", *SHAPE, "log_mel"]
        made: dict[tuple[str, str], dict[str, Any]] = {}
        for table in current_rows(self._features, wanted, columns):
            for row in table.to_pylist():
                made[row["track_id"], row["view"]] = self._made(row)
        kept = items.select(*ITEM, "recipe", "uri", "content_id").to_dicts()
        return pa.Table.from_pylist([row | made[row["track_id"], row["view"]] for row in kept], schema=self._schema)

    def _made(self, row: Mapping[str, Any]) -> dict[str, Any]:
        log_mel = frames_from(row, "log_mel")
        if log_mel.shape[1:] != self._shape:
            raise TrainingError(
                f"track '{row['track_id']}' has windows of {log_mel.shape[1:]}, the first track of {self._shape}",
                "extract all tracks with one setting",
            )
        values = window_statistics(self._network, log_mel, self._device)
        return {
            "duration_seconds": row["duration_seconds"],
            "n_windows": len(values),
            "n_statistics": values.shape[-1],
            "values": values.tobytes(),
            **dict.fromkeys(field.name for field in ERROR_FIELDS),
        }
