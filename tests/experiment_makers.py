"""A small experiment: a catalogue and shards of tracks that tell their genre, and the raw values of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from model_makers import FEATURES, feature_set
from table_makers import commit_table

from mgc.storage.store import Store
from mgc.tables.feature_shards import feature_schema
from mgc.tables.run_log import OutputDirectory
from mgc.tables.schema import marked

TRACKS = 24


def write_data(folder: Path, *, statistics: bool = False) -> dict[str, str]:
    """Write catalogue.parquet and shards; two tracks a group, a quarter of split valid. Return `[data]`.

    With `statistics` the shards hold mean and variance of a centroid that tells the genre.
    """
    config = FEATURES.model_copy(update={"statistics": ("spectral_centroid",)}) if statistics else FEATURES
    tracks = feature_set(TRACKS)
    rows = [
        {
            "track_id": track,
            "uri": f"/music/{track}.wav",
            "content_id": "1",
            "size_bytes": 1,
            "genre": genre,
            "tags": tags,
            "tags_known": True,
            # Tracks 4k and 4k + 2 are of one genre and one group.
            "group": f"g{number // 4}-{number % 2}",
            "split": "valid" if number % 8 in (6, 7) else "train",
        }
        for number, (track, genre, tags) in enumerate(zip(tracks.track_ids, tracks.genres, tracks.tags, strict=True))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=marked("catalogue")), folder / "catalogue.parquet")
    parts = [
        {
            "track_id": track,
            "view": "clean",
            "recipe": "",
            "uri": f"/music/{track}.wav",
            "content_id": "1",
            "duration_seconds": 1.0,
            "n_windows": len(log_mel),
            "n_frames": log_mel.shape[1],
            "n_mels": log_mel.shape[2],
            "log_mel": log_mel.astype("<f2").tobytes(),
            "error_code": None,
            "error_stage": None,
            "error_message": None,
            **({"statistics": [900.0 + len(genre or "") + 0.01 * number, 1.0]} if statistics else {}),
        }
        for number, (track, log_mel, genre) in enumerate(
            zip(tracks.track_ids, tracks.log_mels, tracks.genres, strict=True)
        )
    ]
    schema = feature_schema(config)
    output = OutputDirectory(Store.open(str(folder / "features")), "features")
    commit_table(output, pa.Table.from_pylist(parts, schema=schema), config.fingerprint())
    return {"catalogue": str(folder / "catalogue.parquet"), "features": str(folder / "features")}


def small_experiment(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return raw values of an experiment of two protocols and three systems; nine runs."""
    network = {"name": "crnn", "channels": 8, "blocks": 1, "rnn_units": 4, "embedding_size": 8}
    values: dict[str, Any] = {
        "name": "small",
        "data": {"min_tag_positives": 2, **data},
        "evaluation": {"bootstrap_samples": 50},
        "training": {"epochs": 2, "batch_size": 8, "warmup_epochs": 0, "learning_rate": 5e-3},
        "protocols": [
            {"name": "segments", "kind": "random_segments", "valid_fraction": 0.25},
            {"name": "artists", "kind": "group_k_fold", "folds": 2},
        ],
        "systems": [
            {"name": "nearest", "kind": "knn", "neighbours": 3},
            {"name": "net", "model": network, "heads": ["svm"], "penalty": 1.0, "claims": ["guo_cnn"]},
            {"name": "net, mixup", "like": "net", "training": {"mixup_alpha": 0.3}, "claims": ["jain_cnn"]},
        ],
    }
    return {**values, **changes}
