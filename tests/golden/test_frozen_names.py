"""Names on disk and fingerprints stay what they are: data written by one version of mgc is read by the next."""

from __future__ import annotations

import difflib

import pytest
from golden.frozen_names import FOLDER, FROZEN

MEANT = """\
{name} is no longer what mgc writes:

{changes}

Data that is on disk already has the old one. If the change is meant:
1. raise the version beside it (SCHEMA_VERSIONS, FORMAT_VERSION, VERSION), or read the old name too;
2. say it in CHANGELOG.md and in the page of docs/ that has it;
3. run `PYTHONPATH=tests python tests/golden/frozen_names.py`, and commit what it wrote.
"""


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_on_disk_keeps_its_name(name: str) -> None:
    wanted, found = (FOLDER / name).read_text(encoding="utf-8"), FROZEN[name]()
    changes = "\n".join(difflib.unified_diff(wanted.splitlines(), found.splitlines(), "before", "now", lineterm=""))
    assert not changes, MEANT.format(name=name, changes=changes)
