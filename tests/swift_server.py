"""A real S3 server on this machine: OpenStack Swift with its S3 API, for the tests and for trying S3.

Four processes on free loopback ports (account, container, object, proxy), one device, one replica, no root,
a cache in the proxy in memcached's place; the data lie in a temporary folder that goes when the server stops. It
needs the `test` extra (`pip install -e '.[test]'`) and a file system with user extended attributes.

As a script it serves until Ctrl-C, and prints what to set in another shell::

    $ python tests/swift_server.py --bucket music
    export AWS_ENDPOINT_URL=http://127.0.0.1:40123
    export AWS_ACCESS_KEY_ID=test:tester
    ...

after which `s3://music/…` names a folder on that server for mgc, s3fs and any other S3 client.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from botocore.config import Config
from botocore.session import Session
from swift_configs import KINDS, REGION, USERS, configuration_files

START_SECONDS = 60.0
STOP_SECONDS = 3.0
PROCESS_SCRIPT = Path(__file__).with_name("swift_process.py")


class SwiftServer:
    """A Swift cluster of one device with an S3 door; a context manager.

    Parameters
    ----------
    parent
        Folder to put the data under; by default the first of the temporary folders that keeps user extended
        attributes.

    Attributes
    ----------
    endpoint_url, region, access_key, secret_key
        What an S3 client needs. The user owns the account and may do everything.
    guest_access_key, guest_secret_key
        A user of the same account whose credentials are right and who may do nothing.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.access_key, self.secret_key = USERS["owner"]
        self.guest_access_key, self.guest_secret_key = USERS["guest"]
        self.region = REGION
        self.endpoint_url = ""
        self._parent = parent
        self._folder: Path | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def unavailable_reason(cls, parent: Path | None = None) -> str | None:
        """Return why the server cannot run here, in one line; None where it can."""
        if importlib.util.find_spec("swift") is None:
            return "OpenStack Swift is not installed: pip install -e '.[test]'"
        if not hasattr(os, "setxattr"):
            return "Swift needs Linux: os.setxattr is missing on this platform"
        if not _user_name():
            return f"Swift needs a system user of its own: the user id {os.geteuid()} has no name"
        if _data_parent(parent) is None:
            where = ", ".join(str(folder) for folder in _candidates(parent))
            return f"no user extended attributes in {where}: set TMPDIR to a folder on ext4, xfs or btrfs"
        return None

    def start(self) -> Self:
        """Start the four servers and wait until the proxy answers.

        Raises
        ------
        RuntimeError
            It cannot run here, a server ended, or it was not ready in time; the message holds its log's end.
        """
        reason = self.unavailable_reason(self._parent)
        if reason:
            raise RuntimeError(reason)
        self._folder = Path(tempfile.mkdtemp(prefix="mgc-swift-", dir=_data_parent(self._parent)))
        atexit.register(self.stop)
        reserved = {kind: _reserve_port() for kind in KINDS}
        try:
            ports = {kind: sock.getsockname()[1] for kind, sock in reserved.items()}
            self._launch(self._folder, ports)
            self.endpoint_url = f"http://127.0.0.1:{ports['proxy']}"
            self._wait_until_ready(ports)
        except BaseException:
            self.stop()
            raise
        finally:
            for sock in reserved.values():
                sock.close()
        return self

    def stop(self) -> None:
        """End the servers and delete their data. Does nothing the second time."""
        atexit.unregister(self.stop)
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def env(self, user: str = "owner") -> dict[str, str]:
        """Return the AWS variables of `owner` or `guest`, checksums of newer clients switched off."""
        access_key, secret_key = USERS[user]
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            # Swift's S3 API knows no flexible checksums, which AWS clients add since 2025.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def pids(self) -> list[int]:
        """Process ids of the servers."""
        return [process.pid for process in self._processes.values()]

    def make_bucket(self, name: str) -> str:
        """Create the bucket and return its name."""
        client = Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def _launch(self, folder: Path, ports: dict[str, int]) -> None:
        (folder / "devices" / "disk").mkdir(parents=True)
        (folder / "ports.json").write_text(json.dumps(ports))
        for name, text in configuration_files(folder, ports, _user_name()).items():
            (folder / name).write_text(text)
        for kind in KINDS:
            command = [sys.executable, str(PROCESS_SCRIPT), kind, str(folder), str(os.getpid())]
            with (folder / f"{kind}.log").open("wb") as log:
                # A session of its own: Swift ends its whole process group on SIGTERM.
                self._processes[kind] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )

    def _wait_until_ready(self, ports: dict[str, int]) -> None:
        deadline = time.monotonic() + START_SECONDS
        for kind in KINDS:
            while not _answers(ports[kind]):
                if self._processes[kind].poll() is not None:
                    raise RuntimeError(f"Swift's {kind} server ended at start:\n{self._log_end(kind)}")
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"Swift's {kind} server was not ready in {START_SECONDS:.0f} s:\n{self._log_end(kind)}"
                    )
                time.sleep(0.05)

    def _log_end(self, kind: str) -> str:
        if self._folder is None:
            return ""
        return (self._folder / f"{kind}.log").read_text(errors="replace")[-2_000:]


def _user_name() -> str:
    """Return the name of the effective user, empty where it has none (a container with a bare user id)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _candidates(parent: Path | None) -> list[Path]:
    return [parent] if parent else [Path(tempfile.gettempdir()), Path("/var/tmp")]


def _data_parent(parent: Path | None) -> Path | None:
    """Return the first candidate folder that keeps user extended attributes."""
    return next((folder for folder in _candidates(parent) if _keeps_attributes(folder)), None)


def _keeps_attributes(folder: Path) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, "user.swift.metadata", b"x" * 1_024)
    except OSError:
        return False
    return True


def _reserve_port() -> socket.socket:
    """Return a bound socket that does not listen: it keeps others off the port until the server listens."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve S3 on loopback until Ctrl-C.")
    parser.add_argument("--bucket", action="append", default=[], help="bucket to create; may be repeated")
    buckets: list[str] = parser.parse_args().bucket
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    with SwiftServer() as server:
        for name in buckets:
            server.make_bucket(name)
        print("\n".join(f"export {name}={value}" for name, value in server.env().items()), flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
