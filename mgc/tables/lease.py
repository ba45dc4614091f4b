"""One run at a time in an output directory, on any store: who is at work there, and is it still alive.

A run writes `leases/<name>.json` and writes it anew, with a higher count, as long as it lives. Whoever comes later
sees it, says so and stops. There is no lock: a conditional PUT is atomic on AWS and Ceph and not on Swift, and the
clocks of two machines need not agree. Instead

- who came first is decided by tickets, as at a bakery (Lamport 1974): announce yourself, take a ticket above all you
  see, then give way to every lower one. Each writes only objects of its own name.
- a lease lives as long as its count is seen to rise; one that does not change for `lease_seconds` by the watcher's
  own clock is dead. On one machine the process itself is looked up, so a killed run need not be waited for.

Where all this fails (a listing that is late, a run that was taken for dead), two runs work at once, and nothing is
lost or doubled: commits have names of their own, and of two rows of an item one wins (`run_index.newest`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mgc.config.section import from_json
from mgc.errors import LeaseError, StorageError
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store

FOLDER = "leases"
ENDED = "ended"
"""In a lease's `process`: its run is over, and the store refused to delete the lease."""
BEATS_A_LEASE = 6
"""How often a lease is renewed within `lease_seconds`: a few writes may fail or be late."""


@dataclass(frozen=True)
class Lease:
    """A run's sign of life, as `leases/<name>.json` holds it.

    Parameters
    ----------
    name
        Unique.
    ticket
        Order of coming; None while it is chosen.
    beat
        Rises as long as the run lives.
    host, pid, since
        For people: where it runs, and since when by that machine's clock.
    process
        Names the process beyond doubt to others on the same machine; empty where the system cannot say.
    """

    name: str
    ticket: int | None
    beat: int
    host: str
    pid: int
    since: str
    process: str

    @property
    def key(self) -> str:
        """Key of the lease's object."""
        return f"{FOLDER}/{self.name}.json"

    @property
    def rank(self) -> tuple[int, str]:
        """Who is lower came first."""
        return (self.ticket or 0, self.name)


@dataclass
class RunLease:
    """A run's own lease, renewed by a thread until it is released."""

    store: Store
    lease_seconds: float
    mine: Lease
    lost: bool = False
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def require(self) -> None:
        """Raise a `LeaseError` where another run has taken over."""
        if self.lost or not self.store.exists(self.mine.key):
            raise LeaseError(
                f"another run has taken over '{self.store.uri()}'",
                "nothing is lost: the next run resumes what this one had finished",
            )

    def write(self, *, ticket: int | None = None) -> None:
        """Write the lease anew: one beat later, with its ticket where it has one."""
        with self._writing:
            if self._ended.is_set():
                return
            self.mine = replace(self.mine, beat=self.mine.beat + 1, ticket=ticket or self.mine.ticket)
            self.store.write_atomic(self.mine.key, json.dumps(asdict(self.mine)).encode())

    def beat(self) -> None:
        """Renew the lease until it is released, or somebody has taken it away."""
        while not self._ended.wait(self.lease_seconds / BEATS_A_LEASE):
            # A store that does not answer now may do so the next time.
            with contextlib.suppress(StorageError):
                if not self.store.exists(self.mine.key):
                    self.lost = True
                    return
                self.write()

    def release(self) -> None:
        """End it; a store that fails now only leaves a lease that will be taken for dead."""
        with contextlib.suppress(StorageError), self._writing:
            self._ended.set()
            try:
                self.store.delete(self.mine.key)
            except StorageError:  # deleting may be forbidden where writing is not
                ended = replace(self.mine, process=ENDED)
                self.store.write_atomic(ended.key, json.dumps(asdict(ended)).encode())


@contextmanager
def run_lease(store: Store, lease_seconds: float, *, takeover: bool = False) -> Iterator[RunLease]:
    """Hold the lease of an output directory while the block runs.

    Parameters
    ----------
    lease_seconds
        A run that shows no sign of life for so long is dead.
    takeover
        Take the lease of a living run away; it stops when it notices.

    Raises
    ------
    LeaseError
        Another run that came first is alive.
    """
    lease = RunLease(store, lease_seconds, _new_lease())
    lease.write()
    _HELD.append(lease)
    beating = threading.Thread(target=lease.beat, name="lease", daemon=True)
    beating.start()
    try:
        lease.write(ticket=1 + max((other.ticket or 0 for other in _others(lease)), default=0))
        for other in _others(lease):
            _give_way(lease, other, takeover=takeover)
        yield lease
    finally:
        lease.release()
        _HELD.remove(lease)
        beating.join()


_HELD: list[RunLease] = []


def release_held() -> None:
    """Release every lease of this process: of one that is about to end without leaving its blocks."""
    for lease in _HELD:
        lease.release()


@dataclass(frozen=True)
class SignOfLife:
    """A lease, when it was last renewed by the store's clock, and whether its process is taken to be alive."""

    lease: Lease
    seconds_ago: float
    alive: bool


def signs_of_life(store: Store, lease_seconds: float) -> list[SignOfLife]:
    """Return who is at work in an output directory, and who has left a lease behind."""
    found = []
    for item in store.list(f"{FOLDER}/"):
        if lease := _read(store, item.key):
            age, lives = max(0.0, time.time() - item.modified), _process_lives(lease.process)
            found.append(SignOfLife(lease, age, age < lease_seconds if lives is None else lives))
    return found


def _give_way(lease: RunLease, other: Lease, *, takeover: bool) -> None:
    """Return where `other` came later, has ended, is dead, or is taken over; else raise."""
    if other.rank > lease.mine.rank:
        return
    if not takeover and (living := _living(lease, other)):
        if living.rank > lease.mine.rank:
            return
        raise LeaseError(
            f"another run is at work in '{lease.store.uri()}': process {living.pid} on {living.host}, "
            f"since {living.since}",
            "let it end and start again; or end it, and take its place with --takeover",
        )
    with contextlib.suppress(StorageError):  # else it lies there, dead, for every later run to look at
        lease.store.delete(other.key)


def _living(lease: RunLease, other: Lease) -> Lease | None:
    """Return a lease as it is once it has shown a sign of life and a ticket; None where it has ended or is dead."""
    deadline = time.monotonic() + lease.lease_seconds
    seen: Lease | None = other
    while seen is not None and time.monotonic() < deadline:
        if (alive := _process_lives(seen.process)) is False:
            return None
        if seen.ticket is not None and (alive or seen.beat != other.beat):
            return seen
        time.sleep(lease.lease_seconds / BEATS_A_LEASE / 8)
        seen = _read(lease.store, other.key)
    return None


def _others(lease: RunLease) -> list[Lease]:
    keys = [item.key for item in lease.store.list(f"{FOLDER}/") if item.key != lease.mine.key]
    return [other for key in keys if (other := _read(lease.store, key)) is not None]


def _read(store: Store, key: str) -> Lease | None:
    try:
        return from_json(Lease, store.read_bytes(key))
    except (ObjectNotFoundError, ValueError):  # it has ended, or is damaged: nobody lives by it
        return None


def _new_lease() -> Lease:
    return Lease(
        name=uuid.uuid4().hex,
        ticket=None,
        beat=0,
        host=socket.gethostname(),
        pid=os.getpid(),
        since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        process=_process_mark(os.getpid()) or "",
    )


def _process_mark(pid: int | str) -> str | None:
    """Return boot, namespace, number and start of a process (Linux); None where there is none, or no such system."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink()
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if started[0] in "ZX" else f"{boot} {space} {pid} {started[19]}"


def _process_lives(mark: str) -> bool | None:
    """Return whether a process runs on this machine; None where it is another's, or the system cannot say."""
    if mark == ENDED:
        return False
    here = _process_mark(os.getpid())
    if not mark or here is None or mark.split()[:2] != here.split()[:2]:
        return None
    return _process_mark(mark.split()[2]) == mark
