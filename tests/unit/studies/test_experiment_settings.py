from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiment_makers import small_experiment

from mgc.config import model_sections
from mgc.errors import ConfigError
from mgc.studies.experiment_settings import experiment_of, load_experiment, system_names
from mgc.studies.literature_claims import CLAIMS

EXPERIMENTS = Path(__file__).parents[3] / "docs" / "experiments"


def test_a_system_takes_over_what_the_one_it_is_like_says() -> None:
    values = small_experiment({})
    values["systems"].append({"name": "wider", "like": "net, mixup", "model": {"channels": 16}})
    experiment = experiment_of(values)
    plain, mixed, wider = (experiment.system(name) for name in ("net", "net, mixup", "wider"))
    assert plain.training.mixup_alpha == 0
    assert (mixed.training.mixup_alpha, mixed.training.epochs, mixed.training.members) == (0.3, 2, 1)
    assert mixed.model == plain.model
    assert wider.model.model_dump() == plain.model.model_dump() | {"channels": 16}
    assert wider.training == mixed.training
    # What stands on a network, and what a paper claims for it, is not inherited.
    assert mixed.heads == ()
    assert wider.claims == ()
    assert system_names(plain) == ["net", "net + SVM"]


def test_networks_go_by_name_and_members_by_training() -> None:
    values = small_experiment({})
    values["systems"] = [
        {"name": "one", "model": "guo_cnn"},
        {"name": "three", "model": {"name": "guo_cnn"}, "training": {"members": 3}},
        {"name": "mixed", "training": {"ensemble": ["crnn", {"name": "cp_resnet", "rho": 3}]}},
    ]
    experiment = experiment_of(values)
    assert [[model.name for model in system.models] for system in experiment.systems] == [
        ["guo_cnn"],
        ["guo_cnn"] * 3,
        ["crnn", "cp_resnet"],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "unknown setting 'sedes': did you mean 'seeds'?"),
        ({"protocols": [{"name": "p", "kind": "kfold"}]}, "protocols 'p'.kind = 'kfold'"),
        ({"protocols": [{"name": "p", "kind": "random_tracks", "fold": 3}]}, "did you mean 'folds'?"),
        ({"systems": [{"name": "s", "kind": "svm", "heads": ["knn"]}]}, "only a network has embeddings"),
        ({"systems": [{"name": "s", "model": {"name": "crnn", "channles": 3}}]}, "systems 's'.model.channles"),
        ({"systems": [{"name": "s", "model": "crn"}]}, "did you mean 'crnn'?"),
        ({"systems": [{"name": "s", "training": {"epochs": 0}}]}, "systems 's'.training.epochs = 0"),
        ({"systems": [{"name": "s", "claims": ["guo_cn"]}]}, "no claim 'guo_cn': did you mean 'guo_cnn'?"),
        (
            {"systems": [{"name": "s", "like": "later"}, {"name": "later"}]},
            "'s' is like 'later', which is no earlier",
        ),
        ({"systems": [{"name": "s"}, {"name": "s"}]}, "'s' comes twice"),
        ({"systems": [{"name": "a", "heads": ["svm"]}, {"name": "a + SVM"}]}, "'a + SVM' comes twice"),
        ({"systems": [{"name": "s", "protocols": ["artist"]}]}, "no protocol 'artist': did you mean 'artists'?"),
        ({"systems": [{"name": "s", "views": ["clean", "overlay"]}]}, "mixes two tracks, which a protocol may part"),
        ({"systems": [{"name": "s", "views": ["clean", "tempo"]}]}, "random_segments cannot part"),
        ({"systems": [{"kind": "svm"}]}, "systems, entry 1.name is missing"),
        ({"primary": "tracks"}, "primary: no protocol 'tracks'"),
        ({"training": 3}, "training = 3: not a section"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment_of(small_experiment({}, **change), " in x.toml")
    assert "bad settings in x.toml" in caught.value.message
    assert message in caught.value.message
    assert "docs/reproduce.md" in caught.value.remedy


def test_the_experiments_of_the_docs_are_sound() -> None:
    found = {path.stem: load_experiment(str(path)) for path in sorted(EXPERIMENTS.glob("*.toml"))}
    assert set(found) == {
        "leak-audit", "literature", "quick", "he-li", "he-li-augmentation", "cao", "guo", "jain", "zhang",
    }  # fmt: skip
    claimed = {claim for one in found.values() for system in one.systems for claim in system.claims}
    assert claimed == set(CLAIMS)
    networks = {model.name for system in found["literature"].systems for model in system.models}
    # A member on published weights wants a file that is not ours to ship: it stands there as a comment.
    assert networks == set(model_sections()) - {"transfer"}
    assert found["quick"].data.demo
    assert {one.kind for one in found["leak-audit"].protocols} >= {
        "random_segments",
        "stratified_k_fold",
        "group_k_fold",
    }


def test_overrides_go_over_the_file(tmp_path: Path) -> None:
    experiment = load_experiment(str(EXPERIMENTS / "quick.toml"), ["training.epochs=3", "seeds=[4, 5]"])
    assert experiment.seeds == (4, 5)
    assert {one.training.epochs for one in experiment.systems if one.kind == "network"} == {3}
    with pytest.raises(ConfigError, match="cannot read the config file"):
        load_experiment(str(tmp_path / "nothing.toml"))
