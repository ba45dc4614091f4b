"""Merge the old runs of an output directory into one.

The same command as `mgc prune`::

    python jobs/prune_history.py --help
    ray job submit --working-dir . -- python jobs/prune_history.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.prune_command import prune

if __name__ == "__main__":
    run(prune)
