"""Published weights of FCN, CRNN and musicnn as a model bundle, and networks that a fit begins upon them.

Won et al. (2020), "Evaluation of CNN-based Automatic Music Tagging Models",
https://github.com/minzwon/sota-music-tagging-models: state dicts of PyTorch, read by `torch.load(weights_only=True)`,
which builds tensors and executes nothing. They become safetensors in a bundle like any other: it tags with the 50
tags the weights were trained on, and its embeddings are those of a frozen network.

Their spectrogram is a layer of theirs and left out here; `mgc extract` computes it. It differs in scale alone: their
mel filters are of equal height, ours of equal area, which the filters that travel with the weights set right. They
take dB relative to full scale, as `features.reference` of such a bundle says. For a member upon log-mels that are
relative to the track's maximum (`transfer`) a typical maximum is taken, `REFERENCE_DB`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from mgc.audio.features.filter_banks import FilterBanks, filter_banks
from mgc.config import FeatureConfig, ModelConfig, TrainingConfig, read_model_config
from mgc.config.network_settings import OnnxConfig, TransferConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError, ConfigError, FingerprintError
from mgc.models.bundle import Bundle, BundleContents, Member, Weights, check_weights, load_bundle
from mgc.models.ensemble import TemperatureScaling
from mgc.models.network_registry import build_model
from mgc.models.onnx_network import OnnxNetwork
from mgc.models.published_files import LICENCE, PublishedFile
from mgc.models.transfer import Norms, Transfer

REFERENCE_DB = 12.0
"""Typical maximum of a recording in our mel bands, dB relative to full scale (median of 60 files; 5 to 22)."""
FILTERS = "spec.mel_scale.fb"
SPECTROGRAM = "spec."
LAST_LAYERS = ("dense", "dense2")
"""Names, in the published networks, of the layer from the embedding to the tags: the last present of these."""
FILTER_TOLERANCE = 1e-3
"""Largest difference of their filters, of height 1, from ours scaled to that."""

PUBLISHED_FEATURES = FeatureConfig(
    sample_rate=16_000,
    n_fft=512,
    hop_length=256,
    n_mels=96,
    f_max=8_000.0,
    mel_scale="htk",
    top_db=130.0,
    reference="full_scale",
    padding="reflect",
)
"""16 kHz, 96 HTK mel bands, 62.5 frames a second."""
WINDOWS = {"musicnn": (3.0, 10), "choi_fcn": (29.0, 2), "choi_crnn": (29.0, 2)}
"""Seconds that each network was given at once in training, and windows of a track here."""
HEADS = ("genre_head.", "tag_head.")
PROVENANCE = ("published", "sha256", "source", "licence")
"""Facts by which a bundle of published weights names its file."""


def pulled_contents(file: PublishedFile, data: bytes) -> BundleContents:
    """Return the bundle of a published network from the content of its file."""
    contents = published_bundle(data, file.tags, f"{file.name}.pth")
    return replace(contents, facts={**contents.facts, "source": file.url, "licence": LICENCE})


def published_bundle(data: bytes, tags: tuple[str, ...], name: str) -> BundleContents:
    """Return a bundle of one frozen member from a published state dict.

    Parameters
    ----------
    data
        Content of the `.pth` file.
    tags
        In the order of the network's outputs.
    name
        Of the file, for messages and the card.

    Raises
    ------
    BundleError
        The file holds more than tensors, or is of another network or of another number of tags.
    """
    state = _state(data, name)
    network = _network(state, name)
    seconds, windows = WINDOWS[network]
    features = PUBLISHED_FEATURES.model_copy(update={"window_seconds": seconds, "max_windows": windows})
    taxonomy = Taxonomy((), tags)
    config = read_model_config({"name": network})
    weights = _renamed(state, features)
    check_weights(weights, config, features.n_mels, taxonomy, name)
    member = Member(config, weights, TemperatureScaling())
    facts = {"published": name, "sha256": hashlib.sha256(data).hexdigest()}
    return BundleContents((member,), features, taxonomy, TrainingConfig(members=1), {}, facts)


def start_model(
    config: ModelConfig,
    features: FeatureConfig,
    taxonomy: Taxonomy,
    published: Mapping[str, str] | None = None,
    norms: Norms | None = None,
) -> nn.Module:
    """Return a network with fresh weights from torch's global generator, upon published ones where it has any.

    Parameters
    ----------
    config
        Architecture and sizes.
    features
        Features that it will take.
    taxonomy
        What it will answer.
    published
        `published_fingerprints` that a run began with, where this is another process of it.
    norms
        `adapted_norms` of the tracks to train on; None: the batch norms stay as published.

    Raises
    ------
    ConfigError, BundleError, FingerprintError
        See `published_of`.
    """
    bundle = None
    if isinstance(config, TransferConfig):
        bundle = published_of(config, (published or {}).get(config.published or ""))
        config = _with_contract(config, bundle)
    waveform = features.content == "waveform"
    _require_input(config, bundle, features)
    model = build_model(config, features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    if bundle is not None and isinstance(model, Transfer):
        frozen = {name: tensor for name, tensor in bundle.members[0].weights.items() if not name.startswith(HEADS)}
        network = model.statistics.network
        network.load_state_dict(frozen)
        if not waveform:
            if features.reference != bundle.features.reference:
                bands = network if isinstance(network, OnnxNetwork) else network.spec_bn
                bands.band_db += REFERENCE_DB
            model.statistics.bridge.join(features, bundle.features)
        model.statistics.set_norms(norms or {})
    return model


def _require_input(config: ModelConfig, bundle: Bundle | None, features: FeatureConfig) -> None:
    """Refuse waveforms where a network does not take them."""
    own = bundle is not None and bundle.features.fingerprint() == features.fingerprint()
    if features.content == "waveform" and not own:
        raise FingerprintError(
            f"features {features.fingerprint()} are waveforms, which network '{config.name}' does not take",
            "train transfer members of network onnx on them, upon the bundle whose features they are",
        )


def _with_contract(config: TransferConfig, bundle: Bundle) -> TransferConfig:
    """Return a member's settings with those of the ONNX network that it builds on."""
    own = bundle.members[0].config
    return config.model_copy(update={"onnx": own}) if isinstance(own, OnnxConfig) else config


def published_of(config: TransferConfig, fingerprint: str | None = None) -> Bundle:
    """Return the bundle that has a frozen network's weights, every byte of it checked.

    Raises
    ------
    FingerprintError
        It is another than that of the fingerprint given.
    ConfigError
        The settings name none, or one of another network.
    BundleError
        There is none, or it was changed.
    """
    if config.published is None:
        raise ConfigError(
            f"a member of network 'transfer' needs the weights of {config.network}",
            "give the name of `mgc models`, or the bundle of `mgc import-weights` or `import-onnx`, that has them: "
            f'{{ name = "transfer", network = "{config.network}", published = "NAME" }}',
        )
    bundle = load_bundle(config.published, fingerprint)
    names = [member.config.name for member in bundle.members]
    own = bundle.members[0].config
    plain = isinstance(own, OnnxConfig) or own == type(own)()
    if names != [config.network] or not plain:
        raise ConfigError(
            f"'{config.published}' holds {', '.join(names)}, not the published {config.network}",
            "name one of `mgc models` or a bundle of `mgc import-weights` or `mgc import-onnx`, and its network as "
            "`network`",
        )
    return bundle


def published_banks(models: Sequence[ModelConfig], features: FeatureConfig) -> dict[FeatureConfig, FilterBanks]:
    """Return the filter banks that `start_model` needs, so that a worker can `hold` them and imports no librosa.

    Raises
    ------
    ConfigError, BundleError, FingerprintError
        See `published_of`.
    """
    bundles = [published_of(model) if isinstance(model, TransferConfig) else None for model in models]
    for model, bundle in zip(models, bundles, strict=True):
        _require_input(model, bundle, features)
    published = [bundle.features for bundle in bundles if bundle]
    return {one: filter_banks(one) for one in (features, *published)} if published else {}


def published_fingerprints(models: Iterable[ModelConfig]) -> dict[str, str]:
    """Return the fingerprint of each bundle of published weights that networks are built on, by where it is.

    Raises
    ------
    ConfigError, BundleError
        See `published_of`.
    """
    return {
        str(model.published): published_of(model).fingerprint for model in models if isinstance(model, TransferConfig)
    }


def published_facts(models: tuple[ModelConfig, ...]) -> list[dict[str, str]]:
    """Return what networks with published weights build on, each once, as a bundle's facts name it.

    Raises
    ------
    ConfigError, BundleError
        See `published_of`.
    """
    found: dict[str, dict[str, str]] = {}
    for model in models:
        if isinstance(model, TransferConfig):
            bundle = published_of(model)
            facts: dict[str, str] = {"network": model.network, "bundle": bundle.fingerprint}
            facts |= {key: str(bundle.facts[key]) for key in PROVENANCE if key in bundle.facts}
            found[bundle.fingerprint] = facts
    return [found[fingerprint] for fingerprint in sorted(found)]


def without_published_path(model: ModelConfig) -> ModelConfig:
    """Return settings that do not say where published weights were read: a trained network has them in it."""
    if not isinstance(model, TransferConfig):
        return model
    if model.network == "onnx" and model.onnx is None:
        model = _with_contract(model, published_of(model))
    return model.model_copy(update={"published": None})


def _state(data: bytes, name: str) -> Weights:
    try:
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BundleError(
            f"'{name}' is no file of tensors: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "only state dicts that torch reads with weights_only=True are taken; nothing in them is executed",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BundleError(f"'{name}' holds more than tensors", "save the network's state_dict() alone")
    return dict(state)


def _network(state: Weights, name: str) -> str:
    """Return which of the published networks has such tensors."""
    if FILTERS in state:
        if "dense2.weight" in state:
            return "musicnn"
        if "layer5.conv.weight" in state:
            return "choi_fcn"
        if "layer5.weight_ih_l0" in state:
            return "choi_crnn"
    raise BundleError(
        f"'{name}' is of no network known here", f"published weights of {', '.join(WINDOWS)} can be imported"
    )


def _renamed(state: Weights, features: FeatureConfig) -> Weights:
    last = next(layer for layer in reversed(LAST_LAYERS) if f"{layer}.weight" in state)
    weights: Weights = {"spec_bn.band_db": _band_db(state[FILTERS], features)}
    for key, tensor in state.items():
        layer, _, rest = key.partition(".")
        if layer == "spec_bn":
            weights[f"spec_bn.norm.{rest}"] = tensor
        elif layer == last:
            weights[f"tag_head.linear.{rest}"] = tensor
        elif not key.startswith(SPECTROGRAM):
            weights[key] = tensor
    return {key: tensor.clone().contiguous() for key, tensor in weights.items()}


def _band_db(filters: Tensor, features: FeatureConfig) -> Tensor:
    """Return what brings each of our bands to theirs, dB, shape (n_mels,)."""
    ours, theirs = filter_banks(features).mel, filters.numpy().T
    if theirs.shape == ours.shape:
        ratio = theirs.sum(axis=1) / ours.sum(axis=1)
        if np.abs(ours * ratio[:, np.newaxis] - theirs).max() < FILTER_TOLERANCE:
            return torch.from_numpy(10.0 * np.log10(ratio)).float()
    raise BundleError(
        "the weights were trained on another spectrogram than 96 HTK mel bands of 512 samples at 16 kHz",
        "only the published ones of Won et al. (2020) can be imported",
    )
