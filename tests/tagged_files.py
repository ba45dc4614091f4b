"""What the catalogue's job predicts for files, without Ray: its worker, called here."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mgc.cluster.predict import PredictWorker
from mgc.config import Config
from mgc.models.bundle import load_bundle
from mgc.storage.store import Store, split_uri
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_log import OutputRun
from mgc.tables.schema import CATALOGUE
from mgc.tables.work_items import clean_items


def job_rows(bundle: str, uris: Sequence[str]) -> pa.Table:
    """Return the predictions (schema PREDICTIONS) of files, tagged in each other's company."""
    loaded = load_bundle(bundle)
    worker = PredictWorker(bundle, loaded.fingerprint, Config(features=loaded.features))
    rows = [
        {"track_id": str(number), "uri": uri, "content_id": _content_id(uri), "size_bytes": 1, "genre": None}
        | {"tags": [], "tags_known": False, "group": "g", "split": "unlisted"}
        for number, uri in enumerate(uris)
    ]
    items = clean_items(frame_of(pa.Table.from_pylist(rows, schema=CATALOGUE)))
    return worker.process(items.to_arrow(), OutputRun("r", 1, loaded.fingerprint, {}))


def _content_id(uri: str) -> str:
    root, key = split_uri(uri)
    return Store(root).stat(key).content_id
