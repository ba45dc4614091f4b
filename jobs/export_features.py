"""Extracted features for other programs: a table of statistics, or MFCC segments as JSON.

The same command as `mgc features`::

    python jobs/export_features.py --help
    ray job submit --working-dir . -- python jobs/export_features.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.extract_command import features

if __name__ == "__main__":
    run(features)
