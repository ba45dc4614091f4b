"""The doors: `mgc x`, `python jobs/x.py` and `ray job submit` all come in here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from mgc.config import Config, load_config
from mgc.errors import MgcError

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""

ConfigOption = Annotated[str | None, typer.Option("--config", help="TOML file of settings", metavar="FILE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="one setting, e.g. --set training.epochs=20; may be given again", metavar="KEY=VALUE"),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster to join, host:port or auto; else RAY_ADDRESS, else Ray in here"),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would be done and how long; do nothing")]
TakeoverOption = Annotated[bool, typer.Option("--takeover", help="take the place of a run that is or seems alive")]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="actors; default: one a CPU", min=1)]


def console() -> Console:
    """Return the console of standard output; wide enough for a table where no terminal says its width."""
    return Console(width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "110")), highlight=False)


def settings(
    config: str | None, overrides: list[str] | None, *, default_ensemble: bool = False, **flags: object
) -> Config:
    """Return the settings of a file, `--set` on top, and flags (`section__key=value`, None: not given) on top."""
    given = [f"{key.replace('__', '.')}={_toml(value)}" for key, value in flags.items() if value is not None]
    return load_config(config, [*(overrides or []), *given], default_ensemble=default_ensemble)


def run(command: Callable[..., None]) -> None:
    """Run one command as a program: what `jobs/x.py` does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    guarded(app)


def guarded(app: Callable[[], object]) -> None:
    """Run an app; an error of mgc becomes its message and exit status 2, a Ctrl-C exit status 130."""
    try:
        app()
    except MgcError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns a Ctrl-C inside a command into a silent exit 130.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("interrupted; what was finished is taken up by the next run", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
