"""`mgc train`, `mgc distill` and `mgc import-weights`: what ends in a model bundle."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mgc.cli.app import AddressOption, ConfigOption, SetOption, console, settings
from mgc.cli.terminal import announce, counted, facts, number_text
from mgc.cluster.progress import Meter
from mgc.cluster.runtime import cluster_address
from mgc.cluster.train import TrainingRequest, TrainOutcome, train_ensemble
from mgc.config.network_settings import TransferConfig
from mgc.config.training_settings import DEFAULT_ENSEMBLE
from mgc.errors import ConfigError
from mgc.inference.predictor import windows_per_second
from mgc.models.bundle import load_bundle, write_bundle
from mgc.models.bundle_files import student_uri
from mgc.models.model_card import behind_its_best_member, promise_lines, published_line
from mgc.models.published_files import bundle_place, pulled_members
from mgc.models.published_weights import published_bundle


def train(
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet with labels and splits")],
    features: Annotated[str, typer.Option("--features", "-f", help="shards that `mgc extract` wrote")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="directory of the model bundle")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a bundle that is there")] = False,
    members: Annotated[int | None, typer.Option(help="networks in the ensemble", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="at most so many epochs", min=1)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Fit the ensemble on split 'train', stop and calibrate on 'valid', write a model bundle."""
    load = partial(
        settings, config, set_, cluster__address=address, training__members=members, training__epochs=epochs
    )
    chosen = load(default_ensemble=DEFAULT_ENSEMBLE)
    # Of a cluster that is joined, other nodes may have pulled nothing.
    pulled = [] if cluster_address(chosen.cluster) else pulled_members()
    if pulled:
        chosen = load(default_ensemble=(*DEFAULT_ENSEMBLE, *pulled))
    if epochs is not None:
        chosen = chosen.model_copy(update={"training": chosen.training.at_most(epochs)})
    screen = console()
    request = TrainingRequest(catalogue, features, bundle, chosen, overwrite)
    models = [model.name for model in chosen.member_models()]
    longest = [chosen.training.for_member(member).epochs for member in range(len(models))]
    at_most = (
        f"{counted(longest[0], 'epoch')} each" if len(set(longest)) == 1 else f"{', '.join(map(str, longest))} epochs"
    )
    announce(screen, "training", f"{counted(len(models), 'member')} ({', '.join(models)}), at most {at_most}")
    if folds := chosen.training.promise_folds:
        both = chosen.training.learns_valid
        screen.print(
            f"Then each member is fitted {folds} times more, on folds of train and valid, to know what precision can "
            f"be promised. That takes some {folds - 1} times as long as the members themselves."
            + (" Nothing stops by the validation split, so the bundle learns from it, too." if both else ""),
            style="dim",
        )
    used = [model.published for model in chosen.member_models() if isinstance(model, TransferConfig)]
    if config is None and pulled and used == [member["published"] for member in pulled]:
        screen.print(
            f"On published weights, because they are pulled: {', '.join(map(str, used))}. "
            "`training.ensemble` names others.",
            style="dim",
        )
    if used:
        screen.print(
            "A transfer member runs every window through its frozen network before its first epoch: without a GPU "
            "some 30 s for an hour of music, or more on a busy machine.",
            style="dim",
        )
    show_training(screen, train_watched(screen, request), bundle)


def distill(
    teacher: Annotated[str, typer.Argument(help="the bundle to learn from", metavar="BUNDLE")],
    catalogue: Annotated[str, typer.Argument(help="catalogue.parquet; tracks of 'train' need no label")],
    features: Annotated[str, typer.Option("--features", "-f", help="shards that `mgc extract` wrote")],
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="the student's bundle; default: BUNDLE/student, where --fast finds it"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a bundle that is there")] = False,
    epochs: Annotated[int | None, typer.Option(help="at most so many epochs", min=1)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Distil BUNDLE into one small network on the tracks of split 'train'; stop and calibrate on 'valid'."""
    chosen = settings(config, set_, cluster__address=address, training__epochs=epochs)
    screen, teacher = console(), bundle_place(teacher)
    student = chosen.distill.model
    announce(screen, "distilling", f"{teacher} into one {student.name}, at most {chosen.training.epochs} epochs")
    place = bundle or student_uri(teacher)
    request = TrainingRequest(catalogue, features, place, chosen, overwrite, teacher_uri=teacher)
    show_training(screen, train_watched(screen, request), place)
    show_student_vs_teacher(screen, teacher, place)


def import_weights(
    weights: Annotated[Path, typer.Argument(help="the .pth file that Won et al. published")],
    tags: Annotated[
        Path, typer.Option("--tags", help="JSON: the tags in the order of the outputs, or lists by name")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the bundle")],
    tag_set: Annotated[str | None, typer.Option(help="which list of --tags, e.g. mtat")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another bundle")] = False,
) -> None:
    """Turn WEIGHTS into a bundle of safetensors that tags and embeds; nothing in the file is executed."""
    contents = published_bundle(_read(weights), _tags(tags, tag_set), weights.name)
    fingerprint = write_bundle(output, contents, overwrite=overwrite)
    member = contents.members[0]
    rows = {
        "network": member.config.name,
        "tags": str(len(contents.taxonomy.tags)),
        "features": f"{contents.features.fingerprint()}, windows of {contents.features.window_seconds:g} s",
        "bundle": f"{output} ({fingerprint})",
    }
    facts(console(), "Import of weights", rows)


def train_watched(screen: Console, request: TrainingRequest) -> TrainOutcome:
    """Train, with the epochs of members and of their folds on one meter; early stopping may end before its total."""
    config = request.config.student() if request.teacher_uri else request.config
    members = len(config.member_models())
    folds = 0 if request.teacher_uri else config.training.promise_folds
    done: dict[tuple[int, int], int] = {}
    total = (1 + folds) * sum(config.training.for_member(member).epochs for member in range(members))

    def resumed(member: int, history: list[dict[str, Any]]) -> None:
        done[0, member] = len(history)
        screen.print(f"member {member + 1}/{members} resumed after epoch {len(history)}")

    with Meter(screen, "training", total, "epochs").shown() as meter:

        def on_epoch(member: int, epoch: dict[str, Any]) -> None:
            done[epoch.get("fold", 0), member] = epoch["epoch"]
            fold = f"fold {epoch['fold']}/{epoch['folds']} " if "fold" in epoch else ""
            meter.update(sum(done.values()), note=f"{fold}member {member + 1}/{members} epoch {_epoch_text(epoch)}")

        return train_ensemble(request, on_epoch, resumed, meter.announce)


def show_training(screen: Console, outcome: TrainOutcome, bundle: str) -> None:
    """Print what training gave."""
    if not outcome.trained:
        announce(screen, "Training", f"nothing to do, {bundle} was made from this data and these settings", done=True)
        return
    rows = {"bundle fingerprint": outcome.fingerprint, "epochs by member": ", ".join(map(str, outcome.epochs))}
    folds = "on" in outcome.metrics
    for name, value in outcome.metrics.get("ensemble", {}).items():
        rows[f"{'folds:' if folds else 'validation'} {name.replace('_', ' ')}"] = number_text(value)
    rows["time"] = f"{outcome.wall_seconds:.1f} s"
    rows["output"] = bundle
    facts(screen, "Training", rows)
    for line in promise_lines(outcome.metrics):
        screen.print(line, soft_wrap=True, highlight=False)
    if line := published_line(outcome.metrics):
        screen.print(line, soft_wrap=True, highlight=False)
    if behind := behind_its_best_member(outcome.metrics):
        screen.print(behind, style="yellow")
    note = "Calibration, and early stopping if there was any, used the validation split: its figures flatter."
    if folds:
        note = (
            f"Figures are of {outcome.metrics['on']}: each track is answered by members that learnt from none of its "
            "group. The bundle has learnt from train and valid: `mgc evaluate` needs another split."
        )
    screen.print(note, style="dim")


def show_student_vs_teacher(screen: Console, teacher: str, student: str) -> None:
    """Print what the student lost and gained: validation figures of both, and how fast their networks are."""
    one, two = load_bundle(teacher), load_bundle(student)
    rows = {}
    for name, value in two.metrics.get("teacher", {}).items():
        rows[f"validation {name.replace('_', ' ')}"] = (
            f"{number_text(value)} → {number_text(two.metrics['ensemble'][name])}"
        )
    fidelity = two.metrics.get("fidelity", {})
    rows["same genre as the teacher"] = number_text(fidelity.get("same_genre"))
    rows["mean distance of tag probabilities"] = number_text(fidelity.get("tag_distance"))
    slow, fast = windows_per_second([one, two])
    rows["windows a second, one thread, networks alone"] = f"{slow:,.0f} → {fast:,.0f} ({fast / slow:.1f}×)"
    facts(screen, "Teacher → student", rows)


def _epoch_text(epoch: dict[str, Any]) -> str:
    """Return an epoch's number and its figures, those that there are."""
    figures = {
        "loss": epoch["train_loss"],
        "valid loss": epoch["valid_loss"],
        "accuracy": epoch["valid_accuracy"],
        "tag PR-AUC": epoch["valid_tag_macro_average_precision"],
    }
    parts = [f"{name} {value:.3f}" for name, value in figures.items() if value is not None]
    parts += [f"{epoch['windows_per_second']:,.0f} windows/s, device busy {epoch['busy_share']:.0%}"]
    return f"{epoch['epoch']}: {', '.join(parts)}"


def _tags(path: Path, name: str | None) -> tuple[str, ...]:
    try:
        value: Any = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not valid JSON: {error}", "give a list of tags, or lists by name") from error
    if isinstance(value, dict):
        if name not in value:
            raise ConfigError(f"'{path}' holds several lists: {', '.join(value)}", "say which with --tag-set")
        value = value[name]
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ConfigError(f"'{path}' holds no list of tags", 'e.g. ["guitar", "slow"]')
    return tuple(value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}", "check the path") from error
