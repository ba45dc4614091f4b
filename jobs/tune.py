"""Search for settings: a table of trials, and the best as a TOML for `mgc train --config`.

The same command as `mgc tune`::

    python jobs/tune.py --help
    ray job submit --working-dir . -- python jobs/tune.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.tune_command import tune

if __name__ == "__main__":
    run(tune)
