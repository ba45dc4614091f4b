from __future__ import annotations

import gzip
import io
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mgc.catalogue.labels import folder_genre, keyed_by_track, look_alikes, read_manifest
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


TABLE = "path,genre,tags\na.wav,Bebop é,slow|sax\nb.wav,Rock,\n"
ROWS = [("a.wav", "Bebop é", ["slow", "sax"]), ("b.wav", "Rock", [])]


AS_PEOPLE_HAVE_IT = {
    "comma": TABLE.encode(),
    "byte order mark": TABLE.encode("utf-8-sig"),
    "semicolon": TABLE.replace(",", ";").encode(),
    "tab": TABLE.replace(",", "\t").encode(),
    "sep=": ("sep=;\n" + TABLE.replace(",", ";")).encode(),
    "Windows": TABLE.replace("\n", "\r\n").encode(),
    "old Mac": TABLE.replace("\n", "\r").encode(),
    "blank lines": TABLE.replace("\n", "\n\n").encode(),
    "empty cells": ("\n\n" + TABLE + ",,\n , ,\n").encode(),
    "empty columns": TABLE.replace("tags\n", "tags,,\n").replace("sax\n", "sax,,\n").encode(),
    "UTF-16": TABLE.encode("utf-16"),
    "UTF-16LE, tab": TABLE.replace(",", "\t").encode("utf-16-le"),
    "UTF-16BE, semicolon": TABLE.replace(",", ";").replace("\n", "\r\n").encode("utf-16-be"),
    "UTF-32": TABLE.encode("utf-32"),
    "gzip": gzip.compress(TABLE.encode()),
}


@pytest.mark.parametrize("name", AS_PEOPLE_HAVE_IT)
def test_separators_encodings_line_ends_and_rows_without_a_cell(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(AS_PEOPLE_HAVE_IT[name])
    assert read_manifest(str(tmp_path / "labels.csv"), ANY).select("path", "genre", "tags").rows() == ROWS


def test_an_encoding_of_eight_bits_is_named_with_its_place_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(TABLE.replace("\n", "\r\n").encode("cp1252"))
    text = refused(str(tmp_path / "latin.csv"))
    assert "is not UTF-8: line 2 has the byte 0xE9; as Windows-1252 (cp1252) it reads 'Bebop é'" in text
    assert "iconv -f WINDOWS-1252 -t UTF-8" in text
    (tmp_path / "cut.csv").write_bytes(TABLE.encode("utf-16")[:-1])
    assert "begins as utf-16-le and is none" in refused(str(tmp_path / "cut.csv"))


def workbook(**sheets: list[list[object]]) -> bytes:
    """Return an .xlsx of sheets, each a list of rows."""
    main, package = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    office = f"{package}/officeDocument/2006/relationships"
    numbered = list(enumerate(sheets, 1))
    names = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in numbered)
    links = "".join(
        f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/s{n}.xml"/>' for n, _ in numbered
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/package/2006/relationships">{links}'
        "</Relationships>",
    }
    for number, rows in enumerate(sheets.values(), 1):
        cells = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
        parts[f"xl/worksheets/s{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _cell(value: object) -> str:
    if value is None or isinstance(value, int):
        return f"<c><v>{value}</v></c>" if value is not None else "<c/>"
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def test_a_spreadsheet_is_read_by_the_sheet_that_has_a_key(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    labels: list[list[object]] = [
        ["Path", "genre", "tags", "group"],
        ["a.wav", "Bebop é", "slow|sax", 7],
        [None, None, None, None],
        ["b.wav", "Rock", None, None],
    ]
    path = tmp_path / "labels.xlsx"
    path.write_bytes(workbook(Notes=[["What this is"]], Labels=labels, Empty=[]))
    frame = read_manifest(str(path), ANY)
    assert frame.select("path", "genre", "tags").rows() == ROWS
    assert frame["group"].to_list() == ["7", None]
    path.write_bytes(workbook(One=labels, Two=labels))
    assert "has labels on 2 sheets: One, Two" in refused(str(path))
    path.write_bytes(workbook(Labels=labels)[:-20])
    assert "is a spreadsheet or an archive that cannot be read" in refused(str(path))


def test_without_fastexcel_a_spreadsheet_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    (tmp_path / "labels.xlsx").write_bytes(workbook(Labels=[["path", "genre"], ["a", "b"]]))
    assert "pip install 'mgc-tagger[excel]'" in refused(str(tmp_path / "labels.xlsx"))


def test_labels_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Café  Jazz")
    path = written(
        tmp_path,
        f"path,genre,tags,artist\na,Café Jazz,loud|so\u200bft,Björk\nb,{decomposed},loud\u200b|soft,Bjo\u0308rk\n"
        "c,Café\u00a0Jazz\u200b, loud |soft,Björk\ufeff\n",
    )
    for config in (ANY, CatalogueConfig(genres=(decomposed,))):
        frame = read_manifest(path, config)
        assert set(frame.select("genre", "group").rows()) == {("Café Jazz", "Björk")}
        assert frame["tags"].to_list() == [["loud", "soft"]] * 3


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "None", "N/A", "n/a", "NA", "#N/A", "<NA>", "-", " nan "])
def test_words_for_a_missing_value_are_empty_cells(word: str, tmp_path: Path) -> None:
    text = f"path,genre,tags,artist,split,tags_known\na,{word},{word},{word},{word},{word}\nb,Rock,loud|{word},x,,1\n"
    frame = read_manifest(written(tmp_path, text), ANY)
    assert frame.rows() == [("a", None, [], False, None, None), ("b", "Rock", ["loud"], True, "x", None)]
    known = read_manifest(written(tmp_path, f"path,tags\na,{word}\n"), ANY)["tags_known"].item()
    assert known is (word == "-"), "- says that it has none of the tags"


@pytest.mark.parametrize(
    ("genre", "tags", "message"),
    [
        (
            "Rock",
            "\"['loud', 'fast']\"",
            "1 cells of tags look like a list of a program, such as \"['loud', 'fast']\"",
        ),
        ("Rock", "[]", "1 cells of tags look like a list"),
        ("Rock", '"{""loud"": 1}"', "1 cells of tags look like a list"),
        ("Rock", "\"('loud',)\"", "1 cells of tags look like a list"),
        ("\"['Rock']\"", "loud", "1 cells of genre look like a list"),
        ("Rock", '"loud, fast"', "1 cells of tags have commas, such as 'loud, fast'"),
    ],
)
def test_what_looks_like_a_list_is_refused_with_the_remedy(
    genre: str, tags: str, message: str, tmp_path: Path
) -> None:
    text = refused(written(tmp_path, f"path,genre,tags\na,{genre},{tags}\nb,Rock,loud\n"))
    assert message in text
    assert "tags between bars (loud|fast)" in text


def test_commas_and_brackets_may_belong_to_a_tag(tmp_path: Path) -> None:
    text = 'path,genre,tags\na,(Sandy),"guitar, acoustic|"\nb,Rock,[live]|(early)\n'
    frame = read_manifest(written(tmp_path, text), ANY)
    assert frame["tags"].to_list() == [["guitar, acoustic"], ["[live]", "(early)"]]


def test_names_that_differ_in_case_accents_or_spaces_look_alike() -> None:
    counts = {
        "Hip-Hop": 5,
        "hip hop": 2,
        "Café": 1,
        "cafe": 1,
        "C": 1,
        "C#": 1,
        "Rock": 9,
        "jaz\u200bz": 1,
        "jazz": 3,
    }
    assert look_alikes(counts) == ["Hip-Hop (5), hip hop (2)", "Café (1), cafe (1)", "jaz\u200bz (1), jazz (3)"]


def test_columns_that_are_missing_or_doubled(tmp_path: Path) -> None:
    text = refused(written(tmp_path, "file,genre\na,pop\n"))
    assert "no column path, uri or track_id" in text
    assert "file, genre" in text
    assert "none of the columns genre, tags, group" in refused(written(tmp_path, "path,year\na,1999\n"))
    assert "more than one column 'genre'" in refused(written(tmp_path, "path,genre,genre\na,b,c\n"))
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
