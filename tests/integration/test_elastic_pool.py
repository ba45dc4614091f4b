"""The pool of actors follows the cluster: nodes join and leave in the middle of a run, and one of them stalls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import Nodes, local_nodes
from slow_chunks import done_by

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with local_nodes(1) as made:
        yield made


def started(nodes: Nodes, output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "tests/slow_chunks.py", nodes.address, str(output), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=nodes.environment)


def ended(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, out + error
    return out + error


def wait_until(notes: Path, chunks: int) -> None:
    deadline = time.monotonic() + 120
    while not notes.exists() or len(list(notes.iterdir())) < chunks:
        assert time.monotonic() < deadline, "the chunks were not begun"
        time.sleep(0.1)


def test_a_node_that_joins_is_used_and_one_that_leaves_is_no_loss(nodes: Nodes, tmp_path: Path) -> None:
    output, notes = tmp_path / "out", tmp_path / "out-notes"
    run = started(nodes, output, "100", "1.0")
    wait_until(notes, 6)
    assert len(done_by(notes)) == 1, "there is one CPU"
    joined = nodes.add(2)
    wait_until(notes, 60)
    assert len(done_by(notes)) == 3, "each of the new node's CPUs has an actor"
    nodes.kill(joined)
    assert "100 rows of" in ended(run)
    # What was being done on the node that went, at most two chunks an actor, was done again, and nothing else.
    assert 100 <= sum(done_by(notes).values()) <= 104


def test_a_run_waits_for_nodes_and_says_so(nodes: Nodes, tmp_path: Path) -> None:
    output, notes = tmp_path / "out", tmp_path / "out-notes"
    run = started(nodes, output, "60", "1.0", "3")
    wait_until(notes, 10)
    nodes.add(2)
    said = ended(run)
    assert "60 rows of 3 workers" in said
    assert "waiting for nodes: 1 of 3 workers have one" in said


def test_a_chunk_that_stalls_is_done_by_another_actor(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add(1)
    started_at = time.monotonic()
    said = ended(started(nodes, tmp_path / "out", "20", "0.5", "-", "stalls"))
    assert "20 rows of 3 workers" in said
    assert "the last chunks (1) lag behind: one more actor does them as well" in said
    assert time.monotonic() - started_at < 300.0
