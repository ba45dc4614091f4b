"""The ensemble's members, fitted side by side where resources allow, and watched from the driver."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import ray
import ray.train

from mgc.cluster.member import Epochs, MemberCheckpoint, MemberSetup, fit_member, progress_key, read_checkpoint
from mgc.cluster.runtime import RaySession
from mgc.config import TrainingConfig
from mgc.errors import TrainingError
from mgc.storage.store import ObjectNotFoundError, Store

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class MemberResources:
    """How members share a cluster.

    Parameters
    ----------
    parallel_members
        Members fitted side by side.
    threads
        torch threads of each of their workers.
    """

    use_gpu: bool
    parallel_members: int
    threads: int


def member_resources(training: TrainingConfig, members: int, session: RaySession) -> MemberResources:
    """Return how many of the members a cluster fits at once, and with how many threads each."""
    use_gpu = training.use_gpu == "always" or (training.use_gpu == "auto" and session.n_gpus > 0)
    slots = session.n_gpus if use_gpu else session.n_cpus
    parallel_members = min(training.members_at_once or max(1, slots // training.workers_per_member), members)
    threads = training.threads or max(1, session.n_cpus // (parallel_members * training.workers_per_member))
    return MemberResources(use_gpu, parallel_members, threads)


def fit_members(
    setups: list[MemberSetup], work_uri: str, key: str, resources: MemberResources, watcher: Watcher
) -> list[MemberCheckpoint]:
    """Fit the members and return the last checkpoint of each.

    Raises
    ------
    TrainingError
        A member failed for good; what it had is kept for the same command to go on from.
    """
    # A fit only waits for its controller actor: threads here do, where tasks would cost a process each.
    with ThreadPoolExecutor(resources.parallel_members, thread_name_prefix="member") as pool:
        fits = [pool.submit(fit_member, setup, work_uri, key, resources.use_gpu) for setup in setups]
        while wait(fits, timeout=POLL_SECONDS).not_done:
            watcher.poll()
        watcher.poll()
    return [_last_checkpoint(_result(fit)) for fit in fits]


def set_up_ray_train(session: RaySession) -> None:
    """Set what Ray Train takes from the environment of the driver and hands to its controllers."""
    # A report, so each epoch, waits for the controller's next look at its workers: by default two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if not session.joined:
        # An actor a member that watches for nodes being taken away: of no use on this machine alone.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _result(fit: Future[ray.train.Result]) -> ray.train.Result:
    try:
        return fit.result()
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise TrainingError(
            f"a member could not be trained: {_root_cause(error)}",
            "the same command goes on from the last checkpoint",
        ) from error


def _last_checkpoint(result: ray.train.Result) -> MemberCheckpoint:
    if result.checkpoint is None:
        raise TrainingError("a member ended without a checkpoint", "start the command again and report this")
    return read_checkpoint(result.checkpoint)


def _root_cause(error: Exception) -> str:
    """Return the message of ours inside what Ray wrapped around it, else Ray's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if re.match(r"mgc\.[\w.]+: ", line)]
    return (ours or lines or [type(error).__name__])[-1].removeprefix("mgc.errors.")


class Watcher:
    """Reads what members wrote of their epochs and tells what is new.

    Through the store rather than an actor: a process less to start, and it outlives the driver.
    """

    def __init__(
        self,
        work_uri: str,
        key: str,
        members: int,
        on_epoch: Callable[[int, dict[str, Any]], None],
        on_resumed: Callable[[int, Epochs], None],
    ) -> None:
        self._store = Store.open(work_uri)
        self._key = key
        self._on_epoch = on_epoch
        histories = [self._history(member) for member in range(members)]
        self._reported = [len(history) for history in histories]
        for member, history in enumerate(histories):
            if history:
                on_resumed(member, history)

    def poll(self) -> None:
        """Tell of each epoch since the last look."""
        for member, reported in enumerate(self._reported):
            history = self._history(member)
            for epoch in history[reported:]:
                self._on_epoch(member, epoch)
            # Not less than before: an epoch whose checkpoint a kill lost is done again, and told once.
            self._reported[member] = max(reported, len(history))

    def _history(self, member: int) -> Epochs:
        try:
            history: Epochs = json.loads(self._store.read_bytes(progress_key(self._key, member)))
        except ObjectNotFoundError:
            return []
        return history
