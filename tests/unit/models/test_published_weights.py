"""Published weights as a bundle: what they say is what their own network says, and nothing in them is executed."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_samples import music
from typer.testing import CliRunner

from mgc.audio.decode.sndfile import encode
from mgc.audio.extraction import extract
from mgc.audio.features.filter_banks import filter_banks
from mgc.cli.app import build_app
from mgc.config import DecodeConfig, read_model_config
from mgc.errors import BundleError, ConfigError
from mgc.models.bundle import load_bundle, write_bundle
from mgc.models.forward import member_outputs
from mgc.models.network_registry import build_model
from mgc.models.published_weights import PUBLISHED_FEATURES, published_bundle

TAGS = ("guitar", "slow", "techno")
LAST = {"musicnn": "dense2", "choi_fcn": "dense", "choi_crnn": "dense"}


def their_filters() -> torch.Tensor:
    """Return HTK mel filters of height 1 as torchaudio makes them, shape (n_bins, n_mels)."""
    ours = filter_banks(PUBLISHED_FEATURES).mel
    corners = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1 + 8_000 / 700), 98) / 2595.0) - 1.0)
    return torch.from_numpy(ours.T * (corners[2:] - corners[:-2]) / 2.0).float()


def their_state(network: str) -> dict[str, Any]:
    """Return random weights under the names that the authors gave them."""
    torch.manual_seed(0)
    own = build_model(read_model_config({"name": network}), 96, 0, len(TAGS)).state_dict()
    state = {"spec.spectrogram.window": torch.hann_window(512), "spec.mel_scale.fb": their_filters()}
    for key, tensor in own.items():
        name = key.replace("spec_bn.norm.", "spec_bn.").replace("tag_head.linear", LAST[network])
        if key != "spec_bn.band_db":
            state[name] = tensor
    return state


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("network", sorted(LAST))
def test_a_bundle_answers_as_the_published_network(network: str, tmp_path: Path) -> None:
    state = their_state(network)
    write_bundle(str(tmp_path), published_bundle(saved(state), TAGS, "x.pth"))
    bundle = load_bundle(str(tmp_path))
    assert bundle.taxonomy.tags == TAGS
    assert bundle.members[0].config.name == network
    assert bundle.facts["published"] == "x.pth"
    assert bundle.features.sample_rate == 16_000
    theirs = build_model(read_model_config({"name": network}), 96, 0, len(TAGS))
    keys = set(theirs.state_dict()) - {"spec_bn.band_db"}
    theirs.load_state_dict({key: bundle.members[0].weights[key] for key in keys}, strict=False)
    # Power in their filters is that in ours times half the filter's width in Hz, and they take it in full-scale dB.
    ours = np.random.default_rng(0).uniform(-60, 0, (1, 190, 96)).astype(np.float32)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1 + 8_000 / 700), 98) / 2595.0) - 1.0)
    full_scale = ours + 10 * np.log10((corners[2:] - corners[:-2]) / 2.0)
    expected = member_outputs(theirs, [full_scale.astype(np.float32)])
    found = member_outputs(bundle.build_members()[0], [ours])
    np.testing.assert_allclose(found.tag_logits, expected.tag_logits, atol=1e-3)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-3)


@pytest.mark.parametrize("level", [0.02, 0.9])
def test_audio_at_any_level_is_what_their_own_spectrogram_gives(level: float) -> None:
    features = PUBLISHED_FEATURES.model_copy(update={"window_seconds": 3.0, "max_windows": 2})
    samples = np.float32(level) * music(3.0, 16_000)
    track = extract(encode(samples, 16_000, "wav", subtype="FLOAT"), features, DecodeConfig()).as_stored()
    state = their_state("musicnn")
    bundle = published_bundle(saved(state), TAGS, "x.pth")
    frames = torch.stft(
        torch.from_numpy(samples), 512, 256, window=torch.hann_window(512), pad_mode="reflect", return_complex=True
    )
    power = (frames.abs().square().T @ state["spec.mel_scale.fb"]).clamp(min=1e-10)  # torchaudio's AmplitudeToDB
    theirs = 10.0 * power.log10().numpy()
    ours = (track.log_mel[0].astype(np.float32) + bundle.members[0].weights["spec_bn.band_db"].numpy()).clip(-100)
    np.testing.assert_allclose(ours, theirs, atol=0.07)  # half precision


class Harmful:
    """A pickle that would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (exec, (f"open({str(self.path)!r}, 'w')",))


def test_a_pickle_that_executes_is_refused_and_does_not(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for data in (pickle.dumps(Harmful(mark), protocol=2), saved({"spec_bn.weight": Harmful(mark)})):
        with pytest.raises(BundleError, match="no file of tensors"):
            published_bundle(data, TAGS, "x.pth")
    assert not mark.exists()


def test_other_networks_spectrograms_and_numbers_of_tags_are_refused() -> None:
    state = their_state("choi_fcn")
    with pytest.raises(BundleError, match="no network known here"):
        published_bundle(saved({"linear.weight": torch.zeros(2, 2)}), TAGS, "x.pth")
    with pytest.raises(BundleError, match="another spectrogram"):
        published_bundle(saved({**state, "spec.mel_scale.fb": torch.rand(257, 96)}), TAGS, "x.pth")
    with pytest.raises(BundleError, match="tag_head"):
        published_bundle(saved(state), (*TAGS, "more"), "x.pth")
    with pytest.raises(BundleError, match="more than tensors"):
        published_bundle(saved({"epoch": 3}), TAGS, "x.pth")
    with pytest.raises(BundleError, match="no file of tensors"):
        published_bundle(b"no pickle", TAGS, "x.pth")


def test_the_command_takes_a_list_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(saved(their_state("choi_fcn")))
    (tmp_path / "tags.json").write_text(json.dumps({"mtat": list(TAGS), "msd": ["a", "b"]}))
    arguments = [str(tmp_path / "x.pth"), "--tags", str(tmp_path / "tags.json"), "-o", str(tmp_path / "bundle")]
    app = build_app("import-weights")
    missing = CliRunner().invoke(app, ["import-weights", *arguments])
    assert isinstance(missing.exception, ConfigError)
    assert "--tag-set" in str(missing.exception)
    done = CliRunner().invoke(app, ["import-weights", *arguments, "--tag-set", "mtat"])
    assert done.exit_code == 0, done.output
    assert "choi_fcn" in done.output
    assert load_bundle(str(tmp_path / "bundle")).taxonomy.tags == TAGS


@pytest.mark.parametrize("name", ["mtat/musicnn", "msd/fcn", "jamendo/crnn"])
def test_the_published_files_are_taken_whole(name: str, shared_data: Path) -> None:
    folder = shared_data / "peer-weights"
    tags = tuple(json.loads((folder / "tags.json").read_text())[name.split("/")[0]])
    contents = published_bundle((folder / f"{name}.pth").read_bytes(), tags, name)
    assert len(contents.taxonomy.tags) == 50
    assert contents.members[0].weights["spec_bn.band_db"][0] == pytest.approx(12.71, abs=0.01)
