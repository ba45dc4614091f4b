"""Distil an ensemble into one small network: a model bundle.

The same command as `mgc distill`::

    python jobs/distill.py --help
    ray job submit --working-dir . -- python jobs/distill.py …
"""

from __future__ import annotations

from mgc.cli.distill_command import distill
from mgc.cli.options import run

if __name__ == "__main__":
    run(distill)
