"""Names, comments, messages and pages use the usual words of the field, so that a reader finds things by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    *sorted((ROOT / "mgc").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
REPLACEMENTS = {
    r"hears?|heard|hearing": "decode, read, extract (a file); take (a network its input)",
    r"listeners?|listens": "reader, callback; reads",
    r"nights?": "run, scheduled run, incremental run; each day",
    r"vanished": "deleted, missing",
    r"unwell": "failing, unhealthy; fault injection",
    r"hushed": "silenced",
    r"lessons": "training rows, soft labels",
    r"taught": "trained, distilled",
    r"rivals?": "baseline (in evaluation), peer (in benchmarks)",
}
"""Words that mgc does not use, and what it says instead."""

PATTERN = re.compile("|".join(rf"\b(?P<w{number}>{words})\b" for number, words in enumerate(REPLACEMENTS)), re.I)


def retired_words(text: str) -> Iterator[str]:
    """Yield line number, word and replacement of each retired word in a text."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in PATTERN.finditer(line):
            words = list(REPLACEMENTS)[int(str(found.lastgroup)[1:])]
            yield f"{number}: '{found.group()}': say {REPLACEMENTS[words]}"


@pytest.mark.parametrize("path", [path.relative_to(ROOT).as_posix() for path in FILES if path.exists()])
def test_a_file_uses_the_fields_words(path: str) -> None:
    found = [f"{path}:{word}" for word in retired_words((ROOT / path).read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


def test_a_retired_word_is_named_with_its_line_and_replacement() -> None:
    text = "Reads a file.\nEvery night the Rival is heard, overnight or unheard-of."
    assert list(retired_words(text)) == [
        "2: 'night': say run, scheduled run, incremental run; each day",
        "2: 'Rival': say baseline (in evaluation), peer (in benchmarks)",
        "2: 'heard': say decode, read, extract (a file); take (a network its input)",
    ]
