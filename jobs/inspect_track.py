"""A page, or a picture, of one track: waveform, log-mel, genres and tags in time, nearest tracks.

The same command as `mgc inspect`::

    python jobs/inspect_track.py --help
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.inspect_command import inspect

if __name__ == "__main__":
    run(inspect)
