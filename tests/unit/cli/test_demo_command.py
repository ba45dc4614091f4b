"""`mgc demo` on somebody's music: which folders are genres to learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgc.catalogue.index import index_catalogue
from mgc.cli.demo_command import TRACKS_A_GENRE, _are_genres
from mgc.config import CatalogueConfig


@pytest.mark.parametrize(
    ("tracks_by_folder", "expected"),
    [
        ({"jazz": TRACKS_A_GENRE, "rock": TRACKS_A_GENRE}, True),
        ({"jazz": TRACKS_A_GENRE, "rock": TRACKS_A_GENRE, "rest": 1}, True),
        ({"jazz": TRACKS_A_GENRE, "rock": TRACKS_A_GENRE - 1}, False),
        ({"all": 5 * TRACKS_A_GENRE}, False),
        ({"": 5 * TRACKS_A_GENRE}, False),
    ],
)
def test_two_folders_of_enough_tracks_are_genres(
    tmp_path: Path, tracks_by_folder: dict[str, int], expected: bool
) -> None:
    for folder, count in tracks_by_folder.items():
        place = tmp_path / "music" / folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (place / f"{number}.mp3").write_bytes(b"ID3")
    found = index_catalogue(
        str(tmp_path / "music"), str(tmp_path / "catalogue.parquet"), CatalogueConfig(labels_from="folder")
    )
    assert _are_genres(found) == expected
