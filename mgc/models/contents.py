"""What a bundle holds, and what of it decides its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mgc import __version__
from mgc.config import FeatureConfig, FitConfig, ModelConfig, TrainingConfig, fingerprint_of
from mgc.config.taxonomy import Taxonomy
from mgc.errors import BundleError
from mgc.models.bundle_files import FORMAT_VERSION
from mgc.models.calibration import TemperatureScaling
from mgc.models.ensemble import Decision
from mgc.models.network_registry import build_model
from mgc.models.served import served
from mgc.models.weights import Weights

FIT_SETTINGS = set(FitConfig.model_fields)


@dataclass(frozen=True)
class Member:
    """One network of the ensemble: architecture, weights and temperatures."""

    config: ModelConfig
    weights: Weights
    calibration: TemperatureScaling


@dataclass(frozen=True)
class BundleContents:
    """What a bundle holds.

    Parameters
    ----------
    members
        At least one.
    features
        Features that the members take.
    taxonomy
        What they answer.
    training
        How they were fitted.
    metrics
        Validation figures: `members`, a list, and `ensemble`, each name → number or None.
    facts
        What is known of the training data; JSON-ready.
    decision
        How the members' predictions become answers.
    """

    members: tuple[Member, ...]
    features: FeatureConfig
    taxonomy: Taxonomy
    training: TrainingConfig
    metrics: dict[str, Any]
    facts: dict[str, Any]
    decision: Decision = field(default_factory=Decision, kw_only=True)

    def __post_init__(self) -> None:
        if not self.members:
            raise BundleError("a model bundle needs at least one member", "train it anew")


@dataclass(frozen=True)
class Bundle(BundleContents):
    """A bundle as it was read.

    Parameters
    ----------
    uri
        Where it lies.
    fingerprint
        16 hex digits of all that decides its answers.
    mgc_version, created_at
        What wrote it, and when (ISO 8601, UTC).
    """

    uri: str
    fingerprint: str
    mgc_version: str
    created_at: str

    def build_members(self, device: str = "cpu") -> list[nn.Module]:
        """Return the networks with their weights, ready to answer."""
        return [served(build_member(member, self.features, self.taxonomy, device)) for member in self.members]


def build_member(member: Member, features: FeatureConfig, taxonomy: Taxonomy, device: str = "cpu") -> nn.Module:
    """Return a member's network with its weights, in evaluation mode."""
    model = build_model(member.config, features.n_mels, len(taxonomy.genres), len(taxonomy.tags))
    model.load_state_dict(member.weights)
    return model.to(device).eval()


def member_file(number: int) -> str:
    """Return the name of a member's weights in its bundle."""
    return f"member-{number}.safetensors"


def describe(contents: BundleContents, fingerprint: str, created_at: str) -> dict[str, Any]:
    """Return the content of `bundle.json`."""
    return {
        "mgc_version": __version__,
        "created_at": created_at,
        "fingerprint": fingerprint,
        "members": [
            {**entry, "training": contents.training.for_member(number).model_dump(mode="json", include=FIT_SETTINGS)}
            for number, entry in enumerate(_describe_members(contents))
        ],
        "decision": contents.decision.to_dict(),
        "features": contents.features.model_dump(mode="json"),
        "feature_fingerprint": contents.features.fingerprint(),
        "taxonomy": contents.taxonomy.to_dict(),
        "training": contents.training.model_dump(mode="json"),
        "metrics": contents.metrics,
        "facts": contents.facts,
    }


def _describe_members(contents: BundleContents) -> list[dict[str, Any]]:
    return [
        {
            "file": member_file(number),
            "model": member.config.model_dump(mode="json"),
            "calibration": member.calibration.to_dict(),
        }
        for number, member in enumerate(contents.members)
    ]


def answer_fingerprint(contents: BundleContents, weight_hashes: list[str]) -> str:
    """Return what changes when, and only when, the answers may: not with the date, the figures or the card."""
    facts = {
        "format_version": FORMAT_VERSION,
        "weights": weight_hashes,
        "members": _describe_members(contents),
        "features": contents.features.fingerprint(),
        "taxonomy": contents.taxonomy.to_dict(),
    }
    if contents.decision != Decision():  # bundles of before there were any keep their names
        facts["decision"] = contents.decision.to_dict()
    return fingerprint_of(facts)
