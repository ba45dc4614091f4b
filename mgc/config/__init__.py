"""The settings of every job: validated, frozen, and fingerprinted.

One TOML file, `--set section.key=value` on top, flags for the common ones on top of that. Everything is
checked before Ray starts; an unknown key names the nearest valid one.
"""

from mgc.config.augment import AUGMENT_BOUNDS, AugmentConfig, Range
from mgc.config.catalogue import CatalogueConfig
from mgc.config.features import AUDIO_SOURCE, FeatureConfig, MelsConfig
from mgc.config.loading import load_config, with_settings
from mgc.config.networks import model_sections, read_model_config
from mgc.config.root import Config
from mgc.config.training import FitConfig, MemberConfig, TrainingConfig
from mgc.config.work import (
    ClusterConfig,
    DecodeConfig,
    DistillConfig,
    EvaluationConfig,
    LogsConfig,
    RetryConfig,
    SearchConfig,
    TaggingConfig,
)
from mgc.model_config import ModelConfig
from mgc.settings import Fraction, Section, fingerprint_of

__all__ = [
    "AUDIO_SOURCE",
    "AUGMENT_BOUNDS",
    "AugmentConfig",
    "CatalogueConfig",
    "ClusterConfig",
    "Config",
    "DecodeConfig",
    "DistillConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "FitConfig",
    "Fraction",
    "LogsConfig",
    "MelsConfig",
    "MemberConfig",
    "ModelConfig",
    "Range",
    "RetryConfig",
    "SearchConfig",
    "Section",
    "TaggingConfig",
    "TrainingConfig",
    "fingerprint_of",
    "load_config",
    "model_sections",
    "read_model_config",
    "with_settings",
]
