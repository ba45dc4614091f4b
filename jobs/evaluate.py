"""Honest figures with intervals: a report.

The same command as `mgc evaluate`::

    python jobs/evaluate.py --help
    ray job submit --working-dir . -- python jobs/evaluate.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.evaluate_command import evaluate

if __name__ == "__main__":
    run(evaluate)
