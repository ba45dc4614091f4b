"""Published weights of FCN, CRNN or musicnn, as a model bundle.

The same command as `mgc import-weights`::

    python jobs/import_weights.py --help
    ray job submit --working-dir . -- python jobs/import_weights.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.train_command import import_weights

if __name__ == "__main__":
    run(import_weights)
