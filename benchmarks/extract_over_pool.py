"""Extraction against a bare pool, a naive Ray Data job and Daft, in turn: pool, mgc, Ray Data, Daft, pool, …"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.material import figure
from benchmarks.process import run_module
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig

WORKERS = 2
PEERS = {"naive_ray_data": "ray", "daft": "daft"}
"""NAME of `benchmarks.NAME_job` → the package that it needs."""


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print `extract_over_pool`, the same in steady state, × realtime per core, and the peers' times over ours."""
    catalogue = folder / "extract.parquet"
    index_catalogue(str(clips), str(catalogue), CatalogueConfig())
    count = sum(1 for _ in clips.iterdir())
    whole, steady, realtime = [], [], []
    peers: dict[str, list[float]] = {name: [] for name, package in PEERS.items() if _is_installed(package)}
    for number in range(rounds):
        pool = run_module("benchmarks.bare_pool", str(clips), str(folder / f"pool-{number}"), str(WORKERS))
        ours = run_module("benchmarks.timed_job", "extract", str(catalogue), str(folder / f"shards-{number}"))
        whole.append(pool.seconds / ours.seconds)
        steady.append(ours.values["steady"] / pool.values["steady"])
        seconds_a_clip = ours.values["audio"] / count
        realtime.append(ours.values["steady"] * seconds_a_clip / ours.values["cores"])
        for name, taken in peers.items():
            peer = run_module(f"benchmarks.{name}_job", str(clips), str(folder / f"{name}-{number}"))
            taken.append(peer.seconds / ours.seconds)
    figure("extract_over_pool", whole, "ratio")
    figure("extract_over_pool_steady", steady, "ratio")
    figure("extract_xrealtime_per_core", realtime, "×realtime/core")
    for name in PEERS:
        if name in peers:
            figure(f"extract_over_{name}", peers[name], "ratio")
        else:
            print(f"# no {name} (pip install --no-deps {PEERS[name]}): extract_over_{name} is left out", flush=True)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
