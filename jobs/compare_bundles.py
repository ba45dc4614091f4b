"""Two bundles' answers for the same files, side by side.

The same command as `mgc compare`::

    python jobs/compare_bundles.py --help
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.compare_command import compare

if __name__ == "__main__":
    run(compare)
