from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mgc.catalogue.labels import folder_genre, keyed_by_track, read_manifest
from mgc.catalogue.listing import track_id_of
from mgc.config import CatalogueConfig
from mgc.errors import LabelError

ANY = CatalogueConfig()


def written(folder: Path, text: str, name: str = "manifest.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def parquet(folder: Path, columns: dict[str, Any]) -> str:
    pl.DataFrame(columns).write_parquet(folder / "manifest.parquet")
    return str(folder / "manifest.parquet")


def refused(path: str, config: CatalogueConfig = ANY) -> str:
    with pytest.raises(LabelError) as caught:
        read_manifest(path, config)
    return str(caught.value)


def test_a_csv_of_everything(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "track_id,path,genre,tags,tags_known,artist,split,duration_s\n"
        "x1,a/1.wav, blues ,piano| slow;piano,1,B.B. King,train,30\n"
        "x2,./a\\2.wav,,,yes,,VALID,30\n"
        "x3,a/3.wav,rock,drums,no,Queen,,30\n",
    )
    frame = read_manifest(path, ANY)
    assert frame.columns == ["path", "genre", "tags", "tags_known", "group", "split"]
    assert frame.rows() == [
        ("a/1.wav", "blues", ["piano", "slow"], True, "B.B. King", "train"),
        ("a/2.wav", None, [], True, None, "valid"),
        ("a/3.wav", "rock", ["drums"], False, "Queen", None),
    ]


def test_the_key_is_path_before_uri_before_track_id(tmp_path: Path) -> None:
    head = "track_id,genre,uri,path\n1,a,s3://b/k,p\n"
    assert read_manifest(written(tmp_path, head), ANY).columns[0] == "path"
    assert read_manifest(written(tmp_path, "track_id,genre,uri\n1,a,s3://b/k\n"), ANY).columns[0] == "uri"
    assert read_manifest(written(tmp_path, "genre,track_id\na,00012\n"), ANY)["track_id"].to_list() == ["00012"]


def test_tags_are_known_where_the_cell_of_a_csv_is_not_empty(tmp_path: Path) -> None:
    frame = read_manifest(written(tmp_path, "path,tags\na,piano\nb,\nc, | \n"), ANY)
    assert frame["tags"].to_list() == [["piano"], [], []]
    assert frame["tags_known"].to_list() == [True, False, True]


def test_an_empty_list_of_a_parquet_column_is_known_and_a_missing_one_is_not(tmp_path: Path) -> None:
    tags = [["piano", None, " slow "], [], None]
    frame = read_manifest(parquet(tmp_path, {"path": ["a", "b", "c"], "tags": tags}), ANY)
    assert frame["tags"].to_list() == [["piano", "slow"], [], []]
    assert frame["tags_known"].to_list() == [True, True, False]


def test_parquet_columns_of_other_types_are_read_as_text(tmp_path: Path) -> None:
    columns = {
        "path": ["a", "b"],
        "genre": [1, None],
        "tags": ["x|y", "z"],
        "tags_known": [True, False],
        "group": [7, 8],
    }
    assert read_manifest(parquet(tmp_path, columns), ANY).rows() == [
        ("a", "1", ["x", "y"], True, "7", None),
        ("b", None, ["z"], False, "8", None),
    ]


def test_group_comes_before_artist_and_names_of_columns_have_no_case(tmp_path: Path) -> None:
    frame = read_manifest(written(tmp_path, "\ufeffPath,Artist, GROUP ,Genre\na,Abba,g1,pop\n"), ANY)
    assert frame.select("path", "group", "genre").rows() == [("a", "g1", "pop")]


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    frame = read_manifest(written(tmp_path, "path\tgenre\na,b.wav\tpop\n", "labels.tsv"), ANY)
    assert frame.select("path", "genre").rows() == [("a,b.wav", "pop")]


def test_a_manifest_that_is_not_there_or_not_readable(tmp_path: Path) -> None:
    assert "does not exist" in refused(str(tmp_path / "none.csv"))
    assert "empty CSV" in refused(written(tmp_path, ""))
    assert "has no rows" in refused(written(tmp_path, "path,genre\n"))
    assert "more fields" in refused(written(tmp_path, "path,genre\na,b,c\n"))
    (tmp_path / "latin.csv").write_bytes(b"path,genre\ncaf\xe9.wav,pop\n")
    assert "utf-8" in refused(str(tmp_path / "latin.csv")).lower()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    assert "cannot be read" in refused(str(tmp_path / "bad.parquet"))


def test_columns_that_are_missing_or_doubled(tmp_path: Path) -> None:
    text = refused(written(tmp_path, "file,genre\na,pop\n"))
    assert "no column path, uri or track_id" in text
    assert "file, genre" in text
    assert "none of the columns genre, tags, group" in refused(written(tmp_path, "path,year\na,1999\n"))
    assert "more than one column 'path'" in refused(written(tmp_path, "path,Path,genre\na,b,pop\n"))


def test_a_track_named_twice_is_named_in_the_message(tmp_path: Path) -> None:
    rows = "".join(f"{name}.wav,pop\n" for name in "abcdefghhgfedcb")
    text = refused(written(tmp_path, f"path,genre\n{rows}./a.wav,rock\n"))
    assert "names 8 track(s) more than once: a.wav, b.wav, c.wav, d.wav, e.wav, … (8 in all)" in text


def test_rows_without_a_key(tmp_path: Path) -> None:
    assert "2 row(s) with an empty 'path'" in refused(written(tmp_path, "path,genre\na,pop\n ,pop\n,rock\n"))


def test_unknown_genres_are_named_with_the_nearest_valid_one(tmp_path: Path) -> None:
    path = written(tmp_path, "path,genre\na,jaz\nb,jaz\nc,blues\nd,\n")
    text = refused(path, CatalogueConfig(genres=("blues", "jazz")))
    assert "'jaz' (2 rows; did you mean 'jazz'?)" in text
    lenient = CatalogueConfig(genres=("blues", "jazz"), unknown_genre="unlabelled")
    assert read_manifest(path, lenient)["genre"].to_list() == [None, None, "blues", None]


def test_unknown_splits_are_named_with_the_nearest_valid_one(tmp_path: Path) -> None:
    text = refused(written(tmp_path, "path,split\na,validation\nb,train\n"))
    assert "'validation' (did you mean 'valid'?)" in text


def test_tags_known_must_say_yes_or_no(tmp_path: Path) -> None:
    text = refused(written(tmp_path, "path,tags,tags_known\na,x,perhaps\nb,y,1\n"))
    assert "neither true nor false: perhaps" in text


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("path", "a/é.wav"),
        ("path", "a/e\u0301.wav"),
        ("path", "/music/a/é.wav"),
        ("uri", "/music/a/é.wav"),
        ("uri", "file:///music/a/%C3%A9.wav"),
    ],
)
def test_every_way_to_name_a_file_leads_to_its_track(tmp_path: Path, column: str, cell: str) -> None:
    manifest = read_manifest(written(tmp_path, f"{column},genre\n{cell},pop\n"), ANY)
    assert keyed_by_track(manifest, "/music")["track_id"].to_list() == [track_id_of("a/é.wav")]


def test_two_names_of_one_file_are_a_track_named_twice(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "path,genre\na.wav,pop\n/music/a.wav,pop\n"), ANY)
    with pytest.raises(LabelError, match=r"names 1 track\(s\) more than once: a.wav"):
        keyed_by_track(manifest, "/music")


def test_the_first_folder_is_the_genre() -> None:
    keys = pl.DataFrame({"key": ["blues/a.wav", "hip hop /x/b.wav", "root.wav", "/odd.wav"]})
    assert keys.select(folder_genre())["genre"].to_list() == ["blues", "hip hop", None, None]
