"""A space of settings: read, checked at every corner, drawn reproducibly; and settings written as TOML again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgc.config import Config, SearchConfig, load_config, with_settings
from mgc.config.network_settings import CaoCnnConfig, CpResnetConfig, CrnnConfig
from mgc.config.settings import to_toml
from mgc.errors import ConfigError
from mgc.training.search import DEFAULT_SPACE, Dimension, draw_trials, read_space


def space_file(folder: Path, text: str) -> str:
    (folder / "space.toml").write_text(text)
    return str(folder / "space.toml")


def test_a_file_names_settings_and_their_values(tmp_path: Path) -> None:
    text = """
    [training]
    batch_size = [16, 32]
    [model]
    dropout = {uniform = [0, 0.5]}
    blocks = {integer = [2, 4]}
    rnn = ["gru", "lstm"]
    """
    found = read_space(space_file(tmp_path, text), Config())
    assert found == (
        Dimension("training.batch_size", "choice", (16, 32)),
        Dimension("model.dropout", "uniform", (0, 0.5)),
        Dimension("model.blocks", "integer", (2, 4)),
        Dimension("model.rnn", "choice", ("gru", "lstm")),
    )


def test_dotted_keys_are_read_alike(tmp_path: Path) -> None:
    path = space_file(tmp_path, "training.learning_rate = {log = [1e-4, 1e-2]}\nmodel.blocks = [2, 3]\n")
    assert [(one.key, one.scale) for one in read_space(path, Config())] == [
        ("training.learning_rate", "log"),
        ("model.blocks", "choice"),
    ]


def test_depth_and_width_are_searched_by_default_where_their_names_are_known() -> None:
    assert {"model.blocks", "model.channels"} <= {one.key for one in read_space(None, Config())}
    assert read_space(None, Config(model=CaoCnnConfig())) == DEFAULT_SPACE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.learning_rat = [0.1]", r"unknown setting 'training\.learning_rat': did you mean 'learning_rate'"),
        ("model.chanels = [8]", r"'model\.chanels': did you mean 'channels'"),
        ("training.batch_size = [16, 0]", r"training\.batch_size = 0"),
        ("model.dropout = {uniform = [0.1, 1.5]}", r"model\.dropout = 1\.5"),
        ("features.n_mels = [64, 128]", r"features\.n_mels cannot be searched"),
        ("training.batch_size = 16", r"training\.batch_size = 16 is no range of values"),
        ("training.batch_size = []", r"is no range of values"),
        ("training.learning_rate = {log = [0, 1]}", r"is no range of values"),
        ("training.learning_rate = {log = [1, 0.1]}", r"is no range of values"),
        ("model.blocks = {integer = [1.5, 3]}", r"is no range of values"),
        ("", r"names no setting to search"),
        ("x = ", r"is not valid TOML"),
        ("training.tag_loss_weight = [1, 5]", r"cannot be compared by their loss"),
    ],
)
def test_what_is_no_space_is_refused_before_any_trial(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_space(space_file(tmp_path, text), Config())


def test_a_loss_weight_may_be_searched_by_another_figure(tmp_path: Path) -> None:
    config = Config(search=SearchConfig(metric="accuracy"))
    assert read_space(space_file(tmp_path, "training.tag_loss_weight = [1, 5]"), config)


def test_draws_follow_from_the_seed_and_begin_with_nothing_changed() -> None:
    space = read_space(None, Config())
    short, long, other = (
        draw_trials(space, SearchConfig(trials=trials, seed=seed)) for trials, seed in ((5, 0), (9, 0), (5, 1))
    )
    assert short[0] == {}
    assert long[:5] == short
    assert other[1:] != short[1:]
    for settings in long[1:]:
        assert 3e-4 <= settings["training.learning_rate"] <= 1e-2
        assert settings["model.channels"] in (64, 96, 128, 192)
        with_settings(Config(), settings)


def test_every_scale_stays_within_its_bounds() -> None:
    space = (
        Dimension("training.epochs", "integer", (3, 5)),
        Dimension("model.dropout", "uniform", (0.25, 0.5)),
        Dimension("training.learning_rate", "log", (1e-5, 1e-1)),
    )
    drawn = draw_trials(space, SearchConfig(trials=300))[1:]
    assert {one["training.epochs"] for one in drawn} == {3, 4, 5}
    assert all(0.25 <= one["model.dropout"] <= 0.5 for one in drawn)
    below = sum(one["training.learning_rate"] < 1e-3 for one in drawn)
    assert 110 < below < 190, "half of a logarithmic range lies below its geometric middle"


def test_settings_come_back_from_their_toml(tmp_path: Path) -> None:
    config = load_config(
        None,
        [
            "model.name=cp_resnet",
            "model.rho=3",
            "training.learning_rate=0.0005",
            'training.ensemble=["crnn", {name="cp_resnet", rho=2, training={epochs=7, optimizer="sgd"}}]',
            'augment.views=["gain"]',
            'catalogue.manifest=a "quoted" näme',
            "distill.model.channels=32",
            "cluster.workers=3",
        ],
    )
    (tmp_path / "best.toml").write_text(to_toml(config, "one\ntwo"))
    text = (tmp_path / "best.toml").read_text()
    assert text.startswith("# one\n# two\n")
    assert "cluster" not in text, "how wide a job runs is nobody else's"
    again = load_config(str(tmp_path / "best.toml"))
    assert again == config.model_copy(update={"cluster": Config().cluster})
    assert again.member_models() == (CrnnConfig(), CpResnetConfig(rho=2))
    assert (again.training.for_member(1).epochs, again.training.for_member(1).optimizer) == (7, "sgd")


def test_what_toml_cannot_say_is_said_in_a_comment() -> None:
    assert "# unset: --set training.crop_seconds=none" in to_toml(load_config(None, ["training.crop_seconds=none"]))
    assert to_toml(Config()) == '[model]\nname = "crnn"\n'
