"""A page, or a picture, of one track: waveform, log-mel, genres and tags in time, nearest tracks.

The same command as `mgc inspect`::

    python jobs/inspect_track.py --help
"""

from __future__ import annotations

from mgc.commands.door import run
from mgc.commands.inspect import inspect

if __name__ == "__main__":
    run(inspect)
