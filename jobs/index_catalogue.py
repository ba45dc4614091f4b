"""List audio, join labels, assign splits: a catalogue.

The same command as `mgc index`::

    python jobs/index_catalogue.py --help
    ray job submit --working-dir . -- python jobs/index_catalogue.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.index_command import index

if __name__ == "__main__":
    run(index)
