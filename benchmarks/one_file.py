"""One song from a cold start: `mgc tag song.mp3`, a process of its own each time, beside the bare import of torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.material import figure, make_song
from benchmarks.untrained import write_untrained_bundle

SONG_SECONDS = 240.0
STARTS_A_ROUND = 3


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print the seconds from the command to the answer, and of what `import torch` alone takes, in turn."""
    bundle = str(folder / "one-bundle")
    song = make_song(folder / "song.mp3", SONG_SECONDS)
    write_untrained_bundle(bundle)
    bare, tagged = [], []
    for _ in range(STARTS_A_ROUND * rounds):
        bare.append(_seconds("-c", "import torch"))
        tagged.append(_seconds("-m", "mgc", "tag", str(song), "-b", bundle))
    figure("tag_one_file_seconds", tagged, "s")
    figure("import_torch_seconds", bare, "s")
    figure("tag_one_file_over_torch", [ours - torch for ours, torch in zip(tagged, bare, strict=True)], "s")


def _seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - started
