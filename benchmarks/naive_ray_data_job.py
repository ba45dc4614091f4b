"""A peer: the same decoding and log-mels as one would write it with Ray Data, a task a stage.

    python -m benchmarks.naive_ray_data_job CLIPS OUTPUT

No child, no identity, no resume, no error rows; a clip that fails would end the job.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import ray
import ray.data

from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig


def extract_track(row: dict[str, Any]) -> dict[str, Any]:
    """Return a clip's path, length and log-mels, shape (n_windows, n_frames, n_mels)."""
    track = extract(row["bytes"], FeatureConfig(), DecodeConfig())
    return {
        "path": row["path"],
        "duration_seconds": track.duration_seconds,
        "log_mel": track.log_mel.astype(np.float16),
    }


def main() -> None:
    clips, output = sys.argv[1:3]
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.read_binary_files(clips, include_paths=True).map(extract_track).write_parquet(output)


if __name__ == "__main__":
    main()
