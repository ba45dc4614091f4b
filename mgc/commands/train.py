"""`mgc train`: fit the ensemble and write its bundle."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from mgc.cluster.train import TrainingRequest, TrainOutcome, train_ensemble
from mgc.commands.door import AddressOption, ConfigOption, SetOption, console, settings
from mgc.commands.tables import facts


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
    chosen = settings(config, set_, cluster__address=address, training__members=members, training__epochs=epochs)
    screen = console()
    request = TrainingRequest(catalogue, features, bundle, chosen, overwrite)
    screen.print(f"[bold]training[/] {chosen.training.members} members, at most {chosen.training.epochs} epochs each")
    outcome = train_ensemble(request, lambda member, epoch: _show_epoch(screen, member, epoch))
    show_training(screen, outcome, bundle)


def _show_epoch(screen: Console, member: int, epoch: dict[str, Any]) -> None:
    accuracy = epoch.get("valid_accuracy")
    precision = epoch.get("valid_tag_macro_average_precision")
    screen.print(
        f"member {member}  epoch {epoch['epoch']:>3}  loss {epoch['train_loss']:.3f}"
        + (f"  valid loss {epoch['valid_loss']:.3f}" if epoch.get("valid_loss") is not None else "")
        + (f"  accuracy {accuracy:.3f}" if accuracy is not None else "")
        + (f"  tag PR-AUC {precision:.3f}" if precision is not None else "")
        + f"  {epoch['seconds']:.1f} s"
    )


def show_training(screen: Console, outcome: TrainOutcome, bundle: str) -> None:
    """Print what training gave."""
    if not outcome.trained:
        screen.print(f"[bold green]✓[/] Training: nothing to do, {bundle} was made from this data and these settings")
        return
    rows = {"bundle fingerprint": outcome.fingerprint, "epochs by member": ", ".join(map(str, outcome.epochs))}
    for name, value in outcome.metrics.get("ensemble", {}).items():
        rows[f"validation {name.replace('_', ' ')}"] = "–" if value is None else f"{value:.3f}"
    rows["time"] = f"{outcome.wall_seconds:.1f} s"
    rows["output"] = bundle
    facts(screen, "Training", rows)
    screen.print("Early stopping and calibration looked at the validation split: its figures flatter.", style="dim")
