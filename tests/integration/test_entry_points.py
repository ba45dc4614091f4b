"""`mgc x` and `python jobs/x.py`: help, and one clear line for what is wrong, before any work."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_music import write_music
from swift_server import SwiftServer

from mgc import __version__
from mgc.catalogue.index import index_catalogue
from mgc.cli.app import COMMANDS, EXIT_STATUSES
from mgc.config import CatalogueConfig

JOBS = Path(__file__).parents[2] / "jobs"
HELP = {
    "index_catalogue.py": "--manifest",
    "extract_features.py": "--limit",
    "export_features.py": "--n-mfcc",
    "import_mels.py": "--format",
    "import_weights.py": "--tag-set",
    "probe_embeddings.py": "--features",
    "train_ensemble.py": "--members",
    "distill.py": "--bundle",
    "tune.py": "--folds",
    "reproduce.py": "--page-only",
    "evaluate.py": "--split",
    "tag_catalogue.py": "--bundle",
    "compare_bundles.py": "--json",
    "inspect_track.py": "--every",
    "find_similar.py": "--duplicates",
    "prune_history.py": "--keep-days",
}
"""Job → an option that its help must name."""
WITHOUT_A_JOB = {"demo", "import-onnx", "models", "report", "review", "serve", "status", "write-tags"}
"""Commands for a terminal."""


EXPLAIN = """
import contextlib, io, json, runpy, sys
helps = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            helps[script] = [ended.code or 0, shown.getvalue()]
print(json.dumps(helps))
"""
"""Runs each job that is named with --help, as a program does."""


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = () if arguments[0].endswith(".py") else ("-m", "mgc")
    return call_python(*program, *arguments, **environment)


def call_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=plain, timeout=120, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a command was refused as it should be, and return its message."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # Ray announces itself when it starts; nothing of that may be there.
    assert "ray" not in done.stderr.lower()
    return done.stderr


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("entry_points")
    place = folder / "catalogue.parquet"
    index_catalogue(str(write_music(folder / "music", 1)), str(place), CatalogueConfig(labels_from="folder"))
    return str(place)


def test_every_command_has_a_job_and_every_job_is_tried() -> None:
    jobs = {path.name: path.read_text(encoding="utf-8") for path in JOBS.glob("*.py")}
    assert sorted(HELP) == sorted(jobs)
    named = {name for source in jobs.values() for name in re.findall(r"The same command as `mgc ([\w-]+)`", source)}
    assert named == set(COMMANDS) - WITHOUT_A_JOB


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, str]]:
    """Exit status and help of each job, from one process: most of what one of its own takes are the same imports."""
    done = call_python("-c", EXPLAIN, *(str(JOBS / script) for script in HELP))
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("script", "option"), HELP.items())
def test_every_job_explains_itself(script: str, option: str, helps: dict[str, tuple[int, str]]) -> None:
    status, shown = helps[str(JOBS / script)]
    assert status == 0
    assert option in shown
    # Published weights are taken as they are: nothing is set.
    assert "--set" in shown or script == "import_weights.py"


def test_a_job_is_a_program(tmp_path: Path) -> None:
    done = call(str(JOBS / "tag_catalogue.py"), str(tmp_path / "missing.parquet"), "-o", str(tmp_path / "out"))
    assert "missing.parquet" in refused(done)


def test_mgc_names_its_commands_and_version() -> None:
    done = call("--help")
    assert done.returncode == 0
    assert [
        name for name in ("index", "extract", "train", "evaluate", "tag", "demo") if name not in done.stdout
    ] == []
    assert call("--version").stdout.strip() == f"mgc {__version__}"


def test_the_help_page_lists_the_exit_statuses() -> None:
    shown = call("--help").stdout
    listed = {int(status): meaning for status, meaning in re.findall(r"^ *(\d+): (.+?) *$", shown, re.M)}
    assert listed == EXIT_STATUSES


@pytest.mark.parametrize("command", [("status",), (str(JOBS / "prune_history.py"),)])
def test_an_error_is_a_line_of_json_where_lines_are(command: tuple[str, ...], tmp_path: Path) -> None:
    done = call(*command, str(tmp_path), "--log-format", "json")
    assert done.returncode == 2
    line = json.loads(done.stderr)
    assert (line["level"], line["code"], line["run_id"]) == ("error", "MGC302", None)
    assert str(tmp_path) in line["message"]
    assert line["remedy"] == "give the --output of `mgc tag` or `mgc extract`"
    assert line["node"] == platform.node()


def test_a_wrong_format_of_lines_is_refused(tmp_path: Path) -> None:
    assert "logs.format = 'yaml': Input should be 'text' or 'json'" in refused(
        call("status", str(tmp_path), "--log-format", "yaml")
    )


def test_a_mistyped_command_is_named() -> None:
    done = call("tagg")
    assert done.returncode == 2
    assert "tagg" in done.stderr
    assert "tag" in done.stderr.replace("tagg", "")


def test_an_unknown_setting_names_the_nearest(catalogue: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = refused(call("extract", catalogue, "-o", str(out), "--set", "features.nmels=64"))
    assert "unknown setting 'features.nmels': did you mean 'n_mels'?" in message
    assert "MGC101" in message
    assert not out.exists()


def test_a_bad_value_says_what_is_allowed(catalogue: str, tmp_path: Path) -> None:
    settings = tmp_path / "mgc.toml"
    settings.write_text("[features]\nhop_length = 4096\n")
    message = refused(call("extract", catalogue, "-o", str(tmp_path / "out"), "--config", str(settings)))
    assert "hop_length must not exceed n_fft" in message
    assert str(settings) in message


def test_what_is_not_there_is_named(catalogue: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    out = str(tmp_path / "out")
    assert "missing" in refused(call("index", missing, "-o", f"{out}.parquet"))
    assert "missing" in refused(call("extract", f"{missing}.parquet", "-o", out))
    message = refused(call("tag", catalogue, "-b", missing, "-o", out))
    assert "MGC401" in message
    assert "missing" in message
    assert "MGC302" in refused(call("train", catalogue, "-f", missing, "-b", out))
    assert not Path(out).exists()


def test_an_output_of_another_kind_is_refused(catalogue: str, tmp_path: Path) -> None:
    (tmp_path / "_mgc.json").write_text('{"kind": "predictions", "schema_version": 1}')
    message = refused(call("extract", catalogue, "-o", str(tmp_path)))
    assert "holds predictions, not features" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_mgc.json"]


def test_the_dashboards_address_is_no_cluster(catalogue: str, tmp_path: Path) -> None:
    done = call("extract", catalogue, "-o", str(tmp_path / "out"), "--address", "http://127.0.0.1:8265")
    assert done.returncode == 2
    assert "ray job submit" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.s3
def test_s3_is_checked_before_any_work(swift: SwiftServer, tmp_path: Path) -> None:
    bucket, out = swift.make_bucket("entry-points"), str(tmp_path / "catalogue.parquet")
    message = refused(call("index", "s3://no-such-bucket-here/music", "-o", out, **swift.env()))
    assert "no-such-bucket-here" in message
    wrong = {**swift.env(), "AWS_SECRET_ACCESS_KEY": "wrong"}
    message = refused(call("index", f"s3://{bucket}/music", "-o", out, **wrong))
    assert "AWS_SECRET_ACCESS_KEY" in message
    message = refused(call("index", f"s3://{bucket}/music", "-o", out, **swift.env("guest")))
    assert bucket in message
    assert not Path(out).exists()
