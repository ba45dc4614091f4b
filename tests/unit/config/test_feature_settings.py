from __future__ import annotations

from pathlib import Path

import pytest

from mgc.audio.features.feature_rows import UNITS, row_names, statistics_names
from mgc.config import FeatureConfig, load_config
from mgc.config.feature_settings import FEATURE_SETS, FRAME_FEATURES, TRACK_FEATURES
from mgc.errors import ConfigError


def test_names_and_sets_become_features_each_once_in_one_order() -> None:
    config = FeatureConfig(frames=("rms", "jain2021", "mfcc"), statistics=("gtzan_csv", "rms"))
    assert config.frames == ("log_mel", "mfcc", "rms")
    assert config.statistics == tuple(n for n in FRAME_FEATURES + TRACK_FEATURES if n in FEATURE_SETS["gtzan_csv"])
    assert FeatureConfig.model_validate_json(config.model_dump_json()) == config


def test_one_name_on_the_command_line_is_a_list() -> None:
    config = load_config(None, ["features.frames=jain2021", 'features.statistics=["chroma", "tempo"]'])
    assert config.features.frames == ("log_mel", "mfcc")
    assert config.features.statistics == ("chroma", "tempo")


def test_of_all_only_what_has_frames_is_kept_frame_by_frame() -> None:
    assert FeatureConfig(frames=("all",)).frames == FRAME_FEATURES


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("features.frames=chrome", "did you mean 'chroma'"),
        ("features.statistics=cao2042", "did you mean 'cao2024'"),
        ("features.frames=tempo", "features.statistics"),
        ("features.contrast_f_min_hz=400", "highest of contrast_bands"),
        ("features.n_mfcc=129", "n_mels"),
    ],
)
def test_what_cannot_be_is_named_before_any_work(setting: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(None, ["features.statistics=all", setting])


def test_what_no_model_hears_changes_no_bundle() -> None:
    plain = FeatureConfig()
    rich = FeatureConfig(frames=("all",), statistics=("all",), n_mfcc=13)
    assert rich.fingerprint() != plain.fingerprint()
    assert rich.for_model() == plain
    assert FeatureConfig(n_mfcc=13).fingerprint() == plain.fingerprint(), "nothing that it is about is extracted"
    assert (
        FeatureConfig(n_mels=64, frames=("all",)).for_model().fingerprint() == FeatureConfig(n_mels=64).fingerprint()
    )


def test_every_feature_has_rows_and_a_unit() -> None:
    config = FeatureConfig(frames=("all",), statistics=("all",))
    assert set(UNITS) == {*FRAME_FEATURES, *TRACK_FEATURES}
    assert [len(row_names(name, config)) for name in FRAME_FEATURES] == [
        128, 20, 20, 20, 20, 12, 1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 11, 1, 8,
    ]  # fmt: skip
    names = statistics_names(config)
    assert len(names) == len(set(names)) == 2 * 257 + 6
    assert {"mfcc_1_mean", "mfcc_20_variance", "chroma_Cs_mean", "rms_variance", "tempo"} <= set(names)


def test_the_page_of_features_names_every_feature_and_every_set_with_its_features() -> None:
    page = (Path(__file__).parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
    for name in FRAME_FEATURES + TRACK_FEATURES:
        assert any(f"`{name}`" in line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    for name in ("cao2024", "guo2024", "jain2021", "he_li2024"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert {feature for feature in FRAME_FEATURES + TRACK_FEATURES if f"`{feature}`" in row} == set(
            FEATURE_SETS[name]
        )
    assert all(f"| `{name}` |" in page for name in FEATURE_SETS)
