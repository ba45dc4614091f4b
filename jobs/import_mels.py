"""Precomputed mel spectrograms (.npy) of every track, as Parquet shards.

The same command as `mgc import-mels`::

    python jobs/import_mels.py --help
    ray job submit --working-dir . -- python jobs/import_mels.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.extract_command import import_mels

if __name__ == "__main__":
    run(import_mels)
