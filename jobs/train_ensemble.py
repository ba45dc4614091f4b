"""Fit the ensemble: a model bundle.

The same command as `mgc train`::

    python jobs/train_ensemble.py --help
    ray job submit --working-dir . -- python jobs/train_ensemble.py …
"""

from __future__ import annotations

from mgc.commands.door import run
from mgc.commands.train import train

if __name__ == "__main__":
    run(train)
