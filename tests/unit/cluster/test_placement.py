"""Workers are placed on nodes, not on a cluster's sums."""

from __future__ import annotations

import logging

import pytest

from mgc.cluster.members import member_resources
from mgc.cluster.runtime import RaySession, Resources, _cluster_error
from mgc.config import TrainingConfig
from mgc.errors import ClusterError

TWO_SMALL: tuple[Resources, ...] = ({"CPU": 2.0}, {"CPU": 2.0})
GPU_BESIDE_CPUS: tuple[Resources, ...] = ({"CPU": 0.0}, {"CPU": 64.0}, {"CPU": 8.0, "GPU": 1.0})


@pytest.mark.parametrize(
    ("nodes", "members", "settings", "expected"),
    [
        (TWO_SMALL, 1, {}, (0.0, 1, 2)),  # not the four threads that the cluster has in all
        (TWO_SMALL, 3, {}, (0.0, 3, 1)),
        (TWO_SMALL, 2, {}, (0.0, 2, 2)),
        (({"CPU": 2.0},), 3, {}, (0.0, 2, 1)),
        (({"CPU": 8.0},), 1, {}, (0.0, 1, 8)),
        (({"CPU": 8.0}, {"CPU": 2.0}), 1, {}, (0.0, 1, 8)),
        (({"CPU": 8.0}, {"CPU": 2.0}), 3, {"members_at_once": 1}, (0.0, 1, 8)),
        (TWO_SMALL, 1, {"workers_per_member": 2}, (0.0, 1, 2)),
        (TWO_SMALL, 1, {"workers_per_member": 4}, (0.0, 1, 1)),
        (GPU_BESIDE_CPUS, 3, {}, (1.0, 1, 8)),
        (GPU_BESIDE_CPUS, 3, {"gpu_share": 0.25}, (0.25, 3, 2)),
        (GPU_BESIDE_CPUS, 9, {"gpu_share": 0.25}, (0.25, 4, 2)),
        (({"CPU": 8.0, "GPU": 2.0},), 9, {"gpu_share": 0.4}, (0.4, 4, 2)),  # two a GPU, not five on both
        (({"CPU": 8.0, "GPU": 4.0},), 9, {"gpu_share": 0.6}, (0.6, 4, 2)),
        (({"CPU": 20.0, "GPU": 1.0},), 20, {"gpu_share": 0.1}, (0.1, 10, 2)),
        (({"CPU": 8.0, "GPU": 4.0},), 3, {}, (1.0, 3, 2)),
        (GPU_BESIDE_CPUS, 1, {"use_gpu": "never"}, (0.0, 1, 64)),
    ],
)
def test_members_get_what_nodes_hold(
    nodes: tuple[Resources, ...], members: int, settings: dict[str, object], expected: tuple[float, int, int]
) -> None:
    found = member_resources(TrainingConfig.model_validate(settings), members, RaySession(nodes, joined=True))
    assert (found.gpu_share, found.parallel_members, found.threads) == expected
    worker = {"CPU": float(found.threads), **({"GPU": found.gpu_share} if found.gpu_share else {})}
    each = TrainingConfig.model_validate(settings).workers_per_member
    assert RaySession(nodes, joined=True).n_placed(worker) >= each, "one member at least can start"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"threads": 4}, "1 worker of 4 CPU, each on one node, and the cluster has 2 nodes of 2 CPU"),
        ({"workers_per_member": 5}, "5 workers of 1 CPU, each on one node, and the cluster has 2 nodes of 2 CPU"),
        ({"use_gpu": "always"}, "1 worker of 1 CPU and 1 GPU, each on one node"),
    ],
)
def test_what_no_node_holds_is_said_with_what_there_is(settings: dict[str, object], wanted: str) -> None:
    with pytest.raises(ClusterError) as caught:
        member_resources(TrainingConfig.model_validate(settings), 1, RaySession(TWO_SMALL, joined=True))
    assert wanted in str(caught.value)
    assert "MGC501" in str(caught.value)


def test_nodes_that_an_autoscaler_may_add_are_waited_for_and_named(caplog: pytest.LogCaptureFixture) -> None:
    session = RaySession(({"CPU": 2.0},), joined=True, growing=({"CPU": 16.0},))
    with caplog.at_level(logging.WARNING, logger="mgc"):
        session.require_placement({"CPU": 8.0}, 1, "fitting a member")
    assert "waiting for nodes: fitting a member needs 1 worker of 8 CPU" in caplog.text
    with pytest.raises(ClusterError, match="32 CPU"):
        session.require_placement({"CPU": 32.0}, 1, "fitting a member")


def test_a_head_without_cpus_waits_for_its_first_worker_but_a_ray_of_ones_own_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="mgc"):
        RaySession(({"CPU": 0.0},), joined=True).require_placement({"CPU": 1.0}, 1, "an actor of the pool")
    assert "the cluster has 1 node of no CPU" in caplog.text
    with pytest.raises(ClusterError, match="no CPU"):
        RaySession(({},), joined=False).require_placement({"CPU": 1.0}, 1, "an actor of the pool")


def test_a_path_too_long_for_rays_sockets_is_named_with_the_remedy() -> None:
    error = _cluster_error(None, OSError("AF_UNIX path length cannot exceed 107 bytes: /scratch/…/plasma_store"))
    assert "too long: AF_UNIX path length cannot exceed 107 bytes" in str(error)
    assert "RAY_TMPDIR=/tmp" in error.remedy
