"""Members on published weights: the bridge beside the real spectrogram, frozen layers, bundles that need no other."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch
from model_makers import FEATURES, TAXONOMY, TRAINING, feature_set, write_published
from torch import nn

from mgc.audio.features import filter_banks as bank_module
from mgc.audio.features.filter_banks import filter_banks, hold
from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.config import Config, FeatureConfig, ModelConfig, TrainingConfig, load_config, read_model_config
from mgc.config.network_settings import TransferConfig
from mgc.config.settings import to_toml, with_settings
from mgc.config.view_settings import CLEAN
from mgc.errors import BundleError, ConfigError, TrainingError
from mgc.models.bundle import build_member, load_bundle, write_bundle
from mgc.models.forward import member_outputs
from mgc.models.layers import in_segments
from mgc.models.network_registry import build_model
from mgc.models.published_networks import LAYER_CHANNELS
from mgc.models.published_weights import (
    PUBLISHED_FEATURES,
    published_banks,
    published_facts,
    published_of,
    start_model,
)
from mgc.models.transfer import ADAPTED_AT_ONCE, FEWEST_TO_ADAPT, MelBridge, Transfer
from mgc.training.assemble import assemble
from mgc.training.cached_statistics import adapted_norms
from mgc.training.loop import fit

NETWORKS = sorted(LAYER_CHANNELS)


def transfer(network: str, place: str, **changes: object) -> TransferConfig:
    config = read_model_config({"name": "transfer", "network": network, "published": place, **changes})
    assert isinstance(config, TransferConfig)
    return config


def log_mel(samples: npt.NDArray[np.float32], features: FeatureConfig) -> torch.Tensor:
    """Return dB below the maximum, (1, n_frames, n_mels), by librosa's spectrogram and mgc's filters."""
    power = np.abs(librosa.stft(samples, n_fft=features.n_fft, hop_length=features.hop_length)) ** 2
    mel = filter_banks(features).mel @ power
    return torch.from_numpy(librosa.power_to_db(mel, ref=np.max, top_db=features.top_db).T.copy())[None].float()


def test_the_bridge_comes_near_the_spectrogram_that_the_published_networks_were_trained_on() -> None:
    # Noise that swells and falls off by 6 dB an octave: a pure tone's level depends on the frame's length.
    noise = np.random.default_rng(0).standard_normal(88_200) * (1.2 + np.sin(np.arange(88_200) / 5_000))
    samples = scipy.signal.lfilter([1.0], [1.0, -0.97], noise).astype(np.float32)
    theirs = log_mel(librosa.resample(samples, orig_sr=22_050, target_sr=16_000), PUBLISHED_FEATURES)
    bridge = MelBridge(128, 96)
    bridge.join(FeatureConfig(), PUBLISHED_FEATURES)
    bridged = bridge(log_mel(samples, FeatureConfig()))
    assert abs(bridged.shape[1] - theirs.shape[1]) <= 2
    frames = min(bridged.shape[1], theirs.shape[1])
    ours, truth = bridged[0, :frames].numpy(), theirs[0, :frames].numpy()
    assert np.corrcoef(ours.mean(axis=0), truth.mean(axis=0))[0, 1] > 0.99
    assert np.corrcoef(ours.mean(axis=1), truth.mean(axis=1))[0, 1] > 0.99
    difference = ours - truth
    assert np.abs(difference.mean(axis=0) - difference.mean()).mean() < 1.0  # dB, but for the level of the maximum
    assert abs(difference.mean()) < 8.0


def test_the_bridge_leaves_their_own_spectrogram_as_it_is() -> None:
    bridge = MelBridge(96, 96)
    bridge.join(PUBLISHED_FEATURES, PUBLISHED_FEATURES)
    frames = torch.rand(2, 30, 96) * -80
    torch.testing.assert_close(bridge(frames), frames)


def test_frames_are_repeated_or_joined_by_lines_where_ours_are_fewer() -> None:
    slow = PUBLISHED_FEATURES.model_copy(update={"hop_length": 1_024})
    steps = torch.tensor([-80.0, 0.0, -40.0])[None, :, None].expand(1, 3, 96)
    nearest, linear = (MelBridge(96, 96, how) for how in ("nearest", "linear"))
    for bridge in (nearest, linear):
        bridge.join(slow, PUBLISHED_FEATURES)
    assert nearest(steps)[0, :, 5].tolist() == [-80.0] * 4 + [0.0] * 4 + [-40.0] * 4
    assert linear(steps)[0, :, 5].tolist() == pytest.approx(
        [-80, -80, -70, -50, -30, -10, -5, -15, -25, -35, -40, -40]
    )


def test_a_bundle_of_before_answers_as_it_did_under_its_fingerprint(tmp_path: Path) -> None:
    place = write_published(tmp_path / "published", "choi_fcn")
    before = transfer("choi_fcn", place, embedding_size=8, upsampling="linear", adapt_norms=False)
    torch.manual_seed(0)
    weights = dict(start_model(before, FEATURES, TAXONOMY).state_dict())
    settings = Config(training=TRAINING.model_copy(update={"members": 1}), model=before)
    tracks = feature_set(12, seed=9)
    fingerprint = write_bundle(str(tmp_path / "b"), assemble([weights], tracks, TAXONOMY, settings, FEATURES, {}))
    named = json.loads((tmp_path / "b" / "bundle.json").read_text())["members"][0]["model"]
    assert not {"upsampling", "adapt_norms", "onnx"} & set(named), "as bundles were before there were these settings"
    old = load_bundle(str(tmp_path / "b"))
    assert old.fingerprint == fingerprint
    assert old.members[0].config == replace_place(before)
    own, new = (
        member_outputs(build_member(replace(old.members[0], config=config), FEATURES, TAXONOMY), tracks.log_mels)
        for config in (before, transfer("choi_fcn", place, embedding_size=8))
    )
    assert not np.allclose(own.genre_logits, new.genre_logits), "a new one repeats frames"


def test_twice_the_frame_rate_becomes_half_as_many_frames() -> None:
    bridge = MelBridge(96, 96)
    bridge.join(PUBLISHED_FEATURES.model_copy(update={"hop_length": 128}), PUBLISHED_FEATURES)
    slope = torch.arange(80.0)[None, :, None].expand(1, 80, 96) - 80.0
    layer_values = bridge(slope)
    assert layer_values.shape == (1, 40, 96)
    torch.testing.assert_close(layer_values[0, 10:30, 5].diff(), torch.full((19,), 2.0))


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_those_that_the_network_answers_from(network: str) -> None:
    model = build_model(read_model_config({"name": network}), 96, 0, 2).eval()
    with torch.no_grad():
        layers = model.layer_outputs(torch.rand(2, 200, 96) * -80)  # type: ignore[operator]
    assert tuple(layer.shape[1] for layer in layers) == LAYER_CHANNELS[network]
    assert all(bool(torch.isfinite(layer).all()) for layer in layers)


@pytest.mark.parametrize("network", NETWORKS)
def test_statistics_are_the_mean_the_maximum_and_the_deviation_of_each_channel(network: str, tmp_path: Path) -> None:
    config = transfer(network, write_published(tmp_path, network))
    model = start_model(config, PUBLISHED_FEATURES, TAXONOMY)
    assert isinstance(model, Transfer)
    windows = torch.rand(2, 374, 96) * -80
    published = build_model(read_model_config({"name": network}), 96, 0, 2).eval()
    published.load_state_dict(load_bundle(str(tmp_path)).members[0].weights)
    parts = windows.split(187, dim=1) if network == "musicnn" else [windows]
    with torch.no_grad():
        layer_values = [published.layer_outputs(part)[0].flatten(2) for part in parts]  # type: ignore[operator]
        found = model.statistics(windows)[:, : 3 * layer_values[0].shape[1]]
    expected = sum(
        torch.cat([one.mean(2), one.amax(2), one.std(2, correction=0)], dim=1) for one in layer_values
    ) / len(layer_values)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_norms_are_adapted_as_a_training_pass_would_without_momentum(network: str, tmp_path: Path) -> None:
    place = write_published(tmp_path, network)
    tracks = feature_set(20)
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    norms = adapted_norms(transfer(network, place), tracks)
    assert torch.equal(torch.rand(1), drawn), "a fit's random numbers are its own"
    assert norms
    windows = [tracks.log_mels[row][1] for row in np.random.default_rng(0).permutation(20)]  # the middle one
    expected = start_model(transfer(network, place), FEATURES, TAXONOMY)
    assert isinstance(expected, Transfer)
    published = expected.statistics.norms()
    counts: dict[str, int] = {}
    for name, norm in expected.statistics.network.named_modules():
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        norm.register_forward_pre_hook(
            lambda norm, inputs, name=name: counts.update({name: inputs[0].numel() // norm.num_features})
        )
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    n_batches = -(-len(windows) // ADAPTED_AT_ONCE)
    with torch.no_grad():
        for first in range(n_batches):
            frames = expected.statistics.bridge(torch.from_numpy(np.stack(windows[first::n_batches])).float())
            if network == "musicnn":
                frames = in_segments(frames, 187).flatten(0, 1)
            expected.statistics.network.layer_outputs(frames)  # type: ignore[operator]
    for name, values in expected.statistics.norms().items():
        if network == "musicnn" and name.startswith("bn."):  # of the dense layer, which gives no statistics
            np.testing.assert_array_equal(norms[name], published[name])
            continue
        assert np.abs(norms[name] - published[name]).max() > 1e-3, name
        module, _, which = name.rpartition(".")
        n = counts[module] if which == "running_var" else math.inf
        unbiased = norms[name] if n == math.inf else norms[name] * n / (n - 1)  # as `BatchNorm` keeps it
        np.testing.assert_allclose(unbiased, values, rtol=2e-3, atol=1e-4, err_msg=name)


def test_adapted_norms_travel_into_the_bundle_and_are_the_same_whenever_they_are_made(tmp_path: Path) -> None:
    config = transfer("choi_fcn", write_published(tmp_path / "published", "choi_fcn"), embedding_size=8)
    train, valid = feature_set(24), feature_set(12, seed=9)
    norms = adapted_norms(config, train)
    assert norms
    again = adapted_norms(config, train)
    assert again
    assert all(np.array_equal(values, again[name]) for name, values in norms.items())
    torch.manual_seed(0)
    model = start_model(config, FEATURES, TAXONOMY, norms=pickle.loads(pickle.dumps(norms)))
    fitted = fit(model, train, valid, TAXONOMY, TRAINING, seed=0)
    settings = Config(training=TRAINING.model_copy(update={"members": 1}), model=config)
    write_bundle(str(tmp_path / "b"), assemble([fitted.best_weights], valid, TAXONOMY, settings, FEATURES, {}))
    (member,) = load_bundle(str(tmp_path / "b")).members
    for name, values in norms.items():
        np.testing.assert_array_equal(member.weights[f"statistics.network.{name}"], values)


def test_norms_stay_where_they_should(tmp_path: Path) -> None:
    config = transfer("choi_fcn", write_published(tmp_path, "choi_fcn"))
    assert adapted_norms(config.model_copy(update={"adapt_norms": False}), feature_set(24)) is None
    assert adapted_norms(read_model_config({"name": "crnn"}), feature_set(24)) is None
    assert adapted_norms(config, feature_set(FEWEST_TO_ADAPT - 1)) == {}
    few = start_model(config, FEATURES, TAXONOMY, norms={})
    published = load_bundle(str(tmp_path)).members[0].weights
    assert isinstance(few, Transfer)
    for name, values in few.statistics.norms().items():
        np.testing.assert_array_equal(values, published[name])


def test_settings_of_transfer_survive_whatever_reads_them_again(tmp_path: Path) -> None:
    entry = {"name": "transfer", "network": "choi_fcn", "published": str(tmp_path)}
    for changes in ({}, {"adapt_norms": False, "upsampling": "linear"}):
        config = Config(training=TrainingConfig.model_validate({"ensemble": [entry | changes]}))
        (model,) = config.member_models()
        (tmp_path / "again.toml").write_text(to_toml(config))
        again = [
            with_settings(config, {"training.learning_rate": 1e-3}),
            Config(training=TrainingConfig.model_validate(config.training.model_dump())),
            load_config(str(tmp_path / "again.toml")),
        ]
        for one in again:
            assert one.member_models() == (model,)


def test_norms_are_of_clean_views_that_are_sound(tmp_path: Path) -> None:
    config = transfer("choi_fcn", write_published(tmp_path, "choi_fcn"))
    tracks = feature_set(24)
    views = replace(tracks, views=[CLEAN if row < 12 else "louder" for row in range(24)])
    assert adapted_norms(config, views) == {}, "twelve tracks, however many views of them"
    odd = [log_mel.copy() for log_mel in tracks.log_mels]
    odd[5][:] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        adapted_norms(config, replace(tracks, log_mels=odd))
    odd[5] = odd[5][:, :-1]
    with pytest.raises(TrainingError, match="shape"):
        adapted_norms(config, replace(tracks, log_mels=odd))


def test_a_fit_leaves_the_published_network_alone_and_the_bundle_needs_no_other(tmp_path: Path) -> None:
    config = transfer("choi_fcn", write_published(tmp_path / "published", "choi_fcn"), embedding_size=8)
    torch.manual_seed(0)
    model = start_model(config, FEATURES, TAXONOMY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train, valid = feature_set(24), feature_set(12, seed=9)
    fitted = fit(model, train, valid, TAXONOMY, TRAINING, seed=0)
    for name, tensor in fitted.best_weights.items():
        assert torch.equal(tensor, before[name]) == name.startswith("statistics."), name
    assert fitted.reports[-1].train_loss < fitted.reports[0].train_loss
    (tmp_path / "published").rename(tmp_path / "gone")
    settings = Config(training=TRAINING.model_copy(update={"members": 1}), model=config)
    facts = {
        "published_weights": [{"network": "choi_fcn", "bundle": "f" * 16, "published": "fcn.pth", "sha256": "ab"}]
    }
    contents = assemble([fitted.best_weights], valid, TAXONOMY, settings, FEATURES, facts)
    write_bundle(str(tmp_path / "bundle"), contents)
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert bundle.members[0].config == replace_place(config)
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "- `choi_fcn`, from bundle `ffffffffffffffff`, file `fcn.pth`, SHA-256 `ab`" in card
    model.load_state_dict(fitted.best_weights)
    said = [member_outputs(one, valid.log_mels).genre_logits for one in (model, bundle.build_members()[0])]
    np.testing.assert_array_equal(*said)


def replace_place(config: TransferConfig) -> ModelConfig:
    return config.model_copy(update={"published": None})


def test_a_worker_that_holds_the_drivers_banks_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = transfer("choi_crnn", write_published(tmp_path / "published", "choi_crnn"))
    banks = published_banks([read_model_config({"name": "crnn"}), config], FEATURES)
    expected = start_model(config, FEATURES, TAXONOMY).statistics.bridge.bands
    assert published_banks([read_model_config({"name": "crnn"})], FEATURES) == {}
    monkeypatch.setattr(bank_module, "_held", {})
    monkeypatch.setattr(bank_module, "_cached", lambda _: pytest.fail("the worker made filter banks"))
    hold(pickle.loads(pickle.dumps(banks)))
    torch.testing.assert_close(start_model(config, FEATURES, TAXONOMY).statistics.bridge.bands, expected)


def test_places_are_absolute_and_travel_no_further_than_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = '{name = "transfer", network = "choi_crnn", published = "peers/crnn"}'
    (model,) = load_config(None, [f"training.ensemble=[{entry}]"]).member_models()
    assert isinstance(model, TransferConfig)
    assert model.published == str(tmp_path / "peers" / "crnn")
    assert transfer("choi_fcn", "s3://bucket/fcn").published == "s3://bucket/fcn"


def test_what_is_wrong_is_said_before_ray_starts(tmp_path: Path) -> None:
    fcn = write_published(tmp_path / "fcn", "choi_fcn", {"published": "fcn.pth", "sha256": "ab"})
    with pytest.raises(ConfigError, match="needs the weights of choi_fcn") as nothing:
        published_of(TransferConfig())
    assert "mgc import-weights" in nothing.value.remedy
    with pytest.raises(ConfigError, match="holds choi_fcn, not the published musicnn"):
        published_of(transfer("musicnn", fcn))
    with pytest.raises(BundleError, match="nowhere"):
        published_of(transfer("choi_fcn", str(tmp_path / "nowhere")))
    (facts,) = published_facts((transfer("choi_fcn", fcn), transfer("choi_fcn", fcn), Config().model))
    assert facts == {
        "network": "choi_fcn",
        "bundle": load_bundle(fcn).fingerprint,
        "published": "fcn.pth",
        "sha256": "ab",
    }


def test_training_is_refused_without_the_weights(trained_inputs: TrainingRequest) -> None:
    lost = replace(trained_inputs, config=Config(model=TransferConfig()))
    with pytest.raises(ConfigError, match="needs the weights of choi_fcn"):
        train_ensemble(lost)


@pytest.fixture
def trained_inputs(tmp_path: Path) -> TrainingRequest:
    """Return a request whose other parts nobody reads before the weights."""
    return TrainingRequest(str(tmp_path / "c.parquet"), str(tmp_path / "f"), str(tmp_path / "b"), Config())
