"""Distil an ensemble into one small network: a model bundle.

The same command as `mgc distill`::

    python jobs/distill.py --help
    ray job submit --working-dir . -- python jobs/distill.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.train_command import distill

if __name__ == "__main__":
    run(distill)
