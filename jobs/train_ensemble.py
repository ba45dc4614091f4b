"""Fit the ensemble: a model bundle.

The same command as `mgc train`::

    python jobs/train_ensemble.py --help
    ray job submit --working-dir . -- python jobs/train_ensemble.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.train_command import train

if __name__ == "__main__":
    run(train)
