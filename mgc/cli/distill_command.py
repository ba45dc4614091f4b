"""`mgc distill`: one small network that answers as the ensemble does, as a bundle of its own."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from mgc.cli.options import AddressOption, ConfigOption, SetOption, console, settings
from mgc.cli.tables import facts
from mgc.cli.train_command import EpochLines, show_training
from mgc.cluster.train import TrainingRequest, train_ensemble
from mgc.inference.predictor import windows_per_second
from mgc.models.bundle import load_bundle
from mgc.models.bundle_files import student_uri


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
    """Teach one small network what BUNDLE says of the tracks of split 'train'; stop and calibrate on 'valid'."""
    chosen = settings(config, set_, cluster__address=address, training__epochs=epochs)
    screen = console()
    student = chosen.distill.model
    screen.print(f"[bold]distilling[/] {teacher} into one {student.name}, at most {chosen.training.epochs} epochs")
    lines = EpochLines(screen, 1)
    place = bundle or student_uri(teacher)
    request = TrainingRequest(catalogue, features, place, chosen, overwrite, teacher_uri=teacher)
    outcome = train_ensemble(request, lines.show, lines.resumed)
    show_training(screen, outcome, place)
    show_student_vs_teacher(screen, teacher, place)


def show_student_vs_teacher(screen: Console, teacher: str, student: str) -> None:
    """Print what the student lost and gained: validation figures of both, and how fast their networks are."""
    one, two = load_bundle(teacher), load_bundle(student)
    rows = {}
    for name, value in two.metrics.get("teacher", {}).items():
        rows[f"validation {name.replace('_', ' ')}"] = f"{_text(value)} → {_text(two.metrics['ensemble'][name])}"
    fidelity = two.metrics.get("fidelity", {})
    rows["same genre as the teacher"] = _text(fidelity.get("same_genre"))
    rows["mean distance of tag probabilities"] = _text(fidelity.get("tag_distance"))
    slow, fast = windows_per_second([one, two])
    rows["windows a second, one thread, networks alone"] = f"{slow:,.0f} → {fast:,.0f} ({fast / slow:.1f}×)"
    facts(screen, "Teacher → student", rows)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
