"""Extracted features for other programs: a table of statistics, or MFCC segments as JSON.

The same command as `mgc features`::

    python jobs/export_features.py --help
    ray job submit --working-dir . -- python jobs/export_features.py …
"""

from __future__ import annotations

from mgc.cli.features_command import features
from mgc.cli.options import run

if __name__ == "__main__":
    run(features)
