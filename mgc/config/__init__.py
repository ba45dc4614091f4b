"""The settings of every job: validated, frozen, and fingerprinted.

One TOML file, `--set section.key=value` on top, flags for the common ones on top of that. Everything is
checked before Ray starts; an unknown key names the nearest valid one.
"""

from mgc.config.feature_settings import AUDIO_SOURCE, FeatureConfig, MelsConfig
from mgc.config.job_settings import (
    CatalogueConfig,
    ClusterConfig,
    DecodeConfig,
    DistillConfig,
    EvaluationConfig,
    LogsConfig,
    RetryConfig,
    SearchConfig,
    TaggingConfig,
)
from mgc.config.network_settings import ModelConfig, model_sections, read_model_config
from mgc.config.section import Fraction, Section, fingerprint_of, fingerprint_of_rows
from mgc.config.settings import Config, load_config, with_settings
from mgc.config.training_settings import FitConfig, MemberConfig, TrainingConfig
from mgc.config.view_settings import AUGMENT_BOUNDS, AugmentConfig, Range

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
    "fingerprint_of_rows",
    "load_config",
    "model_sections",
    "read_model_config",
    "with_settings",
]
