"""Names of files, tags and genres in the terminal: their markup is plain text, their control characters are shown."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from in_process import run_tiny, without_ray
from rich.console import Console
from rich.table import Table
from table_makers import catalogue
from test_tag_command import TAXONOMY, prediction

import mgc.cli
from mgc.cli import file_answers, report_command, similar_command, write_tags_command
from mgc.cli.app import Screen, guarded
from mgc.cli.compare_command import show_compared
from mgc.cli.file_answers import AnswerOptions, BundleAnswers, show_answers
from mgc.cli.reproduce_command import _show_failures
from mgc.cli.terminal import announce, facts, run_summary, warned
from mgc.cli.tune_command import EpochCount
from mgc.cluster.progress import Meter
from mgc.cluster.run import RunOptions
from mgc.config.taxonomy import Taxonomy
from mgc.curation.filetags.write_plan import Skips, TagChange
from mgc.errors import ConfigError, Stage, TrackCode, TrackError
from mgc.inference.file_tagger import FileAnswer
from mgc.logs import LOGGER, configure_logging, log, log_context
from mgc.models.bundle import Bundle

HOSTILE = "[red]a[/][/]\x1b[31m\x1b]0;own\x07\n\x9b2J\u202eb\\[/b]"
SHOWN = r"[red]a[/][/]\x1b[31m\x1b]0;own\x07\n\x9b2J\u202eb\[/b]"


def consoles() -> list[Console]:
    return [kind(file=io.StringIO(), width=300) for kind in (Console, Screen)]


def require_plain(text: str, *, cut: bool = False) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), ascii(text)
    assert SHOWN[:12] in text if cut else SHOWN in text


def test_markup_in_a_name_neither_breaks_nor_colours_what_is_printed() -> None:
    for screen in consoles():
        facts(screen, HOSTILE, {HOSTILE: HOSTILE, "skipped": warned(2, f", such as {HOSTILE}")})
        announce(screen, "tagging", HOSTILE)
        announce(screen, "Tagging", HOSTILE, done=True)
        EpochCount(screen, 3).show(1, {"failed": HOSTILE})
        assert isinstance(screen.file, io.StringIO)
        text = screen.file.getvalue()
        require_plain(text)
        assert text.count(SHOWN) == 7


def test_a_run_names_its_failed_tracks_and_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    tracks = catalogue({"a": "1", "bad": "1"})
    hostile = tracks.with_columns(uri=pl.concat_str(pl.col("uri").str.head(7), pl.lit(HOSTILE), pl.lit("/bad.wav")))
    outcome = run_tiny(str(tmp_path), hostile, RunOptions())
    for screen in consoles():
        run_summary(screen, "Extraction", outcome, f"out/{HOSTILE}")
        run_summary(screen, "Extraction", run_tiny(str(tmp_path), hostile, RunOptions()), f"out/{HOSTILE}")
        assert isinstance(screen.file, io.StringIO)
        require_plain(screen.file.getvalue())


def _answers() -> BundleAnswers:
    names = Taxonomy((HOSTILE, "rock", "polka"), (HOSTILE, "loud", "slow"))
    bundle = cast(Bundle, SimpleNamespace(taxonomy=names, uri=HOSTILE, fingerprint="f"))
    good = FileAnswer(f"in/{HOSTILE}", 3.0, prediction([0.7, 0.1, 0.2], [0.97, 0.2, 0.55], [HOSTILE, "slow"]))
    bad = FileAnswer(f"in/b{HOSTILE}", error=TrackError(TrackCode.NOT_AUDIO, Stage.DECODE, HOSTILE))
    return BundleAnswers(bundle, iter([good, bad]))


def _compared(*, as_json: bool) -> None:
    other = BundleAnswers(cast(Bundle, SimpleNamespace(taxonomy=TAXONOMY, uri="b", fingerprint="e")), _answers().each)
    show_compared(_answers(), other, as_json=as_json)


def _neighbours() -> None:
    index = SimpleNamespace(
        tracks=pl.DataFrame({"uri": [HOSTILE], "genre": [HOSTILE], "genre_probability": [0.5], "abstained": [True]}),
        index=SimpleNamespace(is_exact=True),
        row_of=lambda track: 0,
        manifest=SimpleNamespace(left_out=0, count=1, bundle_fingerprint=HOSTILE),
    )
    rows = index.tracks.with_columns(rank=1, cosine=0.9)
    similar_command.show_neighbours(similar_command.console(), cast(Any, index), rows, [HOSTILE], as_json=False)


def _duplicates() -> None:
    groups = pl.DataFrame({"group_id": "g", "uri": [HOSTILE], "duration_seconds": 1.0, "correlation": 1.0})
    similar_command.show_duplicates(similar_command.console(), groups, HOSTILE, as_json=False)


def _plan() -> None:
    labels = cast(Any, None)
    change = TagChange("t", HOSTILE, "id", "file", HOSTILE, labels, {"genre": (HOSTILE,)}, {"genre": (HOSTILE,)})
    skips = Skips()
    skips.add(HOSTILE, HOSTILE)
    write_tags_command.show_plan(write_tags_command.console(), [change], skips, None)


def _failed_runs() -> None:
    outcome = SimpleNamespace(runs=[SimpleNamespace(key="k", label=HOSTILE)], failures={"k": HOSTILE})
    _show_failures(report_command.console(), cast(Any, outcome))


SHOWS: dict[str, Callable[[], object]] = {
    "tag": lambda: show_answers(_answers(), AnswerOptions()),
    "compare": lambda: _compared(as_json=False),
    "similar": _neighbours,
    "duplicates": _duplicates,
    "write-tags": _plan,
    "reproduce": _failed_runs,
}


@pytest.mark.parametrize("name", SHOWS)
def test_every_table_shows_names_as_they_are(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with contextlib.suppress(file_answers.typer.Exit):
        SHOWS[name]()
    require_plain(capsys.readouterr().out, cut=name == "compare")


def test_json_lines_hold_the_name_and_control_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_answers, "json_answer", lambda answer, *_, **__: {"audio_file": answer.uri})
    with pytest.raises(file_answers.typer.Exit):
        show_answers(_answers(), AnswerOptions(json=True))
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out)
    assert file_answers.json_line(f"in/{HOSTILE}") in out


def test_an_error_that_names_a_file_is_one_line_and_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigError(f"'{HOSTILE}' is no catalogue:\n  genre: no", f"not {HOSTILE}")

    with pytest.raises(SystemExit) as end:
        guarded(fail)
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"error: '{SHOWN}' is no catalogue:", "  genre: no [MGC101]", f"  → not {SHOWN}"]


@pytest.fixture
def _log() -> Iterator[None]:
    handlers, level = list(LOGGER.handlers), LOGGER.level
    LOGGER.handlers[:] = []
    configure_logging(logging.WARNING)
    yield
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)


@pytest.mark.usefixtures("_log")
def test_a_log_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with log_context(uri=HOSTILE):
        log.warning("fetch failed: %s", HOSTILE)
    assert capsys.readouterr().err.splitlines() == [f"mgc warning: fetch failed: {SHOWN} uri={SHOWN}"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_in_the_progress_is_plain(terminal: bool) -> None:
    screen = Screen(file=io.StringIO(), force_terminal=terminal, width=300, color_system=None)
    with Meter(screen, "running", 2, "runs").shown() as meter:
        meter.update(1, note=HOSTILE)
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert SHOWN in text
    assert "\x1b]0;" not in text
    assert "\x1b[31m" not in text


def test_the_console_of_every_command_shows_what_a_command_forgot(capsys: pytest.CaptureFixture[str]) -> None:
    screen = report_command.console()
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    screen.print(table)
    screen.print(HOSTILE)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", capsys.readouterr().out)


def test_no_command_writes_rich_markup() -> None:
    for path in Path(mgc.cli.__file__).parent.glob("*.py"):
        assert not re.search(r"\[/\w*\]|\[(bold|red|green|dim)\b|rich\.markup", path.read_text()), path.name
