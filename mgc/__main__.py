"""`python -m mgc`: the same as the console script `mgc`."""

import os.path
import sys

# Python puts the current folder first, where a `random.py` would be run in place of the library's. It stays where mgc
# itself is in it. No import comes before, not even of `__future__`.
if not sys.flags.safe_path and not os.path.samefile(sys.path[0], os.path.dirname(os.path.dirname(__file__))):  # noqa: PTH120, PTH121
    del sys.path[0]

from mgc.cli.app import main

if __name__ == "__main__":
    main()
