"""Honest figures with intervals: a report.

The same command as `mgc evaluate`::

    python jobs/evaluate.py --help
    ray job submit --working-dir . -- python jobs/evaluate.py …
"""

from __future__ import annotations

from mgc.commands.door import run
from mgc.commands.evaluate import evaluate

if __name__ == "__main__":
    run(evaluate)
