"""cluster.yaml is what Ray's cluster launcher takes, and what it says about mgc is so."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
TOKEN = "/home/ubuntu/.ray/auth_token"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def test_ray_accepts_it_with_its_defaults_filled_in(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["setup_commands"] == cluster["setup_commands"]
    assert prepared["available_node_types"]["head"]["max_workers"] == 0


def test_the_check_would_notice_a_misspelt_key(cluster: dict[str, Any]) -> None:
    cluster["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(cluster))


def test_every_mounted_file_is_in_the_project(cluster: dict[str, Any]) -> None:
    mounts = dict(cluster["file_mounts"])
    assert mounts.pop(TOKEN) == "~/.ray/auth_token"
    for remote, local in mounts.items():
        assert remote == f"/home/ubuntu/mgc/{local.removeprefix('./')}"
        assert (ROOT / local).exists(), local
    assert {"./mgc", "./jobs", "./pyproject.toml", "./constraints.txt"} <= set(mounts.values())


def test_mgc_is_installed_from_the_mounted_files_with_the_pins(cluster: dict[str, Any]) -> None:
    installs = [command for command in cluster["setup_commands"] if "pip install" in command]
    assert len(installs) == 1
    assert "--constraint ~/mgc/constraints.txt" in installs[0]
    assert installs[0].endswith("--editable ~/mgc")


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_no_node_starts_without_token_authentication(cluster: dict[str, Any], commands: str) -> None:
    starts = [command for command in cluster[commands] if "ray start" in command]
    assert len(starts) == 1
    assert "RAY_AUTH_MODE=token" in starts[0].split("ray start")[0]
    assert "0.0.0.0" not in starts[0]


def test_workers_scale_from_nothing_and_hold_no_more_rights_than_they_need(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    for name in ("cpu_worker", "gpu_worker"):
        assert types[name]["min_workers"] == 0
        assert types[name]["node_config"]["IamInstanceProfile"] == {"Name": "mgc-ray-worker"}
        assert types[name]["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert cluster["max_workers"] == sum(types[name]["max_workers"] for name in ("cpu_worker", "gpu_worker"))


def test_every_command_is_shell(cluster: dict[str, Any]) -> None:
    commands = [command for key, value in cluster.items() if key.endswith("_commands") for command in value]
    assert len(commands) >= 8
    for command in commands:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), command
