"""Genre, tags, confidence and embedding for every track.

The same command as `mgc tag`::

    python jobs/tag_catalogue.py --help
    ray job submit --working-dir . -- python jobs/tag_catalogue.py …
"""

from __future__ import annotations

from mgc.commands.door import run
from mgc.commands.tag import tag

if __name__ == "__main__":
    run(tag)
