"""Writing, reading and refusing model bundles."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_makers import FEATURES, MODEL, TAXONOMY, TRAINING, bundle_contents, small_model
from safetensors.torch import save

from mgc.config import TrainingConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError
from mgc.models.bundle import load_bundle, write_bundle
from mgc.models.ensemble import TemperatureScaling


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_bundle(str(tmp_path / "bundle"), bundle_contents())
    return tmp_path / "bundle"


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and its entry in the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    contents = bundle_contents()
    fingerprint = write_bundle(str(tmp_path), contents)
    bundle = load_bundle(str(tmp_path))
    assert bundle.fingerprint == fingerprint
    assert len(fingerprint) == 16
    assert (bundle.features, bundle.taxonomy, bundle.training) == (FEATURES, TAXONOMY, TRAINING)
    assert (bundle.metrics, bundle.facts) == (contents.metrics, contents.facts)
    assert [member.calibration for member in bundle.members] == [
        TemperatureScaling(1.0, 2.0),
        TemperatureScaling(2.0, 3.0),
    ]
    for found, given in zip(bundle.members, contents.members, strict=True):
        assert found.config == given.config
        assert found.weights.keys() == given.weights.keys()
        assert all(torch.equal(found.weights[name], given.weights[name]) for name in given.weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "bundle.json",
        "manifest.json",
        "member-0.safetensors",
        "member-1.safetensors",
    ]


def test_how_each_member_was_fitted_is_read_again_and_changes_no_answer(tmp_path: Path) -> None:
    entries = [MODEL.model_dump(), {**MODEL.model_dump(), "training": {"epochs": 3}}]
    training = TrainingConfig.model_validate({**TRAINING.model_dump(), "ensemble": entries})
    fingerprint = write_bundle(str(tmp_path), bundle_contents(training=training))
    bundle = load_bundle(str(tmp_path))
    assert [bundle.training.for_member(number).epochs for number in (0, 1)] == [6, 3]
    assert bundle.training == training
    assert write_bundle(str(tmp_path / "alike"), bundle_contents()) == fingerprint


def test_members_answer_as_before(written: Path) -> None:
    log_mel = torch.rand(2, 24, 16) * -80
    built = load_bundle(str(written)).build_members()
    for seed, model in enumerate(built):
        with torch.inference_mode():
            torch.testing.assert_close(model(log_mel), small_model(seed=seed).eval()(log_mel))


@pytest.mark.parametrize("taxonomy", [Taxonomy((), ("hum",)), Taxonomy(("high", "low"), ())])
def test_one_head_is_enough(tmp_path: Path, taxonomy: Taxonomy) -> None:
    write_bundle(str(tmp_path), bundle_contents(1, taxonomy))
    assert load_bundle(str(tmp_path)).taxonomy == taxonomy


def test_fingerprint_follows_the_answers_alone(tmp_path: Path) -> None:
    contents = bundle_contents()
    first = write_bundle(str(tmp_path / "a"), contents)
    other_facts = replace(contents, metrics={}, facts={"x": 1}, training=TRAINING.model_copy(update={"seed": 5}))
    assert write_bundle(str(tmp_path / "b"), other_facts) == first
    warmer = (replace(contents.members[0], calibration=TemperatureScaling(1.5, 2.0)), contents.members[1])
    bias = {**contents.members[0].weights}
    bias["genre_head.linear.bias"] = bias["genre_head.linear.bias"] + 1e-3
    changes = {
        "temperature": replace(contents, members=warmer),
        "weights": replace(contents, members=(replace(contents.members[0], weights=bias), contents.members[1])),
        "order": replace(contents, members=contents.members[::-1]),
        "taxonomy": replace(contents, taxonomy=Taxonomy(("low", "high"), TAXONOMY.tags)),
        "features": replace(contents, features=FEATURES.model_copy(update={"top_db": 60.0})),
    }
    found = {name: write_bundle(str(tmp_path / name), changed) for name, changed in changes.items()}
    assert len({first, *found.values()}) == 1 + len(changes)


def test_no_bundle_and_an_interrupted_one(tmp_path: Path, written: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        load_bundle(str(tmp_path / "nowhere"))
    (written / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        load_bundle(str(written))
    assert write_bundle(str(written), bundle_contents(1)) == load_bundle(str(written)).fingerprint


@pytest.mark.parametrize("name", ["member-1.safetensors", "bundle.json", "README.md"])
def test_missing_or_changed_file_is_named(written: Path, name: str) -> None:
    data = bytearray((written / name).read_bytes())
    data[len(data) // 2] ^= 1
    (written / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"'{name}' in the bundle at .* was changed"):
        load_bundle(str(written))
    (written / name).unlink()
    with pytest.raises(BundleError, match=f"lacks its file '{name}'"):
        load_bundle(str(written))


def test_truncated_file_is_named(written: Path) -> None:
    file = written / "member-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"'member-0\.safetensors' in the bundle"):
        load_bundle(str(written))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not json", "is not that of a model bundle"),
        (b"[1, 2]", "is not that of a model bundle"),
        (b'{"format": "else"}', "is not that of a model bundle"),
        (b'{"format": "mgc-bundle", "format_version": 1}', "has format version 1, this mgc reads 2"),
        (b'{"format": "mgc-bundle", "format_version": 2, "files": []}', "is damaged"),
    ],
)
def test_manifest_of_another_kind(written: Path, content: bytes, message: str) -> None:
    (written / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        load_bundle(str(written))


def test_manifest_cannot_lead_elsewhere(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    manifest["files"]["../secret"] = manifest["files"]["README.md"]
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"names a file '\.\./secret'"):
        load_bundle(str(written))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_refused_unread(written: Path, tmp_path: Path) -> None:
    forge(written, "member-0.safetensors", pickle.dumps(Bomb()))
    with pytest.raises(BundleError, match=r"'member-0\.safetensors' is a pickle"):
        load_bundle(str(written))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    forge(written, "member-0.safetensors", (tmp_path / "weights.pt").read_bytes())
    with pytest.raises(BundleError, match=r"'member-0\.safetensors' is a pickle"):
        load_bundle(str(written))


def test_weights_that_are_no_safetensors(written: Path) -> None:
    forge(written, "member-0.safetensors", b"\x00" * 64)
    with pytest.raises(BundleError, match="is no safetensors file"):
        load_bundle(str(written))


def test_tensors_of_another_architecture_are_named(written: Path) -> None:
    weights = dict(small_model().state_dict())
    weights["stem.0.weight"] = weights["stem.0.weight"][:, :, :1].contiguous()
    forge(written, "member-0.safetensors", save(weights))
    with pytest.raises(BundleError, match=r"tensor 'stem\.0\.weight' has shape \(8, 16, 1\), not \(8, 16, 4\)"):
        load_bundle(str(written))
    del weights["stem.0.weight"]
    forge(written, "member-0.safetensors", save(weights))
    with pytest.raises(BundleError, match=r"tensor 'stem\.0\.weight' is missing"):
        load_bundle(str(written))
    forge(written, "member-0.safetensors", save({**small_model().state_dict(), "extra": torch.zeros(1)}))
    with pytest.raises(BundleError, match="tensor 'extra' is not part of it"):
        load_bundle(str(written))


def test_weights_that_do_not_fit_or_are_not_finite_are_not_written(tmp_path: Path) -> None:
    contents = bundle_contents(1)
    weights = {**contents.members[0].weights}
    weights["genre_head.linear.bias"] = torch.tensor([0.0, float("nan")])
    bad = replace(contents, members=(replace(contents.members[0], weights=weights),))
    with pytest.raises(BundleError, match=r"tensor 'genre_head\.linear\.bias' holds values that are not finite"):
        write_bundle(str(tmp_path), bad)
    with pytest.raises(BundleError, match="has shape"):
        write_bundle(str(tmp_path), replace(contents, taxonomy=Taxonomy(("a", "b", "c"), TAXONOMY.tags)))
    assert list(tmp_path.iterdir()) == []


def test_description_with_other_settings_is_refused(written: Path) -> None:
    value = json.loads((written / "bundle.json").read_text())
    value["members"][0]["calibration"]["genre_temperature"] = 9.0
    forge(written, "bundle.json", json.dumps(value).encode())
    with pytest.raises(BundleError, match="but its files give another fingerprint"):
        load_bundle(str(written))
    value["members"][0]["model"]["wings"] = 2
    forge(written, "bundle.json", json.dumps(value).encode())
    with pytest.raises(BundleError, match=r"'bundle\.json' .* is not understood"):
        load_bundle(str(written))


def test_another_bundle_is_not_overwritten_unasked(written: Path) -> None:
    other = bundle_contents(1)
    before = load_bundle(str(written)).fingerprint
    with pytest.raises(BundleError, match=f"holds another bundle \\({before}"):
        write_bundle(str(written), other)
    assert load_bundle(str(written)).fingerprint == before
    fingerprint = write_bundle(str(written), other, overwrite=True)
    assert load_bundle(str(written)).fingerprint == fingerprint
    assert not (written / "member-1.safetensors").exists()


def test_the_same_bundle_is_left_as_it_is(written: Path) -> None:
    before = (written / "bundle.json").stat().st_mtime_ns
    assert write_bundle(str(written), bundle_contents()) == load_bundle(str(written)).fingerprint
    assert (written / "bundle.json").stat().st_mtime_ns == before


def test_a_bundle_needs_a_member() -> None:
    with pytest.raises(BundleError, match="at least one member"):
        bundle_contents(0)
