"""What `mgc serve` refuses before it starts anything."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from model_makers import bundle_contents

from mgc.cli.serve_command import serve
from mgc.errors import BundleError, ConfigError, StorageError
from mgc.models.bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("bundle"))
    write_bundle(place, bundle_contents(1))
    return place


def test_a_taken_port_is_named(bundle: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            serve(bundle, port=port)
    with pytest.raises(ConfigError, match="cannot listen on no-such-host"):
        serve(bundle, host="no-such-host.invalid")


def test_a_store_or_bundle_that_is_not_there_is_named(bundle: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing"):
        serve(bundle, store=[str(tmp_path / "missing")])
    with pytest.raises(StorageError, match="http"):
        serve(bundle, store=["http://music/"])
    with pytest.raises(BundleError):
        serve(str(tmp_path))


def test_without_ray_serve_the_extra_is_named(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mgc.cluster.serve", None)
    with pytest.raises(ConfigError, match="Ray Serve is not installed") as caught:
        serve(bundle, port=_free_port())
    assert "mgc-tagger[serve]" in caught.value.remedy


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
