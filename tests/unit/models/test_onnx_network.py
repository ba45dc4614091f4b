"""Networks of others as ONNX files: the answers of the torch network that was exported, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_samples import music
from model_makers import FEATURES, TAXONOMY, TRAINING, feature_set
from onnx_makers import (
    MEL,
    MEL_NETWORK,
    N_MELS,
    RATE,
    SECONDS,
    SOUND_NETWORK,
    TAGS,
    WAVEFORM,
    Function,
    OfMels,
    OfSound,
    contract_of,
    exported,
    imported,
)
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from mgc.audio.decode.sndfile import encode
from mgc.audio.features.analysis import REST_SCALE, Analysis
from mgc.audio.features.filter_banks import filter_banks
from mgc.cli.app import build_app
from mgc.config import FeatureConfig, FitConfig
from mgc.config.feature_settings import WAVEFORM_ROW
from mgc.config.network_settings import CrnnConfig, OnnxConfig, TransferConfig
from mgc.errors import (
    BundleError,
    ConfigError,
    DeviceError,
    FingerprintError,
    MgcError,
    TrackCode,
    TrackError,
    TrainingError,
)
from mgc.inference.predictor import Predictor
from mgc.models import onnx_network
from mgc.models.bundle import BundleContents, Member, build_member, load_bundle, write_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.models.forward import member_outputs
from mgc.models.onnx_import import read_contract
from mgc.models.onnx_network import OnnxNetwork, checked_graph
from mgc.models.published_files import published_file
from mgc.models.published_weights import published_banks, pulled_contents, start_model, without_published_path
from mgc.training.loop import fit

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class WithSpectrogram(nn.Module):
    """Samples to logits through a spectrogram inside of the graph, as those who export EfficientAT have it."""

    def forward(self, samples: Tensor) -> Tensor:
        spectrum = torch.stft(samples, 512, 320, window=torch.hann_window(512), return_complex=False)
        power = spectrum.square().sum(-1)[:, 1:241].reshape(len(samples), 3, 80, -1).mean(2)
        return torch.log(power + 1e-5).mean(2) / 5.0


def mel_bundle(frames: int = 188) -> BundleContents:
    data = exported(OfMels(), torch.zeros(2, frames, N_MELS))
    return imported(data, contract_of(data, MEL, MEL_NETWORK, tags=TAGS))


def sound_bundle() -> BundleContents:
    data = exported(OfSound(), torch.zeros(2, 48_000))
    return imported(data, contract_of(data, WAVEFORM, SOUND_NETWORK, genres=["a", "b", "c"]))


def written(folder: Path, data: bytes, values: dict[str, Any]) -> list[str]:
    """Write model and contract; return the arguments of their import."""
    import tomli_w

    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    (folder / "contract.toml").write_text(tomli_w.dumps(values))
    return [
        "import-onnx",
        str(folder / "model.onnx"),
        "--contract",
        str(folder / "contract.toml"),
        "-o",
        f"{folder}/b",
    ]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(arguments[0]), list(arguments))


def tagged(folder: Path, samples: np.ndarray[Any, Any]) -> Any:
    (folder / "song.wav").write_bytes(encode(samples, RATE, "wav", subtype="FLOAT"))
    done = call("tag", f"{folder}/song.wav", "-b", f"{folder}/b", "--json", "--embedding")
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1])


def unit(vector: Tensor) -> list[float]:
    return (vector / vector.norm()).tolist()


def test_a_network_on_mels_tags_as_the_one_that_was_exported(tmp_path: Path) -> None:
    network, samples = OfMels(), music(SECONDS, RATE)
    data = exported(network, torch.zeros(2, 188, N_MELS))
    done = call(*written(tmp_path, data, contract_of(data, MEL, MEL_NETWORK, tags=TAGS)))
    assert done.exit_code == 0, done.output
    answer = tagged(tmp_path, samples)
    spectrum = torch.stft(
        torch.from_numpy(samples), 512, 256, window=torch.hann_window(512), pad_mode="constant", return_complex=True
    )
    mels = torch.from_numpy(filter_banks(FeatureConfig.model_validate(MEL)).mel).float() @ spectrum.abs().square()
    scores, embedding = network(torch.log10(1.0 + 10_000.0 * mels.clamp(min=1e-10)).T.unsqueeze(0))
    np.testing.assert_allclose(list(answer["tag_probabilities"].values()), scores[0].detach(), atol=1e-4)
    np.testing.assert_allclose(answer["embedding"], unit(embedding[0]), atol=2e-4)
    files = {path.name for path in (tmp_path / "b").iterdir()}
    assert files == {"README.md", "bundle.json", "manifest.json", "member-0.onnx", "member-0.safetensors"}
    assert (tmp_path / "b" / "member-0.onnx").read_bytes() == data
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["files"]["member-0.onnx"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_network_on_a_waveform_tags_as_the_one_that_was_exported(tmp_path: Path) -> None:
    network, samples = OfSound(), 0.3 * music(SECONDS, RATE)
    data = exported(network, torch.zeros(2, 48_000))
    done = call(*written(tmp_path, data, contract_of(data, WAVEFORM, SOUND_NETWORK, genres=["a", "b", "c"])))
    assert done.exit_code == 0, done.output
    answer = tagged(tmp_path, samples.astype(np.float32))
    logits, embedding = network(torch.from_numpy(samples.astype(np.float32)).unsqueeze(0))
    found = list(answer["genre_probabilities"].values())
    assert max(found) - min(found) > 0.05
    np.testing.assert_allclose(found, logits[0].softmax(0).detach(), atol=1e-4)
    np.testing.assert_allclose(answer["embedding"], unit(embedding[0]), atol=1e-4)


def test_a_spectrogram_inside_of_the_graph_needs_no_recipe(tmp_path: Path) -> None:
    network, samples = WithSpectrogram(), 0.3 * music(SECONDS, RATE)
    data = exported(network, torch.zeros(1, 48_000), any_batch=False)
    contract = contract_of(data, WAVEFORM, {"axes": ["batch", "samples"], "scores": "scores"}, genres=["a", "b", "c"])
    done = call(*written(tmp_path, data, contract))
    assert done.exit_code == 0, done.output
    found = list(tagged(tmp_path, samples.astype(np.float32))["genre_probabilities"].values())
    logits = network(torch.from_numpy(samples.astype(np.float32)).unsqueeze(0))
    assert max(found) - min(found) > 0.05
    np.testing.assert_allclose(found, logits[0].softmax(0), atol=1e-4)


def test_published_weights_answer_alike_as_onnx(shared_data: Path, tmp_path: Path) -> None:
    """Their musicnn, exported, under the contract of its own spectrogram, beside the bundle of `mgc models pull`."""
    file = published_file("jamendo-musicnn")
    contents = pulled_contents(file, (shared_data / "peer-weights" / "jamendo" / "musicnn.pth").read_bytes())
    native = build_member(contents.members[0], contents.features, contents.taxonomy)
    native.spec_bn.band_db.zero_()  # the contract's filters do that
    network = Function(lambda mels: (native(mels).tag_logits, native(mels).embedding))
    network.add_module("native", native)
    data = exported(network, torch.zeros(2, 188, N_MELS))
    features = contents.features.model_dump(mode="json", exclude_defaults=True)
    terms = {"axes": ["batch", "frames", "mels"], "filters": "height", "scores": "scores", "embedding": "embedding"}
    write_bundle(str(tmp_path / "b"), imported(data, contract_of(data, features, terms, tags=list(file.tags))))
    write_bundle(str(tmp_path / "native"), contents)
    song = next((shared_data / "free-music").glob("*.ogg"))
    answers = [
        json.loads(call("tag", str(song), "-b", str(tmp_path / bundle), "--json").output.splitlines()[-1])
        for bundle in ("b", "native")
    ]
    one, other = (np.array(list(answer["tag_probabilities"].values())) for answer in answers)
    assert one.max() > 0.1
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_waveform_survives_half_precision() -> None:
    config = FeatureConfig(
        sample_rate=8_000, content="waveform", hop_length=WAVEFORM_ROW, n_mels=2 * WAVEFORM_ROW, n_fft=512
    )
    samples = np.random.default_rng(0).normal(0, 0.1, config.window_samples).astype(np.float32)
    rows = Analysis(config).window(samples)["mel_power"].astype(np.float16).astype(np.float32)
    assert rows.shape == (config.n_frames, config.n_mels)
    back = (rows[:, :WAVEFORM_ROW] + rows[:, WAVEFORM_ROW:] / REST_SCALE).ravel()
    np.testing.assert_allclose(back[: samples.size], samples, rtol=2e-6, atol=1e-9)
    assert not back[samples.size :].any()
    samples[5] = -np.inf
    assert not np.isfinite(Analysis(config).window(samples)["mel_power"].max())
    with pytest.raises(ValueError, match="n_mels"):
        FeatureConfig(content="waveform")
    with pytest.raises(ConfigError, match="log-mels"):
        config.require_log_mels("a picture")


@pytest.mark.parametrize("activation", ["logits", "softmax"])
def test_scales_axes_lengths_and_pooling_are_those_of_the_contract(activation: str) -> None:
    """A fixed batch of 3, mels before frames behind a channel, 100 frames from the second on, several places."""

    def places(mels: Tensor) -> Tensor:  # (batch, 1, mels, frames) → (batch, places, labels)
        values = mels[:, 0].reshape(3, 4, 24, 100).mean(2).reshape(3, 4, 5, 20).mean(3).transpose(1, 2)
        return values.softmax(2) if activation == "softmax" else values

    data = exported(Function(places), torch.zeros(3, 1, N_MELS, 100), any_batch=False)
    network = {
        "axes": ["batch", "channel", "mels", "frames"],
        "scores": "scores",
        "activation": activation,
        "pooling": "max",
        "logarithm": "ln",
        "add": 1e-5,
        "mean": -4.5,
        "deviation": 5.0,
        "filters": "height",
        "first_frame": 1,
    }
    contents = imported(data, contract_of(data, MEL, network, genres=["a", "b", "c", "d"]))
    config = contents.members[0].config
    assert isinstance(config, OnnxConfig)
    assert (config.batch, config.frames, config.embedding_size) == (3, 100, 4)
    features = contents.features
    log_mel = np.random.default_rng(1).uniform(-80, 0, (7, features.n_frames, N_MELS)).astype(np.float32)
    network_of_ours = OnnxNetwork(config, N_MELS, 4, 0)
    network_of_ours.load_state_dict(contents.members[0].weights)
    found = network_of_ours(torch.from_numpy(log_mel))
    assert found.tag_logits.shape == (7, 0)
    widths = np.diff(filter_banks(features).mel_hz)
    power = 10 ** (log_mel / 10) * (widths[:-1] + widths[1:]) / 2
    theirs = torch.from_numpy((np.log(power + 1e-5) + 4.5) / 5).float()[:, 1:101].transpose(1, 2).unsqueeze(1)
    expected = torch.cat([places(theirs[start : start + 3]) for start in (0, 3)] + [places(theirs[[6, 6, 6]])[:1]])
    expected = expected.amax(1)
    expected = expected.log() if activation == "softmax" else expected
    np.testing.assert_allclose(found.genre_logits, expected, atol=1e-4)
    np.testing.assert_allclose(found.embedding, expected, atol=1e-4)


def test_a_track_gets_the_same_bits_in_any_company_on_as_many_threads_as_torch(tmp_path: Path) -> None:
    write_bundle(str(tmp_path), mel_bundle())
    bundle = load_bundle(str(tmp_path))
    (network,) = bundle.build_members()
    assert isinstance(network, OnnxNetwork)
    options = network.session(torch.device("cpu")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (torch.get_num_threads(), 1)
    rng = np.random.default_rng(0)
    tracks = [rng.uniform(-90, 0, (n, bundle.features.n_frames, N_MELS)).astype(np.float16) for n in (3, 1, 9)]
    together = member_outputs(network, tracks)
    for row, track in enumerate(tracks):
        alone = member_outputs(copy.deepcopy(network), [track])
        assert np.array_equal(alone.tag_logits[0], together.tag_logits[row])
        assert np.array_equal(alone.embeddings[0], together.embeddings[row])


def refused(data: bytes, values: dict[str, Any]) -> MgcError:
    with pytest.raises(MgcError) as error:
        imported(data, values)
    assert error.value.remedy
    return error.value


def test_a_contract_that_does_not_fit_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    data = exported(OfMels(), torch.zeros(2, 188, N_MELS))

    def said(features: dict[str, Any] | None = None, labels: list[str] = TAGS, **network: Any) -> str:
        error = refused(data, contract_of(data, MEL | (features or {}), MEL_NETWORK | network, tags=labels))
        return f"{error.code} {error.message}"

    assert "no output 'logits', but scores, embedding" in said(scores="logits")
    assert "MGC401" in said(labels=["one"])
    assert "3 scores for 1 labels" in said(labels=["one"])
    assert "3 axes, network.axes 4" in said(axes=["batch", "channel", "frames", "mels"])
    assert "takes 188 frames" in said(features={"window_seconds": 2.0})
    assert "its mels axis has 96, and not 64" in said(features={"n_mels": 64})
    assert "MGC101" in said(axes=["batch", "mels"])
    assert "unknown setting 'network.activate'" in said(activate="relu")
    assert "n_fft must be even" in said(features={"n_fft": 511})
    caplog.clear()
    imported(data, contract_of(data, MEL, MEL_NETWORK | {"activation": "logits"}, tags=TAGS))
    assert "sigmoid or softmax?" in caplog.text
    alone = {key: value for key, value in MEL_NETWORK.items() if key != "embedding"}
    logits = exported(Function(lambda mels: 9.0 * mels.mean(1)[:, :3]), torch.zeros(2, 188, N_MELS))
    assert "not between 0 and 1" in refused(logits, contract_of(logits, MEL, alone, tags=TAGS)).message
    one = exported(Function(lambda mels: mels.mean((0, 1))[None, :3]), torch.zeros(2, 188, N_MELS))
    assert "each of 4 windows" in refused(one, contract_of(one, MEL, alone, tags=TAGS)).message
    assert "named twice" in said(labels=["a", "a", "b"])
    both = contract_of(data, MEL, MEL_NETWORK, tags=TAGS, genres=["a"])
    assert "genres and tags" in refused(data, both).message
    other = contract_of(b"other", MEL, MEL_NETWORK, tags=TAGS)
    assert hashlib.sha256(data).hexdigest() in refused(data, other).message
    no_licence = contract_of(data, MEL, MEL_NETWORK, tags=TAGS)
    del no_licence["origin"]["licence"]
    assert "origin.licence is missing" in refused(data, no_licence).message
    sound = contract_of(data, WAVEFORM, MEL_NETWORK | {"axes": ["batch", "samples"]}, tags=TAGS)
    assert "3 axes, network.axes 2" in refused(data, sound).message


def test_a_graph_that_wants_more_memory_than_there_is_is_refused() -> None:
    big = onnx.helper.make_tensor("big", onnx.TensorProto.INT64, [2], [2_000_000, 2_000_000])
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Shape", ["sound"], ["shape"]),
            onnx.helper.make_node("Mul", ["shape", "big"], ["large"]),
            onnx.helper.make_node("ConstantOfShape", ["large"], ["values"]),
            onnx.helper.make_node("ReduceSum", ["values"], ["scores"], keepdims=1),
        ],
        "bomb",
        [onnx.helper.make_tensor_value_info("sound", onnx.TensorProto.FLOAT, ["batch", 48_000])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None)],
        [big],
    )
    opset = onnx.helper.make_opsetid("", 17)
    bomb = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    terms = contract_of(bomb, WAVEFORM, {"axes": ["batch", "samples"], "scores": "scores"}, tags=["a"])
    error = refused(bomb, terms)
    assert (error.code, "onnxruntime:" in error.message) == ("MGC401", True), error.message
    assert "network.axes" in str(refused(bomb, terms | {"network": {"axes": 5}}))


def with_model(data: bytes, change: Any) -> bytes:
    model = onnx.load_model_from_string(data)
    change(model)
    content: bytes = model.SerializeToString()
    return content


def test_what_is_not_data_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = exported(OfMels(), torch.zeros(2, 188, N_MELS))

    def external(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"

    def custom(model: Any) -> None:
        model.graph.node[0].domain = "com.example"

    def hidden(model: Any) -> None:
        """Put an operator of others into the branch of a condition."""
        inner = onnx.helper.make_node("Run", [], ["y"], domain="com.example")
        branch = onnx.helper.make_graph([inner], "branch", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))

    def second(model: Any) -> None:
        model.graph.input.append(onnx.helper.make_tensor_value_info("is_longer", 9, [1]))

    def double(model: Any) -> None:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    for change, reason in (
        (external, "in another file"),
        (custom, "com.example::"),
        (hidden, "com.example::Run"),
        (second, "takes 2 inputs"),
        (double, "not float32"),
    ):
        changed = with_model(data, change)
        error = refused(changed, contract_of(changed, MEL, MEL_NETWORK, tags=TAGS))
        assert (error.code, reason in error.message) == ("MGC401", True), error.message
    for broken in (b"", b"PK\x03\x04 no model", data[: len(data) // 2]):
        assert refused(broken, contract_of(broken, MEL, MEL_NETWORK, tags=TAGS)).code == "MGC401"
    good = contract_of(data, MEL, MEL_NETWORK, tags=TAGS)
    with monkeypatch.context() as patched:
        patched.setattr(onnx_network, "MAX_BYTES", 100)
        assert "bytes" in refused(data, good).message
    with monkeypatch.context() as patched:
        patched.setattr(onnx_network, "MAX_NODES", 3)
        assert "operators" in refused(data, good).message
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        error = refused(data, good)
        assert "mgc-tagger[onnx]" in error.remedy
    assert checked_graph(data, "x").graph.node


def test_a_bundle_is_looked_at_again_when_it_is_loaded(tmp_path: Path) -> None:
    contents = mel_bundle()
    write_bundle(str(tmp_path / "good"), contents)
    path = tmp_path / "good" / "member-0.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(str(tmp_path / "good"))

    def custom(model: Any) -> None:
        model.graph.node[0].domain = "com.example"

    member = contents.members[0]
    harmful = with_model(data, custom)
    config = member.config.model_copy(update={"n_bytes": len(harmful)})
    weights = member.weights | {"graph": torch.frombuffer(bytearray(harmful), dtype=torch.uint8)}
    changed = replace(contents, members=(Member(config, weights, TemperatureScaling()),))
    write_bundle(str(tmp_path / "harmful"), changed)
    with pytest.raises(BundleError, match="operator com"):
        load_bundle(str(tmp_path / "harmful"))


def nan_where(condition: Any) -> Function:
    def answer(samples: Tensor) -> Tensor:
        level = samples.abs().mean(1, keepdim=True)
        return torch.where(condition(level), torch.full_like(level, float("nan")), level).repeat(1, 2)

    return Function(answer)


def test_a_network_that_gives_nan_fails_the_track_or_the_run(tmp_path: Path) -> None:
    network = {"axes": ["batch", "samples"], "scores": "scores"}
    labels = {"genres": ["a", "b"]}
    always = exported(nan_where(lambda level: level > -1.0), torch.zeros(2, 48_000))
    assert "not finite" in refused(always, contract_of(always, WAVEFORM, network, **labels)).message
    loud = exported(nan_where(lambda level: level > 0.6), torch.zeros(2, 48_000))
    contents = imported(loud, contract_of(loud, WAVEFORM, network, **labels))
    write_bundle(str(tmp_path / "loud"), contents)
    shape = (1, contents.features.n_frames, contents.features.n_mels)
    quiet_track, loud_track = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    loud_track[..., :WAVEFORM_ROW] = 0.9
    good, bad = Predictor(load_bundle(str(tmp_path / "loud"))).predict_each([quiet_track, loud_track])
    assert not isinstance(good, TrackError)
    assert isinstance(bad, TrackError)
    assert (bad.track_code, "not finite" in bad.message) == (TrackCode.PREDICT_FAILED, True)
    config = contents.members[0].config.model_copy(update={"n_bytes": len(always)})
    weights = contents.members[0].weights | {"graph": torch.frombuffer(bytearray(always), dtype=torch.uint8)}
    write_bundle(
        str(tmp_path / "always"), replace(contents, members=(Member(config, weights, TemperatureScaling()),))
    )
    with pytest.raises(DeviceError, match="for silence, too"):
        Predictor(load_bundle(str(tmp_path / "always"))).predict_each([quiet_track])


def test_an_embedding_alone_needs_no_labels(tmp_path: Path) -> None:
    data = exported(Function(lambda mels: mels.mean(1)), torch.zeros(2, 188, N_MELS))
    network = {"axes": ["batch", "frames", "mels"], "embedding": "scores"}
    contents = imported(data, contract_of(data, MEL, network))
    write_bundle(str(tmp_path), contents)
    rows = np.random.default_rng(0).uniform(-90, 0, (2, 188, N_MELS)).astype(np.float32)
    (answer,) = Predictor(load_bundle(str(tmp_path))).predict([rows])
    mean = torch.from_numpy(rows).mean(1).mean(0)
    np.testing.assert_allclose(answer.embedding, unit(mean), atol=1e-5)
    assert (answer.genre, answer.tags) == (None, [])


def test_a_transfer_member_learns_on_its_embedding_and_carries_it(tmp_path: Path) -> None:
    write_bundle(str(tmp_path / "frozen"), mel_bundle())
    config = TransferConfig(network="onnx", published=str(tmp_path / "frozen"), embedding_size=16)
    with pytest.raises(ConfigError, match="import-onnx"):
        start_model(TransferConfig(network="onnx"), FEATURES, TAXONOMY)
    torch.manual_seed(0)
    model = start_model(config, FEATURES, TAXONOMY)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) > 0
    log_mel = np.random.default_rng(0).uniform(-80, 0, (3, FEATURES.n_frames, FEATURES.n_mels)).astype(np.float32)
    expected = member_outputs(model, [log_mel])
    bare = without_published_path(config)
    assert isinstance(bare, TransferConfig)
    assert (bare.published, bare.onnx and bare.onnx.frames) == (None, 188)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    member = Member(bare, weights, TemperatureScaling())
    write_bundle(str(tmp_path / "own"), BundleContents((member,), FEATURES, TAXONOMY, TRAINING, {}, {}))
    assert (tmp_path / "own" / "member-0.onnx").read_bytes() == (tmp_path / "frozen" / "member-0.onnx").read_bytes()
    (again,) = load_bundle(str(tmp_path / "own")).build_members()
    found = member_outputs(again, [log_mel])
    assert np.array_equal(found.genre_logits, expected.genre_logits)
    assert np.array_equal(found.embeddings, expected.embeddings)
    assert found.embeddings.shape == (1, 16)


def test_waveforms_are_for_transfer_members_on_their_own_features(tmp_path: Path) -> None:
    contents = sound_bundle()
    write_bundle(str(tmp_path), contents)
    taxonomy, rng = TAXONOMY, np.random.default_rng(0)
    config = TransferConfig(network="onnx", published=str(tmp_path), embedding_size=16)
    model = start_model(config, contents.features, taxonomy)
    shape = (2, contents.features.n_frames, contents.features.n_mels)
    rows = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    own = OnnxNetwork(contents.members[0].config, contents.features.n_mels, 0, 0)  # type: ignore[arg-type]
    own.load_state_dict(contents.members[0].weights)
    with torch.inference_mode():
        assert torch.allclose(model.statistics(torch.from_numpy(rows)), own.values_of(torch.from_numpy(rows))[1])
    tracks = replace(
        feature_set(12),
        log_mels=[rng.normal(0, 0.01 if track % 2 else 0.2, shape).astype(np.float16) for track in range(12)],
        features=contents.features,
        feature_fingerprint=contents.features.fingerprint(),
    )
    still = FitConfig(
        epochs=30,
        crop_seconds=None,
        gain_db=0.0,
        mask_frames=0,
        mask_frequency_bins=0,
        learning_rate=3e-2,
        batch_size=8,
    )
    before = model.statistics.network.graph.clone()
    fitted = fit(model, tracks, tracks, TAXONOMY, still, seed=0)
    assert max(one.valid_accuracy or 0.0 for one in fitted.reports) > 0.9, "it learns which are loud"
    assert torch.equal(fitted.state.best_weights["statistics.network.graph"], before)
    with pytest.raises(TrainingError, match="as they are"):
        fit(model, tracks, tracks, TAXONOMY, TRAINING, seed=0)
    with pytest.raises(FingerprintError, match="waveforms"):
        start_model(CrnnConfig(), contents.features, taxonomy)
    with pytest.raises(FingerprintError, match="'crnn' does not take"):  # the driver says so before any worker starts
        published_banks([config, CrnnConfig()], contents.features)
    with pytest.raises(FingerprintError, match="waveforms"):
        start_model(config, contents.features.model_copy(update={"sample_rate": 8_000}), taxonomy)


def test_the_contracts_of_the_docs_are_contracts() -> None:
    """Each is of frames as many as its network takes."""
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    blocks = re.findall(r"```toml\n(\[features\].*?)```", page, re.S)
    origin = {"sha256": "0" * 64, "licence": "MIT"}
    frames = []
    for block in blocks:
        contract = read_contract(tomllib.loads(block) | {"origin": origin}, "docs")
        own = contract.network
        there = contract.features.window_samples if own.waveform else contract.features.n_frames - own.first_frame
        assert (own.frames or 0) <= there
        frames.append(own.frames or there)
    assert frames == [188, 128, 1_001, 320_000, 624]
