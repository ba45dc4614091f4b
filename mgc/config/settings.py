"""All settings in one."""

from __future__ import annotations

from typing import Any

from pydantic import (
    model_validator,
)

from mgc.config.catalogue import CatalogueConfig
from mgc.config.feature_settings import FeatureConfig, MelsConfig
from mgc.config.job_settings import (
    STUDENT,
    ClusterConfig,
    DecodeConfig,
    DistillConfig,
    EvaluationConfig,
    LogsConfig,
    RetryConfig,
    SearchConfig,
    TaggingConfig,
)
from mgc.config.network_settings import CrnnConfig, ModelConfig
from mgc.config.section import Section
from mgc.config.training_settings import TrainingConfig
from mgc.config.view_settings import AugmentConfig


class Config(Section):
    """All settings."""

    catalogue: CatalogueConfig = CatalogueConfig()
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    mels: MelsConfig = MelsConfig()
    decode: DecodeConfig = DecodeConfig()
    model: ModelConfig = CrnnConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    search: SearchConfig = SearchConfig()
    tagging: TaggingConfig = TaggingConfig()
    retry: RetryConfig = RetryConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    logs: LogsConfig = LogsConfig()

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_networks(cls, values: Any) -> Any:
        """Let `[model]` go without a name, and the ensemble name networks without their settings."""
        values = networks_by_name(values)
        distill = values.get("distill") if isinstance(values, dict) else None
        if isinstance(distill, dict) and isinstance(distill.get("model"), dict | str):
            values = {**values, "distill": {**distill, "model": _student(distill["model"])}}
        return values

    def member_models(self) -> tuple[ModelConfig, ...]:
        """Return the network of each member of the ensemble."""
        named = tuple(member.model for member in self.training.ensemble)
        return named or (self.model,) * self.training.members

    def student(self) -> Config:
        """Return the settings by which a student is fitted: one network, taught by soft words."""
        alone = {"members": 1, "ensemble": (), "label_smoothing": 0.0, "class_weights": False}
        training = self.training.model_copy(update=alone)
        return self.model_copy(update={"model": self.distill.model, "training": training})


def _student(model: dict[str, Any] | str) -> dict[str, Any]:
    """Return a student's settings with a name, and with the default student's where it is of that kind."""
    given = {"name": model} if isinstance(model, str) else model
    if given.get("name", STUDENT.name) != STUDENT.name:
        return given
    return STUDENT.model_dump() | given


def networks_by_name(values: Any) -> Any:
    """Return raw settings in which names stand for networks: no name means the default, a name its own defaults."""
    if not isinstance(values, dict):
        return values
    model = values.get("model", {})
    if isinstance(model, dict) and model:
        model = values["model"] if "name" in model else {"name": CrnnConfig().name, **model}
        values = {**values, "model": model}
    training = values.get("training")
    if isinstance(training, dict) and isinstance(training.get("ensemble"), list | tuple):
        ensemble = tuple(_named(entry, model) for entry in training["ensemble"])
        values = {**values, "training": {**training, "ensemble": ensemble}}
    return values


def _named(entry: Any, model: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    name = model.get("name", CrnnConfig().name) if isinstance(model, dict) else getattr(model, "name", None)
    return (model or {"name": entry}) if name == entry else {"name": entry}
