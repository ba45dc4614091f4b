"""A whole incremental run without Ray: the real actor, plan, leases, parts and commit, one chunk after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from table_makers import TINY, feature_part

from mgc.cluster.actor_pool import ChunkActor
from mgc.cluster.run import CatalogueJob, RunOptions, RunOutcome, run_incrementally
from mgc.cluster.runtime import RaySession
from mgc.config import ClusterConfig, Config, FeatureConfig
from mgc.storage.store import Store
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.slices import Slices
from mgc.tables.work_items import clean_items

CHUNK = 3
"""Tracks a part."""


@dataclass(frozen=True)
class TinyWorker:
    """Writes tiny features without looking at any audio."""

    features: FeatureConfig = TINY

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        contents = dict(zip(rows["track_id"].to_pylist(), rows["content_id"].to_pylist(), strict=True))
        return feature_part(contents, self.features, failed=("bad",))


class OneAfterAnother:
    """Stands where a `ray.data.Dataset` does."""

    def __init__(self, n_chunks: int, size: object, actor_arguments: tuple[Any, ...], needs: object) -> None:
        self._actor = ChunkActor(*actor_arguments)
        self._chunks = range(n_chunks)

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        return (self._actor(pa.table({"chunk": [chunk]})) for chunk in self._chunks)


@contextmanager
def _no_ray(config: ClusterConfig) -> Iterator[RaySession]:
    yield RaySession(({"CPU": 1.0},), joined=False)


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run_incrementally` do its chunks here."""
    monkeypatch.setattr("mgc.cluster.actor_pool._dataset", OneAfterAnother)
    monkeypatch.setattr("mgc.cluster.actor_pool._pool_results", OneAfterAnother.iter_batches)
    monkeypatch.setattr("mgc.cluster.run.ray_session", _no_ray)


def config_of(features: FeatureConfig = TINY, lease_seconds: float = 60.0) -> Config:
    return Config(features=features, cluster=ClusterConfig(tracks_per_chunk=CHUNK, lease_seconds=lease_seconds))


def run_tiny(
    uri: str, tracks: pl.DataFrame, options: RunOptions | None = None, config: Config | None = None
) -> RunOutcome:
    """Run over a catalogue of `table_makers.catalogue`."""
    config = config or config_of()
    job = CatalogueJob(
        OutputDirectory(Store.open(uri), "features"),
        Slices.of(clean_items(tracks)),
        config.features.fingerprint(),
        partial(TinyWorker, config.features),
        config,
    )
    return run_incrementally(job, options or RunOptions())
