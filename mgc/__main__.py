"""`python -m mgc`: the same as the console script `mgc`."""

from __future__ import annotations

from mgc.cli.app import main

if __name__ == "__main__":
    main()
