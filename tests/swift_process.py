"""One of the four server processes of `swift_server.SwiftServer`; not meant to be run by hand.

`python swift_process.py KIND FOLDER PARENT_PID` with KIND one of account, container, object, proxy. It reads
`FOLDER/KIND.conf` and, for the proxy, first builds the rings from `FOLDER/ports.json`. It ends itself when
the process that started it is gone, so that a test run killed with -9 leaves no server behind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")  # loopback only: no resolver needed

from swift.common.ring import RingBuilder
from swift.common.wsgi import run_wsgi

STORAGE_SERVERS = ("account", "container", "object")
PART_POWER = 4
CHECK_SECONDS = 0.3

_real_sleep = time.sleep  # eventlet replaces time.sleep later on


def build_rings(folder: Path) -> None:
    """Write `account|container|object.ring.gz`: one device, one replica, each on the port of its server."""
    ports: dict[str, int] = json.loads((folder / "ports.json").read_text())
    for kind in STORAGE_SERVERS:
        builder = RingBuilder(part_power=PART_POWER, replicas=1, min_part_hours=1)
        place = {"ip": "127.0.0.1", "port": ports[kind], "device": "disk"}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "meta": "", **place})
        builder.rebalance(seed="0")
        builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def end_with(parent_pid: int, kind: str, folder: Path) -> None:
    """End this process soon after it has been orphaned; the proxy's also deletes the data."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            _real_sleep(CHECK_SECONDS)
        if kind == "proxy":
            _real_sleep(2 * CHECK_SECONDS)  # the others write no more by then
            shutil.rmtree(folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main(kind: str, folder: Path, parent_pid: int) -> int:
    end_with(parent_pid, kind, folder)
    if kind == "proxy":
        build_rings(folder)
    return int(run_wsgi(str(folder / f"{kind}.conf"), f"{kind}-server", verbose=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
