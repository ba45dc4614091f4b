"""The tracks most like some, like each, near-duplicates, and how good that is.

The same command as `mgc similar`::

    python jobs/find_similar.py --help
    ray job submit --working-dir . -- python jobs/find_similar.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.similar_command import similar

if __name__ == "__main__":
    run(similar)
