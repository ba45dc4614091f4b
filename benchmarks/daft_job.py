"""A peer: the same decoding and log-mels as one would write it with Daft, in two processes.

    python -m benchmarks.daft_job CLIPS OUTPUT [PROCESSES]

No child, no identity, no resume, no error rows. Daft requires an older pyarrow than mgc's, and works with this one:
`pip install --no-deps daft`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "true")  # it would report its use
os.environ.setdefault("OMP_NUM_THREADS", "1")

import daft
import numpy as np
from daft import DataType

from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig

PROCESSES = int(sys.argv[3]) if len(sys.argv) > 3 else 2
FEATURES = DataType.struct({"duration_seconds": DataType.float64(), "log_mel": DataType.binary()})


@daft.cls(max_concurrency=PROCESSES, use_process=True)
class Extraction:
    """What Daft starts in each process."""

    def __init__(self) -> None:
        self.features, self.limits = FeatureConfig(), DecodeConfig()

    @daft.method(return_dtype=FEATURES)
    def extract_track(self, data: bytes) -> dict[str, object]:
        """Return a clip's length and log-mels."""
        track = extract(data, self.features, self.limits)
        return {"duration_seconds": track.duration_seconds, "log_mel": track.log_mel.astype(np.float16).tobytes()}


def main() -> None:
    clips, output = sys.argv[1:3]
    files = daft.from_glob_path(f"{clips}/*").select("path")
    # A method that Daft has decorated takes and gives expressions.
    calls: Any = Extraction()
    extracted = files.with_column("extracted", calls.extract_track(files["path"].download()))
    table = extracted.select(
        "path", extracted["extracted"].get("duration_seconds"), extracted["extracted"].get("log_mel")
    )
    table.write_parquet(output)


if __name__ == "__main__":
    main()
