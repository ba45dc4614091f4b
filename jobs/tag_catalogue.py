"""Genre, tags, confidence and embedding for every track.

The same command as `mgc tag`::

    python jobs/tag_catalogue.py --help
    ray job submit --working-dir . -- python jobs/tag_catalogue.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.tag_command import tag

if __name__ == "__main__":
    run(tag)
