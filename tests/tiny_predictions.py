"""Runs over a small catalogue without Ray and audio: the real plan, actor, marks, commit and published data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from curation_makers import prediction
from in_process import config_of
from table_makers import catalogue

from mgc.cluster.run import CatalogueJob, RunOptions, RunOutcome, run_incrementally
from mgc.config import Config
from mgc.storage.store import Store
from mgc.tables import publish as published
from mgc.tables.deletions import DeletionRule
from mgc.tables.parquet_batches import frame_of
from mgc.tables.predictions import read_predictions
from mgc.tables.publish import CatalogueUris, open_current, publish
from mgc.tables.run_index import empty_index, read_index
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import marked
from mgc.tables.slices import Slices
from mgc.tables.work_items import clean_items

BUNDLE = "b" * 16
FAILURES = {"offline": ("T103_FETCH_FAILED", "fetch"), "broken": ("T203_DECODE_FAILED", "decode")}
"""By what the content id of a track begins with."""


@dataclass(frozen=True)
class TinyTagger:
    """Answers jazz without looking at any audio."""

    bundle: str = BUNDLE
    refused: frozenset[str] = frozenset()
    """Tracks that the store refuses."""

    def process(self, rows: pa.Table, run: OutputRun) -> pa.Table:
        made = [self._row(row) | {"run_id": run.run_id, "sequence": run.sequence} for row in rows.to_pylist()]
        return pa.Table.from_pylist(made, schema=marked("predictions", fingerprint=self.bundle))

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        code, stage = FAILURES.get(row["content_id"].partition("-")[0], (None, None))
        if row["track_id"] in self.refused:
            code, stage = "T102_ACCESS_DENIED", "fetch"
        row = prediction(
            row["track_id"],
            row["uri"],
            row["content_id"],
            error_code=code,
            error_stage=stage,
            error_message="made up" if code else None,
        )
        return row | {"bundle_fingerprint": self.bundle, "tagged_at": datetime.now(UTC)}


def tag_once(
    uri: str,
    contents: dict[str, str],
    *,
    bundle: str = BUNDLE,
    config: Config | None = None,
    deletions: DeletionRule | None = None,
    refused: Iterable[str] = (),
    root: str = "/music",
    **options: Any,
) -> RunOutcome:
    """Tag a catalogue of `track_id → content_id`; call `in_process.without_ray` first."""
    items = Slices.of(clean_items(catalogue(contents, root=root)))
    job = CatalogueJob(
        OutputDirectory(Store.open(uri), "predictions"),
        items,
        bundle,
        partial(TinyTagger, bundle, frozenset(refused)),
        config or config_of(),
        deletions=deletions or DeletionRule(0.5),
        publish=partial(publish, uris=CatalogueUris(items)),
    )
    return run_incrementally(job, RunOptions(**options))


def ids(n: int, content: str = "1") -> dict[str, str]:
    """Return so many tracks with ids as mgc makes them, all of one content."""
    return {hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest(): content for number in range(n)}


def identities(uri: str) -> dict[str, str]:
    """Return the content that `current` has of each track."""
    return dict(read_predictions(uri, ["track_id", "content_id"]).iter_rows())


def output_of(uri: str) -> OutputDirectory:
    """Return an output directory of predictions."""
    return OutputDirectory(Store.open(uri), "predictions")


def files(folder: Path) -> dict[str, Path]:
    """Return the files of `current` by the first digit of their tracks."""
    table = open_current(Store.open(str(folder)))
    return {Path(key).name.partition("-")[0]: folder / key for key in sorted(table.files)} if table else {}


def history(uri: str) -> pl.DataFrame:
    """Return all rows of the history, oldest first."""
    store = Store.open(uri)
    keys = [item.key for item in store.list("history/")]
    tables = [pl.read_parquet(store.read_bytes(key)) for key in keys]
    return pl.concat(tables).sort("sequence", "track_id") if tables else frame_of(marked("predictions").empty_table())


def own_rows(uri: str, runs: Iterable[str]) -> pl.DataFrame:
    """Return the index rows of what some runs made, not of what they copied."""
    output, wanted = output_of(uri), set(runs)
    indices = [read_index(output, one.index_key) for one in output.commits() if one.run_id in wanted]
    rows = pl.concat([empty_index(), *indices])
    return rows.filter(pl.col("part").str.extract(r"^runs/(.+)/part-").is_in(list(wanted)))


def one_after_another(read: Callable[[Any], Any], wanted: Iterable[Any], readers: int = 1) -> Iterable[Any]:
    """Stand where `prefetched` does, in the thread that is to be killed or held."""
    return map(read, wanted)


class SimulatedKillError(BaseException):
    """What SIGKILL is to the code: nothing catches it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[], object]) -> bool:
    """Do something that is killed at its `at`-th write, deletion or commit; return whether it came to that."""
    left = at

    def dying(real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise SimulatedKillError
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("mgc.tables.lease._process_mark", lambda pid: None)
        patch.setattr(published, "prefetched", one_after_another)
        for owner, name in ((Store, "write_atomic"), (Store, "delete"), (Store, "sync"), (published, "_commit")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        try:
            act()
        except SimulatedKillError:
            return True
    return False
