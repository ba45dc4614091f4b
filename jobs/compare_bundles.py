"""Two bundles' answers for the same files, side by side.

The same command as `mgc compare`::

    python jobs/compare_bundles.py --help
"""

from __future__ import annotations

from mgc.cli.compare_command import compare
from mgc.cli.options import run

if __name__ == "__main__":
    run(compare)
