"""Networks as a fit begins with them: fresh weights, and those of others where a network builds on them."""

from __future__ import annotations

from torch import nn

from mgc.config import FeatureConfig, ModelConfig
from mgc.config.network_settings import TransferConfig
from mgc.config.taxonomy import Taxonomy
from mgc.errors import ConfigError
from mgc.models.bundle import Bundle, load_bundle
from mgc.models.network_registry import build_model
from mgc.models.transfer import Transfer

HEADS = ("genre_head.", "tag_head.")
PROVENANCE = ("published", "sha256")
"""What a bundle of `mgc import-weights` tells of its file."""


def start_model(config: ModelConfig, features: FeatureConfig, taxonomy: Taxonomy) -> nn.Module:
    """Return a network with fresh weights from torch's global generator, upon published ones where it has any.

    Parameters
    ----------
    config
        Architecture and sizes.
    features
        Features that it will take.
    taxonomy
        What it will answer.

    Raises
    ------
    ConfigError, BundleError
        See `published_of`.
    """
    model = build_model(config, features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    if isinstance(config, TransferConfig) and isinstance(model, Transfer):
        bundle = published_of(config)
        member = bundle.members[0]
        frozen = {name: tensor for name, tensor in member.weights.items() if not name.startswith(HEADS)}
        model.statistics.network.load_state_dict(frozen)
        model.statistics.bridge.join(features, bundle.features)
    return model


def published_of(config: TransferConfig) -> Bundle:
    """Return the bundle that has a frozen network's weights, every byte of it checked.

    Raises
    ------
    ConfigError
        The settings name none, or one of another network.
    BundleError
        There is none, or it was changed.
    """
    if config.published is None:
        raise ConfigError(
            f"a member of network 'transfer' needs the weights of {config.network}",
            "import them (`mgc import-weights`), and name the bundle: "
            f'{{ name = "transfer", network = "{config.network}", published = "BUNDLE" }}',
        )
    bundle = load_bundle(config.published)
    names = [member.config.name for member in bundle.members]
    plain = bundle.members[0].config == type(bundle.members[0].config)()
    if names != [config.network] or not plain:
        raise ConfigError(
            f"'{config.published}' holds {', '.join(names)}, not the published {config.network}",
            "name a bundle of `mgc import-weights`, and its network as `network`",
        )
    return bundle


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
    return model.model_copy(update={"published": None}) if isinstance(model, TransferConfig) else model
