"""Features of every track, as Parquet shards.

The same command as `mgc extract`::

    python jobs/extract_features.py --help
    ray job submit --working-dir . -- python jobs/extract_features.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.extract_command import extract

if __name__ == "__main__":
    run(extract)
