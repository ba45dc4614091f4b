"""A made catalogue with the history of its predictions: as many tracks as wanted, none with any audio.

What a run looks at before it decides what to do is all there, and written as a run writes it: the catalogue, the
runs, the commits with their parts, and their indices. The parts themselves, which such a run does not open, are
not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from mgc.config.view_settings import CLEAN
from mgc.storage.store import Store
from mgc.tables import publish as published
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import INDEX, run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.schema import CATALOGUE, marked

TRACKS_A_PART = 32
CHANGED_A_RUN = 1_000
"""At most; at least one in a thousand of the tracks."""

FAILED_SHARE = 0.005


def make_history(folder: Path, tracks: int, bundle: str, runs: int) -> Path:
    """Write `catalogue.parquet` and `predictions/`, in which all tracks are current, and return the folder.

    The first run tagged all with another bundle, the second all with this one, and each of the others a thousandth;
    a single run tagged all with this one.
    """
    folder.mkdir(parents=True)
    catalogue = make_catalogue(tracks)
    schema = marked("catalogue", root="s3://music/catalogue")
    table = catalogue.to_arrow().select(CATALOGUE.names).cast(schema)
    pq.write_table(table, folder / "catalogue.parquet", row_group_size=100_000)
    output = OutputDirectory(Store.open(str(folder / "predictions")), "predictions")
    output.mark()
    for number in range(runs):
        changed = max(1, min(tracks // 1_000, CHANGED_A_RUN))
        some = catalogue if number < 2 else catalogue.sample(changed, seed=number)
        _commit(output, some.sort("track_id"), "another" if number + 1 < min(runs, 2) else bundle)
        # A table without files that says it is up to date: whoever has nothing to do opens none.
        history = {commit.name: "" for commit in output.commits()}
        record = published.TableRecord(history=history, uris=published.uris_mark(catalogue))
        nothing = published._Change([], set(), is_all=True)
        seen = published.open_current(output.store) or published.CurrentTable()
        published._commit(output.store, seen, nothing, record, [])
    return folder


def make_catalogue(tracks: int) -> pl.DataFrame:
    """Return a catalogue, schema CATALOGUE."""
    names = ((number % 40_000, number % 9, number) for number in range(tracks))
    keys = [f"artist {a:05d}/album {b}/{c:07d} a title of some length.flac" for a, b, c in names]
    frame = pl.DataFrame(
        {
            "track_id": [hashlib.blake2b(key.encode(), digest_size=16).hexdigest() for key in keys],
            "uri": [f"s3://music/catalogue/{key}" for key in keys],
            "content_id": [hashlib.md5(key.encode(), usedforsecurity=False).hexdigest() for key in keys],
            "group": [f"artist {number % 40_000:05d}" for number in range(tracks)],
        }
    ).sort("track_id")
    return frame.with_columns(
        size_bytes=pl.lit(30_000_000, dtype=pl.Int64),
        genre=pl.lit(None, dtype=pl.String),
        tags=pl.lit([], dtype=pl.List(pl.String)),
        tags_known=pl.lit(False),
        split=pl.lit("unlisted"),
    ).select(CATALOGUE.names)


def _commit(output: OutputDirectory, tracks: pl.DataFrame, bundle: str) -> str:
    run = output.start_run(bundle, {"tracks": tracks.height})
    chunk = pl.int_range(pl.len()) // TRACKS_A_PART
    failed = pl.col("track_id").hash() % 1_000 < round(1_000 * FAILED_SHARE)
    index = tracks.select(
        "track_id",
        view=pl.lit(CLEAN),
        content_id="content_id",
        recipe=pl.lit(""),
        duration_seconds=pl.when(~failed).then(pl.lit(213.7)),
        error_code=pl.when(failed).then(pl.lit("T203_DECODE_FAILED")),
        error_stage=pl.when(failed).then(pl.lit("decode")),
        part=pl.format(f"{run.folder}/part-{{}}.parquet", chunk.cast(pl.String).str.zfill(6)),
        sequence=pl.lit(run.sequence, dtype=pl.Int64),
        fingerprint=pl.lit(bundle),
        deleted=pl.lit(False),
        attempts=pl.when(failed).then(pl.lit(1, dtype=pl.Int32)),
        tried_at=pl.lit(None, dtype=frame_of(INDEX.empty_table()).schema["tried_at"]),
        decoder=pl.lit(None, dtype=pl.String),
    )
    key = f"{run.folder}/index.parquet"
    write_index(output, key, index)
    output.commit(Commit(run.run_id, run.sequence, key, run_part_refs(run, index), {"rows": index.height}))
    return run.run_id
