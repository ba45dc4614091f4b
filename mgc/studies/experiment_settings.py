"""An experiment file: which systems, on which data, under which protocols, with which seeds.

One TOML file decides all of it, and all of it is checked before any work. `docs/reproduce.md` shows one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mgc.config import AugmentConfig, EvaluationConfig, FeatureConfig, FitConfig, ModelConfig, Section, TrainingConfig
from mgc.config.network_settings import CrnnConfig
from mgc.config.settings import apply_override, explained, networks_by_name, read_toml
from mgc.config.view_settings import CLEAN, parse_view
from mgc.errors import ConfigError, did_you_mean
from mgc.studies.literature_claims import CLAIMS

HeadKind = Literal["svm", "knn", "decision_tree", "random_forest"]
HEAD_NAMES: dict[str, str] = {
    "svm": "SVM",
    "knn": "kNN",
    "decision_tree": "decision tree",
    "random_forest": "random forest",
}
NOT_USED: dict[str, str] = {
    **dict.fromkeys(("patience", "keep"), "every network runs all its epochs and keeps its last weights"),
    "seed": "the experiment's `seeds` decide",
    **dict.fromkeys(
        ("members_at_once", "threads", "workers_per_member", "use_gpu", "gpu_share", "max_failures"),
        "--threads and --gpu-share say how runs are made",
    ),
    **dict.fromkeys(
        ("abstain_precision", "tag_precision", "promise_folds", "exclusive_tags"), "no bundle is made here"
    ),
    "min_tag_positives": "data.min_tag_positives decides",
}
"""Settings of training that no run uses, and why."""
AVERAGING = {"ema_decay": "ema", "swa_start": "swa"}
NOT_DECIDING = NOT_USED.keys() - {"keep"} | {"members", "ensemble", "fusion", "temperature"}
"""Not in a run's key as they stand: what is not used, and what is written there in another form."""
REMEDY = (
    "docs/reproduce.md describes the experiment file, docs/configuration.md the settings of networks and training"
)
OWN = ("name", "like", "claims", "heads", "protocols")
"""What a system does not take over from the one it is like."""


class DataSettings(Section):
    """The labelled tracks and their features; `--catalogue` and `--features` go over it."""

    catalogue: str | None = Field(None, description="catalogue.parquet with labels")
    features: str | None = Field(None, description="its shards, of `mgc extract` or `mgc import-mels`")
    demo: bool = Field(False, description="where neither is given, compose and extract the clips of `mgc demo`")
    segment_seconds: float | None = Field(
        None, gt=0.0, description="cut windows into segments of this length, which are then learnt from and predicted"
    )
    tags: bool = Field(True, description="learn and predict tags too, where the catalogue has any")
    min_tag_positives: int = Field(10, ge=1, description="tags of fewer labelled tracks are left out")


class ProtocolSettings(Section):
    """A way to split the tracks; see `mgc.evaluation.protocols`."""

    name: str = Field(min_length=1, max_length=60, description="as the page calls it")
    kind: Literal["fixed_split", "group_k_fold", "stratified_k_fold", "random_tracks", "random_segments"]
    folds: int = Field(5, ge=2, le=100, description="of the k-fold kinds")
    run_folds: int | None = Field(None, ge=1, description="run the first so many folds alone; None: all")
    valid_fraction: float = Field(0.2, gt=0.0, lt=1.0, description="held out, of the random kinds")
    train: str = Field("train", description="split that fixed_split learns from")
    valid: str = Field("valid", description="split that fixed_split holds out")

    @property
    def n_folds(self) -> int:
        """Folds that are run."""
        if not self.kind.endswith("k_fold"):
            return 1
        return min(self.folds, self.run_folds or self.folds)

    def deciding(self) -> dict[str, Any]:
        """Return what decides a fold's tracks."""
        keys = {"kind"}
        keys |= {"folds"} if self.kind.endswith("k_fold") else set()
        keys |= {"valid_fraction"} if self.kind.startswith("random") else set()
        keys |= {"train", "valid"} if self.kind == "fixed_split" else set()
        return self.model_dump(mode="json", include=keys)


class SystemSettings(Section):
    """A system: a network trained from scratch, or a classical classifier on statistics of MFCC."""

    name: str = Field(min_length=1, max_length=80, description="as the page calls it")
    kind: Literal["network"] | HeadKind = "network"
    like: str | None = Field(None, description="an earlier system: its settings below these, and its gain over it")
    model: ModelConfig = CrnnConfig()
    training: TrainingConfig = TrainingConfig(members=1, fusion="mean")
    statistics: Literal["mfcc", "shards"] = Field(
        "mfcc",
        description="what a classical system learns from: mean and deviation of 20 MFCC of the log-mels, or what "
        "features.statistics has put into the shards",
    )
    heads: tuple[HeadKind, ...] = Field(
        (), description="classifiers on the trained network's embeddings, as systems too"
    )
    views: tuple[str, ...] = Field(("clean",), description="views of the training tracks; the shards must have them")
    penalty: float | None = Field(
        None, gt=0.0, description="C of the SVM; None: chosen on folds of the training part"
    )
    neighbours: int = Field(5, ge=1, description="of kNN")
    protocols: tuple[str, ...] | None = Field(None, description="run under these alone; None: all")
    claims: tuple[str, ...] = Field((), description="ids of the literature's figures to stand beside; see docs")

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_networks(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("model"), str):
            values = {**values, "model": {"name": values["model"]}}
        return networks_by_name(values)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.kind != "network" and self.heads:
            raise ValueError("only a network has embeddings for `heads`")
        if self.statistics == "shards" and self.views != (CLEAN,):
            raise ValueError("the statistics in the shards are read of clean tracks alone: take `views` out")
        mixing = [name for name in self.views if parse_view(name).mixes]
        if mixing:
            raise ValueError(
                f"view '{mixing[0]}' mixes two tracks, which a protocol may part: use training.overlay_probability"
            )
        for claim in self.claims:
            if claim not in CLAIMS:
                raise ValueError(f"no claim '{claim}': {did_you_mean(claim, list(CLAIMS))}")
        return self

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """The network of each member."""
        named = tuple(member.model for member in self.training.ensemble)
        return named or (self.model,) * self.training.members

    @property
    def epochs(self) -> int:
        """Epochs of all its members; 1 of a classical system."""
        if self.kind != "network":
            return 1
        return sum(self.training.for_member(member).epochs for member in range(len(self.models)))

    def fit_of(self, member: int) -> FitConfig:
        """Return how one member is fitted, to its last epoch: held-out tracks stop nothing."""
        fit = self.training.for_member(member)
        return fit.model_copy(update={"patience": fit.epochs + 1})

    @property
    def fits_fusion(self) -> bool:
        """Whether members' weights are fitted, on training groups held back from the members."""
        weighs = self.training.fusion in ("weighted", "stacked")
        return self.kind == "network" and weighs and len(self.models) > 1

    @property
    def votes(self) -> bool:
        """Whether members are joined by majority."""
        return self.kind == "network" and self.training.fusion == "vote" and len(self.models) > 1

    def unused(self) -> dict[str, str]:
        """Return the settings that a run of this system does not use, by dotted name, and why."""
        if self.kind != "network":
            others = {"neighbours": "knn", "penalty": "svm"}
            none = ("model", "training", *(name for name, kind in others.items() if kind != self.kind))
            return dict.fromkeys(none, f"a system of kind {self.kind} has none")
        why = {f"training.{name}": reason for name, reason in NOT_USED.items()}
        why["statistics"] = "a network learns from the log-mel"
        off = [_switched_off(self.training.for_member(number)) for number in range(len(self.models))]
        why |= {f"training.{name}": off[0][name] for name in set.intersection(*(set(one) for one in off))}
        if self.training.ensemble:
            own = set.intersection(*(set(member.own()) for member in self.training.ensemble))
            why |= {f"training.{name}": "every member of training.ensemble has its own" for name in own}
            named = ("training.members",) if self.model in self.models else ("training.members", "model")
            why |= dict.fromkeys(named, "training.ensemble names the networks")
        if len(self.models) == 1:
            why["training.fusion"] = "one network has nothing to be joined with"
        if not self.fits_fusion:
            why["training.temperature"] = "nothing is calibrated where no weights of members are fitted"
        without = {name: head for name, head in (("penalty", "svm"), ("neighbours", "knn")) if head not in self.heads}
        return why | {name: f"there is no {head} among its heads" for name, head in without.items()}

    def deciding(self) -> dict[str, Any]:
        """Return what decides this system's answers, its name and how it is run left out."""
        views = {"views": list(self.views)} if self.views != (CLEAN,) else {}
        if self.kind != "network":
            used = {"kind", "statistics", *{"svm": ["penalty"], "knn": ["neighbours"]}.get(self.kind, [])}
            return self.model_dump(mode="json", include=used) | views
        unused = {name.removeprefix("training.") for name in self.unused()}
        training = {
            key: TrainingConfig.model_fields[key].default if key in unused else value
            for key, value in self.training.model_dump(mode="json", exclude=NOT_DECIDING).items()
            if (key, value) != ("precision", "auto")  # as runs were before it could be chosen
        }
        own = [
            {key: value for key, value in member.own().items() if key not in NOT_DECIDING | NOT_USED.keys()}
            for member in self.training.ensemble
        ]
        heads = {"penalty": self.penalty} if "svm" in self.heads else {}
        heads |= {"neighbours": self.neighbours} if "knn" in self.heads else {}
        return {
            "kind": self.kind,
            "models": [model.model_dump(mode="json") for model in self.models],
            "training": training,
            **({"own_training": own} if any(own) else {}),
            **({"fusion": "vote"} if self.votes else {}),
            **(self.training.model_dump(include={"fusion", "temperature"}) if self.fits_fusion else {}),
            "heads": sorted(self.heads),
            "views": list(self.views),
            **heads,
        }


def _switched_off(fit: FitConfig) -> dict[str, str]:
    """Return the settings of a fit that others of it switch off, and why."""
    off = {"momentum": "only sgd has it"} if fit.optimizer != "sgd" else {}
    off |= {name: f"averaging is not {kind}" for name, kind in AVERAGING.items() if fit.averaging != kind}
    return off | ({} if fit.blend_probability else {"blend_unclear_tags": "blend_probability is 0"})


class Experiment(Section):
    """All of an experiment."""

    name: str = Field(min_length=1, max_length=120)
    about: str = ""
    primary: str | None = Field(None, description="protocol that details are shown under; None: the last one")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of splits that are drawn, and of weights")
    data: DataSettings = DataSettings()
    features: FeatureConfig = Field(FeatureConfig(), description="of the demo's clips")
    augment: AugmentConfig = Field(AugmentConfig(), description="how the views that systems name were made")
    evaluation: EvaluationConfig = EvaluationConfig()
    protocols: tuple[ProtocolSettings, ...] = Field(min_length=1)
    systems: tuple[SystemSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        protocols, systems = [one.name for one in self.protocols], [one.name for one in self.systems]
        _require_distinct("protocols", protocols)
        _require_distinct("systems", [name for system in self.systems for name in system_names(system)])
        _require_distinct("seeds", [str(seed) for seed in self.seeds])
        wanted = [("primary", self.primary)] if self.primary else []
        wanted += [(f"protocols of '{one.name}'", name) for one in self.systems for name in one.protocols or ()]
        for where, name in wanted:
            if name not in protocols:
                raise ValueError(f"{where}: no protocol '{name}': {did_you_mean(name, protocols)}")
        for place, system in enumerate(self.systems):
            if system.like is None:
                continue
            if system.like not in systems[:place]:
                raise ValueError(
                    f"'{system.name}' is like '{system.like}', which is no earlier system: "
                    + did_you_mean(system.like, systems[:place])
                )
            if system.deciding() == self.system(system.like).deciding():
                raise ValueError(f"'{system.name}' differs from '{system.like}' in nothing that a run uses")
        for system in self.systems:
            cut = any(self.protocol(name).kind == "random_segments" for name in self.of(system))
            if len(system.views) > 1 and cut:
                raise ValueError(
                    f"'{system.name}' has views, which random_segments cannot part: name its `protocols`"
                )
            if system.statistics == "shards" and (cut or self.data.segment_seconds):
                raise ValueError(
                    f"'{system.name}' learns from statistics of whole tracks: neither segments nor random_segments"
                )
        return self

    @property
    def primary_protocol(self) -> str:
        """Name of the protocol that details are shown under."""
        return self.primary or self.protocols[-1].name

    def protocol(self, name: str) -> ProtocolSettings:
        """Return a protocol by its name."""
        return next(one for one in self.protocols if one.name == name)

    def system(self, name: str) -> SystemSettings:
        """Return a system by its name."""
        return next(one for one in self.systems if one.name == name)

    def of(self, system: SystemSettings) -> tuple[str, ...]:
        """Return the protocols that a system is run under, in the experiment's order."""
        chosen = system.protocols
        return tuple(one.name for one in self.protocols if chosen is None or one.name in chosen)


def system_names(system: SystemSettings) -> list[str]:
    """Return the names of the systems that one entry makes: its own, and one for each head on its embeddings."""
    return [system.name, *(headed(system.name, head) for head in system.heads)]


def headed(name: str, head: str) -> str:
    """Return the name of a classifier on a network's embeddings; of the system itself where `head` is empty."""
    return f"{name} + {HEAD_NAMES[head]}" if head else name


def _require_distinct(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: '{twice[0]}' comes twice")


# From the file: `like` and the common `[training]` filled in, then all of it checked.


def load_experiment(path: str, overrides: Sequence[str] | None = None) -> Experiment:
    """Return the experiment of a TOML file, with `section.key=value` overrides on top.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, a key is unknown, a value is out of range, or a name leads nowhere.
    """
    values = read_toml(path)
    for override in overrides or ():
        apply_override(values, override)
    return experiment_of(values, f" in {path}")


def experiment_of(values: Mapping[str, Any], where: str = "") -> Experiment:
    """Return the experiment that raw values describe; `where` stands in messages.

    Raises
    ------
    ConfigError
        As `load_experiment`.
    """
    filled = {key: value for key, value in values.items() if key != "training"}
    systems = filled.get("systems")
    if isinstance(systems, list):
        filled["systems"] = _filled_in(systems, values.get("training", {}), where)
    try:
        experiment = Experiment.model_validate(filled)
    except ValidationError as error:
        raise _by_name(explained(error, where, Experiment, REMEDY), filled) from error
    unused = _given_for_nothing(values, experiment)
    if unused:
        lines = "".join(f"\n  {name} is not used: {why}" for name, why in unused.items())
        raise ConfigError(f"bad settings{where}:{lines}", "take out what decides nothing, or set what it belongs to")
    return experiment


def _given_for_nothing(values: Mapping[str, Any], experiment: Experiment) -> dict[str, str]:
    """Return the settings of a file that decide nothing, and why: a figure must not seem to be theirs."""
    found: dict[str, str] = {}
    for system, raw in zip(experiment.systems, values["systems"], strict=True):
        found |= {f"systems '{system.name}'.{name}": why for name, why in _unused_of(system, raw).items()}
    networks = [one for one in experiment.systems if one.kind == "network"]
    common = [_unused_of(system, {"training": values.get("training", {})}) for system in networks]
    for one in common[:1]:
        found |= {name: why for name, why in one.items() if all(name in other for other in common)}
    for protocol, raw in zip(experiment.protocols, values["protocols"], strict=True):
        used = {"name", "run_folds" if protocol.kind.endswith("k_fold") else "name", *protocol.deciding()}
        why = f"a {protocol.kind} has none"
        found |= {f"protocols '{protocol.name}'.{name}": why for name in raw if name not in used}
    data, evaluation = values.get("data", {}), values.get("evaluation", {})
    if not experiment.data.tags and "min_tag_positives" in data:
        found["data.min_tag_positives"] = "data.tags is false"
    if "min_tag_positives" in evaluation:
        found["evaluation.min_tag_positives"] = "data.min_tag_positives decides"
    if "features" in values and not experiment.data.demo:
        found["features"] = "they are of the demo's clips, and data.demo is false"
    if "augment" in values and not experiment.data.demo and all(one.views == (CLEAN,) for one in experiment.systems):
        found["augment"] = "no system has views"
    return found


def _unused_of(system: SystemSettings, raw: Mapping[str, Any]) -> dict[str, str]:
    """Return those of the given settings that a system does not use."""
    unused, training = system.unused(), raw.get("training", {})
    given = [*(name for name in raw if name != "training"), *(f"training.{name}" for name in training)]
    found = {name: unused[name] for name in given if name in unused}
    if "training" in unused:
        return found | {name: unused["training"] for name in given if name.startswith("training.")}
    for number, entry in enumerate(training.get("ensemble", ())):
        own = entry.get("training", {}) if isinstance(entry, Mapping) else {}
        off = NOT_USED | _switched_off(system.training.for_member(number))
        found |= {f"training.ensemble.{number}.training.{name}": off[name] for name in own if name in off}
    return found


def _filled_in(systems: list[Any], training: Any, where: str) -> list[Any]:
    """Return the systems with the settings of those they are like below their own, and `[training]` below these."""
    if not isinstance(training, dict):
        raise ConfigError(f"bad settings{where}:\n  training = {training!r}: not a section", REMEDY)
    made: dict[str, dict[str, Any]] = {}
    filled: list[Any] = []
    for system in systems:
        if not isinstance(system, dict):
            filled.append(system)
            continue
        like = made.get(str(system.get("like")), {})
        below = {key: value for key, value in like.items() if key not in OWN} or {
            "training": {"members": 1, "fusion": "mean", **training}
        }
        whole = {**below, **system}
        own = system.get("training", {})
        whole["training"] = {**below["training"], **own} if isinstance(own, dict) else own
        if isinstance(whole.get("model"), str):
            whole["model"] = {"name": whole["model"]}
        elif isinstance(below.get("model"), dict) and isinstance(system.get("model"), dict):
            whole["model"] = {**below["model"], **system["model"]}
        made[str(system.get("name"))] = whole
        filled.append(whole)
    return filled


def _by_name(error: ConfigError, values: Mapping[str, Any]) -> ConfigError:
    """Return the error with the names of systems and protocols where their numbers stand."""

    def named(found: re.Match[str]) -> str:
        entry = values[found[1]][int(found[2])]
        name = entry.get("name") if isinstance(entry, dict) else None
        return f"{found[1]} '{name}'" if name else f"{found[1]}, entry {int(found[2]) + 1}"

    return ConfigError(re.sub(r"\b(systems|protocols)\.(\d+)", named, error.message), error.remedy)
