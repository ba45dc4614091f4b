"""The console script `mgc`: its commands, the options that they share, and how errors end them.

Only the module of the command that is called is imported: `mgc --help` answers at once, and `mgc index` does not wait
for torch and Ray. `mgc x`, and of most commands `python jobs/x.py` and `ray job submit`, start here.
"""

from __future__ import annotations

import codecs
import errno
import functools
import importlib
import inspect
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from mgc import __version__
from mgc.config import Config, load_config
from mgc.errors import MgcError
from mgc.logs import configure_logging, json_line
from mgc.printable import printable

INTERRUPTED, TERMINATED = 130, 143
EXIT_STATUSES = {
    0: "done; tracks that failed are rows with a code",
    1: "a file without an answer (tag FILE), a run that failed (reproduce), no good run for --max-age (status), "
    "output that nobody reads, or a fault of mgc's own, with a traceback",
    2: "an error with its code and remedy (docs/errors.md), or a wrong option",
    INTERRUPTED: "interrupted (Ctrl-C); the next run resumes what was finished",
    TERMINATED: "terminated (SIGTERM); the next run resumes what was finished",
}
"""Exit statuses of every command, as `mgc --help` and docs/errors.md list them."""
UNWIND_SECONDS = 8.0
"""For so long a command may put things in order after SIGTERM: schedulers send SIGKILL ten seconds later, or more."""
OUTPUT_ENDED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE}
"""Errors of a write to standard output: it is full, or nobody reads it any more."""

_PLAINER = str.maketrans("█▉▊▋▌▍▎▏…–→×✓", "#####   .->x+")
"""What stands for the signs of tables and bars in a terminal that lacks them."""

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
LogLevelOption = Annotated[
    str | None,
    typer.Option(help="lines on stderr from debug, info, warning or error on", metavar="LEVEL"),
]
LogFormatOption = Annotated[
    str | None, typer.Option(help="of these lines: text, or json, with run_id, track_id and node", metavar="FORMAT")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="actors; default: one a CPU", min=1)]

COMMANDS = {
    "index": ("index_command", "List audio, join labels, assign splits: a catalogue."),
    "extract": ("extract_command", "Features of every track, as Parquet shards."),
    "features": ("extract_command", "A table of feature statistics, or MFCC as JSON, for other programs."),
    "import-mels": ("extract_command", "Mel spectrograms that others computed (.npy), as Parquet shards."),
    "import-onnx": ("models_command", "A network of others, as an ONNX file and its contract, as a model bundle."),
    "import-weights": ("train_command", "Published weights of FCN, CRNN or musicnn, as a model bundle."),
    "models": ("models_command", "Networks that others published: list them, or pull one by its name."),
    "train": ("train_command", "Fit the ensemble: a model bundle."),
    "tune": ("tune_command", "Search for settings: a table of trials, and the best as a TOML."),
    "distill": ("train_command", "One small, fast network that answers as an ensemble does: a model bundle."),
    "evaluate": ("evaluate_command", "Figures with intervals on one split: a report."),
    "probe": (
        "evaluate_command",
        "What a bundle's frozen embedding is worth: an SVM on it, beside one on MFCC statistics.",
    ),
    "tag": ("tag_command", "Genre, tags, confidence and embedding, for a catalogue or for a few files."),
    "inspect": (
        "inspect_command",
        "A page or a picture of one track: waveform, log-mel, genres and tags in time, nearest tracks.",
    ),
    "serve": ("serve_command", "Answers over HTTP, for uploaded files and files of a store."),
    "compare": ("compare_command", "Two bundles' answers for the same files, side by side."),
    "similar": (
        "similar_command",
        "The tracks most like some, also as a playlist; near-duplicates; how good that is.",
    ),
    "report": ("report_command", "The page of the last tagging run, made anew."),
    "review": ("similar_command", "The tracks whose label would help most, as a CSV to fill in."),
    "status": ("status_command", "When a run last ended well, who is at work, what failed; a health check."),
    "prune": ("prune_command", "Merge the old runs of an output into one; a dry run without --apply."),
    "write-tags": ("write_tags_command", "Genre and tags into files or sidecars; a dry run without --apply."),
    "reproduce": (
        "reproduce_command",
        "The literature's systems and yours under every protocol, side by side: one page.",
    ),
    "demo": ("demo_command", "The whole way, on a small catalogue of its own or on your folder."),
}
"""Command → the module of `mgc.cli` with the function of that name (- written _), and its line of help."""


def main() -> None:
    """Run the console script."""
    called = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    guarded(build_app(called))


def build_app(called: str | None) -> typer.Typer:
    """Return the app with the called command imported, and the others by name and help line alone."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback(epilog=_exit_statuses())(_about)
    for name, (module, help_line) in COMMANDS.items():
        if name == called:
            command = getattr(importlib.import_module(f"mgc.cli.{module}"), name.replace("-", "_"))
            app.command(name)(_with_log_options(command))
        else:
            app.command(name, help=help_line)(_unopened)
    return app


def run(command: Callable[..., None]) -> None:
    """Run one command as a program: what `jobs/x.py` does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(_with_log_options(command))
    guarded(app)


def _with_log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes `--log-level` and `--log-format` too; they win over settings."""

    @functools.wraps(command)
    def logged(*, log_level: str | None, log_format: str | None, **arguments: Any) -> None:
        given = {"level": log_level, "format": log_format}
        _LOG_FLAGS[:] = [f"logs.{name}={value}" for name, value in given.items() if value is not None]
        settings(None, None)
        command(**arguments)

    signature = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in {"log_level": LogLevelOption, "log_format": LogFormatOption}.items()
    ]
    taking: Any = logged
    taking.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *options])
    return logged


_LOG_FLAGS: list[str] = []
"""What `--log-level` and `--log-format` said, as overrides of settings."""


def guarded(app: Callable[[], object]) -> None:
    """Run an app; an error of mgc becomes its message and exit status 2, a Ctrl-C 130, a SIGTERM 143.

    Standard output that takes no more (a full disk) is an error of mgc, too.
    """
    # Of processes that begin from here (Ray's, those of libraries) none looks for modules in the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    _in_utf8_mode()
    _accept_any_letter()
    configure_logging()
    _SIGTERM.clear()
    try:
        _with_exit_status(app)
    except BaseException:
        # Whatever came of the unwinding (typer, for one, makes status 1 of a broken pipe): SIGTERM is why it ended.
        if not _SIGTERM.is_set():
            raise
        print(_ended_by(TERMINATED), file=sys.__stderr__)
        sys.exit(TERMINATED)


def _with_exit_status(app: Callable[[], object]) -> None:
    try:
        with _ended_by_sigterm():
            try:
                app()
            finally:
                sys.stdout.flush()
    except MgcError as error:
        _fail(error)
    except OSError as error:
        if error.errno not in OUTPUT_ENDED or error.filename:
            raise
        # What is left of the output goes nowhere: Python would fail at it again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:
            sys.exit(1)
        from mgc.storage.objects import DiskFullError  # only here: with it comes pyarrow

        _fail(
            DiskFullError(f"standard output takes no more: {error.strerror}", "free some space, or write elsewhere")
        )
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns a Ctrl-C inside a command into a silent exit 130.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print(_ended_by(INTERRUPTED), file=sys.stderr)
        sys.exit(INTERRUPTED)


_SIGTERM = threading.Event()
"""Set as SIGTERM comes."""


def _ended_by(status: int) -> str:
    text = EXIT_STATUSES[status]
    return json_line(text) or text


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exception, so that leases, actors and children end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        _SIGTERM.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the putting in order
        threading.Thread(target=_end_late, name="terminate", daemon=True).start()
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, before)


def _end_late() -> None:
    """End the process where putting things in order hangs, or where a library swallowed the exception."""
    time.sleep(UNWIND_SECONDS)
    # Only what has held a lease has imported it.
    if (lease := sys.modules.get("mgc.tables.lease")) is not None:
        releasing = threading.Thread(target=lease.release_held, daemon=True)
        releasing.start()
        releasing.join(1.0)
    os.write(2, f"{_ended_by(TERMINATED)}\n".encode())
    os._exit(TERMINATED)


def _fail(error: MgcError) -> NoReturn:
    if line := json_line(error.message, code=error.code, remedy=error.remedy):
        print(line, file=sys.stderr)
        sys.exit(2)
    Screen(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "bold red"), " ", _error_text(error)))
    sys.exit(2)


def _in_utf8_mode() -> None:
    """Begin anew where the locale is not UTF-8: a file's name, and so its track's id, is the same in every locale."""
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:replace")  # what the terminal shows stays
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)


def _accept_any_letter() -> None:
    """Let a letter that the terminal's encoding lacks become a question mark, not a traceback; and bars be bars."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        lacking = error.object[error.start : error.end].translate(_PLAINER)
        return lacking.encode("ascii", "replace").decode(), error.end

    codecs.register_error("mgc.plainer", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "replace"):
            stream.reconfigure(errors="mgc.plainer")


class Screen(Console):
    """A console that reads no markup in text and sends no control character of it to the terminal.

    Parameters
    ----------
    options
        Of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is printed; rich's own control codes (of a live line) pass, those in text do not."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, allowed="\n"), style)


def console() -> Screen:
    """Return the console of standard output; wide enough for a table where no terminal says its width."""
    return Screen(width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "110")))


def plain(text: str, style: str = "") -> Text:
    """Return text from outside as the terminal may show it: no markup is read, control characters are visible."""
    return Text(printable(text), style)


def settings(
    config: str | None,
    overrides: list[str] | None,
    *,
    default_ensemble: Sequence[Mapping[str, Any]] = (),
    **flags: object,
) -> Config:
    """Return the settings of a file, `--set` on top, and flags (`section__key=value`, None: not given) on top.

    From here on the command logs as they say.
    """
    given = [f"{key.replace('__', '.')}={_toml(value)}" for key, value in flags.items() if value is not None]
    chosen = load_config(config, [*(overrides or []), *given, *_LOG_FLAGS], default_ensemble=default_ensemble)
    configure_logging(chosen.logs.level, chosen.logs.format)
    return chosen


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mgc {__version__}")
        raise typer.Exit


def _about(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Genre, tags, confidence and embeddings for a whole music catalogue, on a Ray cluster."""


def _exit_statuses() -> str:
    return "\n\n".join(["Exit status:", *(f"{status}: {meaning}" for status, meaning in EXIT_STATUSES.items())])


def _unopened() -> None:
    """Stand in the help page for a command that was not called."""
    raise AssertionError("only the called command is run, and that one is opened")


def _error_text(error: MgcError) -> str:
    """Return an error for the terminal: of line ends only those stay that mgc indents itself."""
    return "\n  ".join(map(printable, str(error).split("\n  ")))


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
