"""`--fast`: a bundle's student is found beside it, and no other is."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_makers import bundle_contents

from mgc.cli import tag_command
from mgc.errors import BundleError
from mgc.models.bundle import write_bundle
from mgc.models.bundle_files import student_of, student_uri


def distilled_from(teacher: str) -> dict[str, object]:
    return {"teacher": teacher, "teacher_share": 1.0}


def write_pair(folder: Path) -> tuple[str, str]:
    """Write a teacher and its student, and return their URIs."""
    teacher = str(folder / "bundle")
    fingerprint = write_bundle(teacher, bundle_contents())
    write_bundle(student_uri(teacher), bundle_contents(1, facts=distilled_from(fingerprint)))
    return teacher, student_uri(teacher)


def test_a_student_is_found_in_its_teachers_directory_and_is_its_own(tmp_path: Path) -> None:
    teacher, student = write_pair(tmp_path)
    assert student == f"{teacher}/student"
    assert student_of(teacher) == student
    assert student_of(student) == student


def test_a_bundle_without_a_student_says_how_to_get_one(tmp_path: Path) -> None:
    write_bundle(str(tmp_path), bundle_contents())
    with pytest.raises(BundleError, match=r"has no student(.|\n)*mgc distill"):
        student_of(str(tmp_path))
    with pytest.raises(BundleError, match="no model bundle at"):
        student_of(str(tmp_path / "nowhere"))


def test_a_student_of_another_bundle_is_refused(tmp_path: Path) -> None:
    """The ensemble was trained anew, and its student was not distilled again."""
    teacher, _ = write_pair(tmp_path)
    newer = write_bundle(teacher, bundle_contents(3), overwrite=True)
    with pytest.raises(BundleError, match=rf"not from {newer} beside it"):
        student_of(teacher)


@pytest.mark.parametrize("tracks", [["song.mp3"], ["catalogue.parquet"]])
def test_fast_uses_the_student(tracks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = write_pair(tmp_path)
    used = []
    for name in ("tag_catalogue", "tag_files"):
        monkeypatch.setattr(tag_command, name, lambda _, bundle, *__, name=name, **___: used.append((name, bundle)))
    output = "out" if tracks == ["catalogue.parquet"] else None
    tag_command.tag(tracks, teacher, output=output)
    tag_command.tag(tracks, teacher, fast=True, output=output)
    called = "tag_catalogue" if output else "tag_files"
    assert used == [(called, teacher), (called, student)]
