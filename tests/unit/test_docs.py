"""The pages of docs/ say what the code says: every error code, every setting."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from hostile_files import HOSTILE_FILES

from mgc.catalogue.datasets.dataset_registry import DATASETS
from mgc.cli.app import EXIT_STATUSES
from mgc.config import Config, Section, model_sections
from mgc.errors import MEANINGS, Stage, TrackCode

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in ERRORS.splitlines()
    if re.match(r"\| (MGC|T)\d", line)
]


def run_codes() -> dict[str, str]:
    """Return code → class of every error kind in the sources of mgc."""
    kinds = {}
    for path in sorted((ROOT / "mgc").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for kind, body in re.findall(r"^class (\w+)\(.*?\):\n(.*?)(?=^\S|\Z)", source, re.M | re.S):
            for code in re.findall(r'^    code(?:: ClassVar\[str\])? = "(MGC\d+)"', body, re.M):
                assert code not in kinds, f"{code} is both {kinds[code]} and {kind}"
                kinds[code] = kind
    return kinds


def test_every_code_of_a_run_is_documented_under_its_kind_and_none_is_invented() -> None:
    documented = {row[0]: row[1].strip("`") for row in ROWS if row[0].startswith("MGC")}
    assert documented == run_codes()
    assert len(documented) >= 12


def test_every_code_of_a_track_is_documented_and_none_is_invented() -> None:
    assert [row[0] for row in ROWS if row[0].startswith("T")] == [code.value for code in TrackCode]


def test_pages_say_the_same_of_a_code() -> None:
    written = {
        row[0]: tuple(re.sub("[`*]", "", cell) for cell in (row[1], row[3])) for row in ROWS if row[0][0] == "T"
    }
    assert {code.value: (said.text, said.remedy) for code, said in MEANINGS.items()} == written


def test_every_row_has_a_meaning_a_time_and_a_remedy() -> None:
    for row in ROWS:
        assert len(row) == (5 if row[0].startswith("MGC") else 4), row[0]
        assert all(cell for cell in row), row[0]


def test_exit_statuses_are_those_of_the_help_page() -> None:
    assert {
        int(status): meaning for status, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", ERRORS, re.M)
    } == EXIT_STATUSES
    assert set(EXIT_STATUSES) == {0, 1, 2, 130, 143}


def test_every_stage_is_named() -> None:
    for stage in Stage:
        assert f"`{stage.value}`" in ERRORS


def test_the_answers_to_hostile_files_are_those_tested() -> None:
    written = dict(re.findall(r"^\| `(\S+)` \| (\S+?)(?:, .*)? \|$", ERRORS, re.M))
    expected = {name: hostile.code.value if hostile.code else "decoded" for name, hostile in HOSTILE_FILES.items()}
    assert {name: answer for name, answer in written.items() if name in HOSTILE_FILES} == expected
    assert len(expected) > 30


def test_the_settings_that_the_page_of_errors_names_exist() -> None:
    named = re.findall(r"`(catalogue|features|decode|training|tagging|evaluation|cluster)\.(\w+)", ERRORS)
    assert named
    for section, key in named:
        model = Config.model_fields[section].annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        assert key in model.model_fields, f"{section}.{key}"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_configuration", ROOT / "docs" / "generate_configuration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_up_to_date(generator: ModuleType) -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == generator.page(), "run: python docs/generate_configuration.py"


def test_the_page_of_settings_names_each_with_its_default(generator: ModuleType) -> None:
    page = generator.page()
    for section, field in Config.model_fields.items():
        assert f"## `[{section}]`" in page
        whole = field.annotation
        for model in [whole] if isinstance(whole, type) else model_sections().values():
            for key in model.model_fields:
                assert f"| `{key}` |" in page
    assert "| `n_mels` | whole number, ≥ 8, ≤ 512 | `128` |" in page


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} → {target}"


def test_every_network_and_every_data_set_has_its_place_in_a_page() -> None:
    models, datasets = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("models.md", "datasets.md"))
    assert [name for name in model_sections() if f"`{name}`" not in models] == []
    assert [name for name in DATASETS if f"`{name}`" not in datasets] == []


def test_the_modules_that_pages_name_exist() -> None:
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for path in re.findall(r"`((?:mgc|tests|jobs|benchmarks|docs)/[\w/.-]*)`", page.read_text(encoding="utf-8")):
            assert "NAME" in path or (ROOT / path).exists(), f"{page.name}: {path}"
