"""A disk that fills in the middle of a run, in the processes of Ray's actors."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from in_process import TinySpec, TinyWorker, config_of, run_tiny
from table_makers import TINY, catalogue

from mgc.cluster.actor import ChunkWorker
from mgc.cluster.incremental import RunOptions, run_incrementally
from mgc.data.items import clean_items
from mgc.data.objects import DiskFullError
from mgc.data.outputs import OutputDirectory, Run
from mgc.data.storage import Store

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_two")]
CONTENTS = {f"t{number:02d}": "1" for number in range(9)}


@dataclass(frozen=True)
class FullDiskSpec(TinySpec):
    """Takes the disk of its actor's process away: what is written does not get there."""

    def start(self, run: Run) -> ChunkWorker:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.fsync = full
        return TinyWorker(TINY)


def test_the_run_ends_with_the_disks_own_error_and_the_next_one_goes_on(tmp_path: Path) -> None:
    uri, config = str(tmp_path / "out"), config_of()
    output, items = OutputDirectory(Store.open(uri), "features"), clean_items(catalogue(CONTENTS))
    with pytest.raises(DiskFullError, match=r"no room to write .*part-.*No space left") as caught:
        run_incrementally(output, items, FullDiskSpec(), TINY.fingerprint(), config, RunOptions())
    assert "free some space" in str(caught.value)
    assert output.commits() == []
    assert not list((tmp_path / "out").rglob(".mgc-tmp-*"))
    assert run_tiny(uri, catalogue(CONTENTS)).index.height == 9
