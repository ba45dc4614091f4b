"""Each setting of an experiment decides a run's key and its outcome, or is refused, or is known to do neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from experiment_makers import write_data

from mgc.config import AugmentConfig, EvaluationConfig, FitConfig, TrainingConfig
from mgc.errors import ConfigError, SplitError
from mgc.studies import systems
from mgc.studies.experiment_data import Material, read_material
from mgc.studies.experiment_settings import (
    NOT_USED,
    DataSettings,
    Experiment,
    ProtocolSettings,
    SystemSettings,
    experiment_of,
)
from mgc.studies.runs import plan_runs
from mgc.studies.systems import _fusion, run_system
from mgc.tables.feature_shards import FeatureSet
from mgc.training.loop import fit

NETWORK = {"name": "crnn", "channels": 8, "blocks": 1, "rnn_units": 4, "embedding_size": 8}
TRAINING: dict[str, Any] = {
    "epochs": 2, "batch_size": 8, "warmup_epochs": 0, "learning_rate": 5e-3, "crop_seconds": 0.5,
    "mask_frames": 0, "mask_frequency_bins": 0, "gain_db": 0.0,
}  # fmt: skip

CHANGED: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 5,
    "precision": "bfloat16",
    "optimizer": "adam",
    "momentum": 0.2,
    "learning_rate": 1e-2,
    "weight_decay": 0.5,
    "schedule": "constant",
    "warmup_epochs": 1,
    "averaging": "ema",
    "ema_decay": 0.5,
    "swa_start": 0.0,
    "loss": "squared_error",
    "label_smoothing": 0.4,
    "tag_loss_weight": 1.0,
    "mixup_alpha": 0.4,
    "mask_frequency_bins": 6,
    "mask_frames": 6,
    "overlay_probability": 0.9,
    "blend_probability": 0.9,
    "blend_unclear_tags": ["buzz"],
    "equaliser_db": 12.0,
    "shift_mel_bins": 3,
    "crop_seconds": 0.2,
    "gain_db": 12.0,
    "class_weights": False,
    "sampling": "oversample",
    "members": 2,
    "ensemble": [{**NETWORK, "channels": 12}],
    "fusion": "stacked",
    "temperature": "member",
}
NEEDS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": "sgd"},
    "ema_decay": {"averaging": "ema"},
    "swa_start": {"averaging": "swa"},
    "blend_unclear_tags": {"blend_probability": 0.9},
    "fusion": {"members": 2},
    "temperature": {"members": 2, "fusion": "weighted"},
}
"""What must be set beside a setting for it to be used."""
REFUSED: dict[str, Any] = {
    "patience": 1, "keep": "last", "seed": 3, "members_at_once": 1, "threads": 2, "workers_per_member": 2,
    "use_gpu": "never", "gpu_share": 0.5, "max_failures": 1, "abstain_precision": 0.8, "tag_precision": 0.8,
    "promise_folds": 5,
    "exclusive_tags": [["hum", "buzz"]],
    "min_tag_positives": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return tracks of two genres of which one has fewer, so that weighing and sampling by genre matter."""
    folder = tmp_path_factory.mktemp("decide")
    data = write_data(folder)
    rows = pl.read_parquet(data["catalogue"])
    fewer = pl.when(pl.col("group").is_in(["g0-1", "g3-1", "g4-1"])).then(None).otherwise("genre").alias("genre")
    schema = pq.read_schema(data["catalogue"])
    table = rows.with_columns(fewer).to_arrow().cast(schema).replace_schema_metadata(schema.metadata)
    pq.write_table(table, data["catalogue"])
    return read_material(DataSettings(min_tag_positives=2, **data))


def experiment(**system: Any) -> Experiment:
    """Return an experiment of one system and of each kind of protocol."""
    return experiment_of(
        {
            "name": "one",
            "protocols": [{"name": "artists", "kind": "group_k_fold", "folds": 2, "run_folds": 1}],
            "systems": [{"name": "it", **system}],
        }
    )


def key_and_outcome(material: Material, **system: Any) -> tuple[str, dict[str, Any]]:
    run = plan_runs(experiment(**system), material)[0]
    answers = run_system(run, material).answers
    return run.key, {
        head: np.array(one.genre).tolist() + np.array(one.tags).tolist() for head, one in answers.items()
    }


def network(**training: Any) -> dict[str, Any]:
    return {"model": NETWORK, "training": {**TRAINING, **training}}


@pytest.fixture(scope="module")
def plain(material: Material) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the run that each setting is compared with, by what it needs."""
    return {repr(needs): key_and_outcome(material, **network(**needs)) for needs in ({}, *NEEDS.values())}


def test_every_setting_stands_in_a_table_here() -> None:
    assert set(CHANGED) | set(REFUSED) == set(TrainingConfig.model_fields)
    assert set(REFUSED) == set(NOT_USED)
    assert set(SystemSettings.model_fields) == {
        "name", "kind", "like", "model", "training", "heads", "statistics", "views",
        "penalty", "neighbours", "protocols", "claims",
    }  # fmt: skip
    assert set(ProtocolSettings.model_fields) == {
        "name", "kind", "folds", "run_folds", "valid_fraction", "train", "valid",
    }  # fmt: skip
    assert set(DataSettings.model_fields) == {
        "catalogue", "features", "demo", "segment_seconds", "tags", "min_tag_positives",
    }  # fmt: skip
    assert set(EvaluationConfig.model_fields) == {"bootstrap_samples", "confidence", "seed", "min_tag_positives"}


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_of_training_decides_the_key_and_the_outcome(
    material: Material, plain: dict[str, tuple[str, dict[str, Any]]], name: str
) -> None:
    needs = NEEDS.get(name, {})
    values = network(**needs, **{name: CHANGED[name]})
    if name == "ensemble":
        del values["model"]
    key, outcome = key_and_outcome(material, **values)
    plain_key, plain_outcome = plain[repr(needs)]
    assert key != plain_key
    assert outcome != plain_outcome


@pytest.mark.parametrize("name", [*REFUSED, *NEEDS])
def test_a_setting_that_decides_nothing_is_refused(name: str) -> None:
    value = {**REFUSED, **CHANGED}[name]
    with pytest.raises(ConfigError, match=rf"systems 'it'\.training\.{name} is not used: "):
        experiment(training={name: value})
    if name in FitConfig.model_fields:
        of_member = {"ensemble": ["guo_cnn", {**NETWORK, "training": {name: value}}]}
        with pytest.raises(ConfigError, match=rf"training\.ensemble\.1\.training\.{name} is not used: "):
            experiment(training=of_member)


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ({"kind": "svm", "neighbours": 3}, "neighbours"),
        ({"kind": "knn", "penalty": 3.0}, "penalty"),
        ({"kind": "knn", "model": "crnn"}, "model"),
        ({"kind": "svm", "training": {"epochs": 3}}, "training.epochs"),
        ({"kind": "random_forest", "penalty": 3.0}, "penalty"),
        ({"kind": "decision_tree", "neighbours": 3}, "neighbours"),
        ({"statistics": "shards"}, "statistics"),
        ({"penalty": 3.0}, "penalty"),
        ({"heads": ["svm"], "neighbours": 3}, "neighbours"),
        ({"model": "crnn", "training": {"ensemble": ["guo_cnn"]}}, "model"),
        ({"training": {"ensemble": ["guo_cnn"], "members": 3}}, "training.members"),
        ({"training": {"epochs": 3, "ensemble": [{"name": "crnn", "training": {"epochs": 4}}]}}, "training.epochs"),
        ({"training": {"members": 2, "temperature": "member"}}, "training.temperature"),
    ],
)
def test_a_setting_of_another_kind_of_system_is_refused(system: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"systems 'it'\.{name} is not used: "):
        experiment(**system)


@pytest.mark.parametrize(
    ("system", "change"),
    [
        ({"kind": "knn"}, {"neighbours": 1}),
        ({"kind": "svm", "penalty": 1.0}, {"penalty": 1e-4}),
        ({**network(), "heads": ["knn"]}, {"neighbours": 1}),
        ({**network(), "heads": ["svm"], "penalty": 1.0}, {"penalty": 1e-4}),
        (network(), {"model": {**NETWORK, "channels": 12}}),
        (network(), {"heads": ["knn"]}),
        (network(), {"kind": "knn", "model": None, "training": None}),
    ],
)
def test_a_setting_of_a_system_decides_the_key_and_the_outcome(
    material: Material, system: dict[str, Any], change: dict[str, Any]
) -> None:
    changed = {key: value for key, value in {**system, **change}.items() if value is not None}
    (key, outcome), (other_key, other) = key_and_outcome(material, **system), key_and_outcome(material, **changed)
    assert key != other_key
    assert outcome != other


def test_views_decide_the_key_of_every_kind(material: Material) -> None:
    for system in (network(), {"kind": "svm"}, {"kind": "knn"}):
        keys = [
            plan_runs(
                experiment(**system, views=views).model_copy(update={"augment": AugmentConfig(tempo_ratio=tempo)}),
                material,
            )[0].key
            for views, tempo in ((("clean",), (0.9, 1.1)), (("clean", "tempo"), (0.9, 1.1)), (("tempo",), (0.8, 1.2)))
        ]
        assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ({"kind": "fixed_split", "folds": 3}, "folds"),
        ({"kind": "random_tracks", "run_folds": 1}, "run_folds"),
        ({"kind": "group_k_fold", "valid_fraction": 0.3}, "valid_fraction"),
        ({"kind": "stratified_k_fold", "train": "train"}, "train"),
    ],
)
def test_a_setting_of_another_protocol_is_refused(protocol: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"protocols 'p'\.{name} is not used: a {protocol['kind']} has none"):
        experiment_of(
            {"name": "x", "protocols": [{"name": "p", **protocol}], "systems": [{"name": "k", "kind": "knn"}]}
        )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "group_k_fold", "folds": 2}, {"kind": "group_k_fold", "folds": 3}),
        ({"kind": "random_tracks", "valid_fraction": 0.2}, {"kind": "random_tracks", "valid_fraction": 0.4}),
        ({"kind": "fixed_split"}, {"kind": "fixed_split", "train": "valid", "valid": "train"}),
    ],
)
def test_a_setting_of_a_protocol_decides_the_key_and_the_tracks(
    material: Material, one: dict[str, Any], other: dict[str, Any]
) -> None:
    runs = []
    for protocol in (one, other):
        values = {"name": "x", "protocols": [{"name": "p", **protocol}], "systems": [{"name": "k", "kind": "knn"}]}
        runs.append(plan_runs(experiment_of(values), material)[0])
    assert runs[0].key != runs[1].key
    assert run_system(runs[0], material).tracks != run_system(runs[1], material).tracks


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"data": {"tags": False, "min_tag_positives": 3}}, "data.min_tag_positives"),
        ({"evaluation": {"min_tag_positives": 3}}, "evaluation.min_tag_positives"),
        ({"features": {"n_mels": 64}}, "features"),
        ({"augment": {"views": ["clean", "tempo"]}}, "augment"),
        ({"training": {"patience": 3}}, "training.patience"),
        ({"training": {"fusion": "stacked"}}, "training.fusion"),
    ],
)
def test_a_section_that_decides_nothing_is_refused(section: dict[str, Any], name: str) -> None:
    values = {"name": "x", "protocols": [{"name": "p", "kind": "fixed_split"}], "systems": [{"name": "n"}], **section}
    with pytest.raises(ConfigError, match=rf"\n  {name} is not used: "):
        experiment_of(values)


def test_common_settings_may_be_for_some_of_the_systems() -> None:
    values = {
        "name": "x",
        "training": {"fusion": "weighted", "momentum": 0.5},
        "protocols": [{"name": "p", "kind": "fixed_split"}],
        "systems": [
            {"name": "one"},
            {"name": "two", "training": {"members": 2, "optimizer": "sgd"}},
            {"name": "nearest", "kind": "knn"},
        ],
    }
    one, two, _ = experiment_of(values).systems
    assert (one.fits_fusion, two.fits_fusion) == (False, True)
    assert one.deciding() == SystemSettings(name="other").deciding(), "what is not used is in no key"


def test_a_system_like_another_in_all_that_is_used_is_refused() -> None:
    values = {
        "name": "x",
        "protocols": [{"name": "p", "kind": "fixed_split"}],
        "systems": [{"name": "a"}, {"name": "b", "like": "a", "claims": ["guo_cnn"]}],
    }
    with pytest.raises(ConfigError, match="'b' differs from 'a' in nothing that a run uses"):
        experiment_of(values)


def test_weights_are_fitted_on_groups_that_no_member_saw(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plan_runs(experiment(**network(members=2, fusion="weighted")), material)[0]
    fitted: list[set[str]] = []
    judged: list[set[str]] = []

    def fit_seen(model: Any, train: FeatureSet, *args: Any, **options: Any) -> Any:
        fitted.append(set(train.groups))
        return fit(model, train, *args, **options)

    def fusion_seen(system: Any, members: Any, tracks: FeatureSet, *args: Any) -> Any:
        judged.append(set(tracks.groups))
        return _fusion(system, members, tracks, *args)

    monkeypatch.setattr(systems, "fit", fit_seen)
    monkeypatch.setattr(systems, "_fusion", fusion_seen)
    result = run_system(run, material)
    group_of = dict(zip(material.tracks.track_ids, material.tracks.groups, strict=True))
    held_out = {group_of[track] for track in result.tracks}
    assert fitted[0] == fitted[1]
    assert not fitted[0] & judged[0]
    assert fitted[0] | judged[0] == set(group_of.values()) - held_out, "all of the training part is used"
    with pytest.raises(SplitError, match="there is one group alone"):
        systems._parted(material.tracks.at([0, 2]))
