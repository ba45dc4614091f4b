"""Systems of the literature under every protocol: one page.

The same command as `mgc reproduce`::

    python jobs/reproduce.py --help
    ray job submit --working-dir . -- python jobs/reproduce.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.reproduce_command import reproduce

if __name__ == "__main__":
    run(reproduce)
