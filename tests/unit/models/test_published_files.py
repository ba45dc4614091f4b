"""Networks by name: fetched by the real pooch from a server on loopback, and refused where anything is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_samples import music
from loopback import serving
from test_published_weights import saved, their_state
from typer.testing import CliRunner, Result

from mgc.audio.decode.sndfile import encode
from mgc.cli.app import build_app
from mgc.config import load_config
from mgc.config.network_settings import TransferConfig
from mgc.config.training_settings import DEFAULT_ENSEMBLE
from mgc.errors import BundleError, ConfigError, DownloadError, MgcError, StorageError
from mgc.models import published_files
from mgc.models.bundle import load_bundle
from mgc.models.published_files import PUBLISHED_FILES, pulled_bundle, pulled_members
from mgc.models.published_weights import published_facts, published_of

NAME = "mtat-fcn"


class Authors:
    """The authors' server: what it gives by path, and what was requested."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requested: list[str] = []
        self.breaks_off = 0
        """So many transfers end in the middle."""
        authors = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authors.requested.append(self.path)
                content = authors.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if authors.breaks_off:
                    authors.breaks_off -= 1
                    content = content[: len(content) // 2]
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def give(self, content: bytes) -> None:
        self.files["/" + PUBLISHED_FILES[NAME].url.partition("://")[2].partition("/")[2]] = content


@pytest.fixture
def authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authors]:
    """Serve a network of random weights as the published one, with a cache of its own."""
    own = Authors()
    state = their_state("choi_fcn")
    torch.manual_seed(1)
    state |= {"dense.weight": torch.randn(50, 64), "dense.bias": torch.randn(50)}
    content = saved(state)
    file = PUBLISHED_FILES[NAME]
    monkeypatch.setitem(
        PUBLISHED_FILES, NAME, replace(file, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    )
    monkeypatch.setattr(published_files, "RAW_FILES", own.address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    own.give(content)
    with serving(own.server):
        yield own


def call(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(arguments[0]), list(arguments))


def refused(*arguments: str) -> MgcError:
    done = call(*arguments)
    assert isinstance(done.exception, MgcError), done.output
    return done.exception


def test_a_network_is_pulled_once_and_tags_by_its_name(authors: Authors, tmp_path: Path) -> None:
    assert "pulled" in call("models").output
    done = call("models", "pull", NAME)
    assert done.exit_code == 0, done.output
    assert f"-b {NAME}" in done.output
    assert len(authors.requested) == 1
    again = call("models", "pull", NAME)
    assert again.exit_code == 0
    assert len(authors.requested) == 1, "the cache has it"
    (row,) = [line for line in call("models").output.splitlines() if NAME in line]
    assert row.rstrip().endswith("yes")

    bundle = load_bundle(NAME)
    assert bundle.uri == str(pulled_bundle(NAME))
    assert bundle.taxonomy.tags[:2] == ("guitar", "classical")
    assert bundle.facts["licence"] == "MIT"
    assert "licence: MIT" in (pulled_bundle(NAME) / "README.md").read_text()
    (tmp_path / "song.wav").write_bytes(encode(music(30.0, 16_000), 16_000, "wav"))
    answer = json.loads(call("tag", str(tmp_path / "song.wav"), "-b", NAME, "--json").output)
    same = json.loads(call("tag", str(tmp_path / "song.wav"), "-b", bundle.uri, "--json").output)
    assert answer == same
    assert len(answer["tag_probabilities"]) == 50
    assert np.ptp(list(answer["tag_probabilities"].values())) > 0.1


def test_a_damaged_cache_is_pulled_anew(authors: Authors) -> None:
    call("models", "pull", NAME)
    (pulled_bundle(NAME) / "member-0.safetensors").write_bytes(b"damaged")
    pulled_bundle(NAME).parent.parent.joinpath("published", f"{NAME}.pth").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(NAME)
    done = call("models", "pull", NAME)
    assert done.exit_code == 0, done.output
    assert len(authors.requested) == 2
    assert load_bundle(NAME).taxonomy.tags[0] == "guitar"


def test_a_transfer_that_breaks_off_is_tried_again_and_leaves_nothing(authors: Authors) -> None:
    authors.breaks_off = 1
    assert call("models", "pull", NAME).exit_code == 0
    assert len(authors.requested) == 2
    published = pulled_bundle(NAME).parent.parent / "published"
    (published / f"{NAME}.pth").unlink()
    authors.breaks_off = 2
    error = refused("models", "pull", NAME)
    assert isinstance(error, DownloadError)
    assert "broke off" in error.message
    assert list(published.iterdir()) == []


def test_other_bytes_than_the_published_ones_are_refused(authors: Authors) -> None:
    authors.give(b"<html>Please log in</html>")
    error = refused("models", "pull", NAME)
    assert error.code == "MGC205"
    assert PUBLISHED_FILES[NAME].sha256 in error.message
    assert not pulled_bundle(NAME).exists()
    authors.files.clear()
    error = refused("models", "pull", NAME)
    assert "404" in error.message


def test_without_a_network_a_file_that_was_carried_there_is_taken(
    authors: Authors, monkeypatch: pytest.MonkeyPatch
) -> None:
    (content,) = authors.files.values()
    monkeypatch.setattr(published_files, "RAW_FILES", "http://127.0.0.1:1")
    error = refused("models", "pull", NAME)
    assert error.code == "MGC205"
    assert "cannot be reached" in error.message
    place = Path(error.remedy.partition("put it at ")[2].partition(":")[0])
    place.write_bytes(content)
    assert call("models", "pull", NAME).exit_code == 0
    assert authors.requested == []


def test_a_proxy_is_used_and_a_dead_one_named(authors: Authors, monkeypatch: pytest.MonkeyPatch) -> None:
    (path, content), *_ = authors.files.items()
    monkeypatch.setattr(published_files, "RAW_FILES", "http://authors.invalid")
    monkeypatch.setenv("HTTP_PROXY", authors.address)
    authors.files = {f"http://authors.invalid{path}": content}  # to a proxy the whole URL is given
    assert call("models", "pull", NAME).exit_code == 0
    assert authors.requested == [f"http://authors.invalid{path}"]
    (pulled_bundle(NAME).parent.parent / "published" / f"{NAME}.pth").unlink()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    error = refused("models", "pull", NAME)
    assert error.code == "MGC205"
    assert "the proxy for http://authors.invalid" in error.message


def test_a_cache_that_cannot_be_written_is_named(
    authors: Authors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    error = refused("models", "pull", NAME)
    assert isinstance(error, StorageError)
    assert "XDG_CACHE_HOME" in error.remedy


def test_a_bundle_may_go_elsewhere_and_replaces_no_other(authors: Authors, tmp_path: Path) -> None:
    assert call("models", "pull", NAME, "-o", str(tmp_path / "mine")).exit_code == 0
    assert load_bundle(str(tmp_path / "mine")).facts["published"] == f"{NAME}.pth"
    assert not pulled_bundle(NAME).exists()
    (tmp_path / "mine" / "member-0.safetensors").write_bytes(b"x")
    assert refused("models", "pull", NAME, "-o", str(tmp_path / "mine")).code == "MGC401"


def test_wrong_requests_name_the_right_ones() -> None:
    assert refused("models", "push").code == "MGC101"
    assert refused("models", "pull").code == "MGC101"
    assert "msd-fcn" in refused("models", "pull", "msd-fnc").remedy
    assert "one by one" in refused("models", "pull", "msd-fcn", "msd-crnn", "-o", "x").remedy
    missing = refused("tag", "song.wav", "-b", "msd-crnn")
    assert (missing.code, missing.remedy) == ("MGC401", "mgc models pull msd-crnn")


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert f"{tmp_path}/{NAME}" in refused("tag", "song.wav", "-b", NAME).message


def test_a_transfer_member_builds_on_a_name(
    authors: Authors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TransferConfig(network="choi_fcn", published=NAME)
    assert config.published == NAME
    with pytest.raises(BundleError, match="not on this machine yet"):
        published_of(config)
    call("models", "pull", NAME)
    assert published_of(config).uri == str(pulled_bundle(NAME))
    (facts,) = published_facts((config,))
    assert (facts["licence"], facts["published"]) == ("MIT", f"{NAME}.pth")
    with pytest.raises(ConfigError, match="holds choi_fcn"):
        published_of(TransferConfig(network="musicnn", published=NAME))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    assert TransferConfig(published="own").published == str(tmp_path / "own"), "a folder here is a path"


def test_every_file_is_the_one_its_authors_published(shared_data: Path) -> None:
    folder = shared_data / "peer-weights"
    tags = json.loads((folder / "tags.json").read_text())
    assert len(PUBLISHED_FILES) == 8
    for file in PUBLISHED_FILES.values():
        content = (folder / file.tag_set / f"{file.network}.pth").read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size_bytes)
        assert list(file.tags) == tags[file.tag_set]


def test_what_was_pulled_joins_the_default_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pulled_members() == []
    for name in ("msd-crnn", "mtat-musicnn"):
        pulled_bundle(name).mkdir(parents=True)
        (pulled_bundle(name) / "manifest.json").write_text("{}")
    chosen = load_config(None, [], default_ensemble=(*DEFAULT_ENSEMBLE, *pulled_members()))
    networks = [model.name for model in chosen.member_models()]
    assert networks == ["crnn", "cp_resnet", "block_level", "transfer"], "those that did best together are used alone"
    assert chosen.member_models()[3].model_dump()["published"] == "msd-crnn"
    assert chosen.training.for_member(3).gain_db == 0.0, "its statistics are computed once"
    named = load_config(None, ["training.members=1"], default_ensemble=pulled_members())
    assert [model.name for model in named.member_models()] == ["crnn"], "what is asked for is what is trained"


def test_without_a_home_directory_nothing_was_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("mgc.models.published_files.cache_folder", no_home)
    with pytest.raises(StorageError, match="no home directory"):
        pulled_bundle("msd-fcn")
    assert pulled_members() == [], "a training that names no networks goes on"
