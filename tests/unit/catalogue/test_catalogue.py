from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgc.catalogue.index import catalogue_slices, index_catalogue, read_catalogue, scan_catalogue
from mgc.catalogue.joining import Named
from mgc.catalogue.listing import track_id_of
from mgc.cli.index_command import summary_rows
from mgc.config import CatalogueConfig
from mgc.errors import ConfigError, LabelError, MgcError, SchemaError, StorageError
from mgc.storage.store import Store
from mgc.tables.schema import CATALOGUE, marked
from mgc.tables.slices import Span

MILLION_SCRIPT = """
import hashlib, resource, sys
from mgc.config import CatalogueConfig
from mgc.catalogue.index import catalogue_from
from mgc.catalogue.listing import Skipped, audio_batches
from mgc.storage.objects import ObjectInfo

def items(count):
    for number in range(count):
        key = f"genre-{number % 12:02d}/artist-{number // 40:06d}/album-{number // 10:07d}/{number:09d} - title.flac"
        yield ObjectInfo(key, 4_000_000 + number, hashlib.md5(key.encode()).hexdigest(), 1.7e9 + number)

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

output, count = sys.argv[1], int(sys.argv[2])
config = CatalogueConfig(labels_from="folder")
skipped = Skipped()
catalogue_from(audio_batches(items(1_000), None, skipped), skipped, "s3://music", output + ".small", config)
base = peak_mib()
summary = catalogue_from(audio_batches(items(count), None, skipped), skipped, "s3://music", output, config)
print(summary.tracks, sum(summary.by_split.values()), peak_mib() - base)
"""


def music(folder: Path, *keys: str) -> Path:
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(key.encode())
    return folder


def by_key(catalogue: str, root: Path) -> dict[str, dict[str, object]]:
    return {str(row["uri"]).removeprefix(f"{root}/"): row for row in read_catalogue(catalogue).to_dicts()}


def refused(root: Path, output: Path, **settings: object) -> str:
    with pytest.raises(MgcError) as caught:
        index_catalogue(str(root), str(output), CatalogueConfig.model_validate(settings))
    return str(caught.value)


def test_a_folder_without_labels_becomes_a_catalogue(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "b/2.mp3", "a/1.wav", "notes.txt")
    output = str(tmp_path / "out/catalogue.parquet")
    summary = index_catalogue(str(root), output, CatalogueConfig())
    assert (summary.root, summary.output) == (str(root), output)
    assert (summary.tracks, summary.size_bytes, summary.labelled, summary.groups) == (2, 14, 0, 2)
    assert summary.skipped == {"not audio": Named(1, ["notes.txt"])}
    assert summary.by_split == {"train": 0, "valid": 0, "test": 0, "unlisted": 2}
    frame = read_catalogue(output)
    assert frame.columns == CATALOGUE.names
    assert frame["track_id"].is_sorted()
    assert by_key(output, root)["a/1.wav"] == {
        "track_id": track_id_of("a/1.wav"),
        "uri": str(root / "a/1.wav"),
        "content_id": Store.open(str(root)).stat("a/1.wav").content_id,
        "size_bytes": 7,
        "genre": None,
        "tags": [],
        "tags_known": False,
        "group": track_id_of("a/1.wav"),
        "split": "unlisted",
    }


def test_the_file_says_what_it_is_and_keeps_nulls_out(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav")
    index_catalogue(str(root), str(tmp_path / "c.parquet"), CatalogueConfig())
    schema = pq.read_schema(tmp_path / "c.parquet")
    assert schema.equals(CATALOGUE)
    assert schema.metadata[b"mgc.kind"] == b"catalogue"
    assert schema.metadata[b"mgc.root"] == str(root).encode()


def test_labels_come_from_the_manifest(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "1.wav", "2.wav", "3.wav")
    manifest = tmp_path / "labels.csv"
    manifest.write_text(
        "path,genre,tags,artist,split\n1.wav,jazz,sax|slow,Bob,test\n2.wav,rock,,Eve,train\n9.wav,ska,,,\n"
    )
    output = str(tmp_path / "c.parquet")
    summary = index_catalogue(str(root), output, CatalogueConfig(manifest=str(manifest)))
    assert (summary.manifest_rows, summary.with_genre, summary.with_tags, summary.labelled) == (3, 2, 1, 2)
    assert summary.rows_without_file == Named(1, ["9.wav"])
    assert summary.tracks_without_row == Named(1, ["3.wav"])
    assert summary.by_genre == {"(no genre)": {"unlisted": 1}, "jazz": {"test": 1}, "rock": {"train": 1}}
    rows = by_key(output, root)
    assert [rows["1.wav"][name] for name in ("genre", "tags", "tags_known", "group", "split")] == [
        "jazz",
        ["sax", "slow"],
        True,
        "Bob",
        "test",
    ]
    assert [rows["3.wav"][name] for name in ("genre", "tags", "tags_known", "split")] == [None, [], False, "unlisted"]


def test_labels_come_from_the_folders(tmp_path: Path) -> None:
    keys = [f"{genre}/{number}.wav" for genre in ("jazz", "rock") for number in range(10)]
    root = music(tmp_path / "music", "loose.wav", *keys)
    summary = index_catalogue(str(root), str(tmp_path / "c.parquet"), CatalogueConfig(labels_from="folder"))
    assert summary.by_genre == {
        "(no genre)": {"unlisted": 1},
        "jazz": {"train": 8, "valid": 2},
        "rock": {"train": 8, "valid": 2},
    }


def test_folders_that_are_no_genre_allowed(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "jazz/1.wav", "rok/1.wav")
    settings = {"labels_from": "folder", "genres": ("jazz", "rock")}
    assert "'rok' (1 rows; did you mean 'rock'?)" in refused(root, tmp_path / "c.parquet", **settings)
    lenient = CatalogueConfig.model_validate({**settings, "unknown_genre": "unlabelled"})
    assert index_catalogue(str(root), str(tmp_path / "c.parquet"), lenient).with_genre == 1


def test_indexing_again_keeps_every_split_and_sees_what_changed(tmp_path: Path) -> None:
    root = music(tmp_path / "music", *[f"jazz/{number:02d}.wav" for number in range(30)])
    output, config = str(tmp_path / "c.parquet"), CatalogueConfig(labels_from="folder", test_fraction=0.1)
    index_catalogue(str(root), output, config)
    before = by_key(output, root)
    music(root, *[f"jazz/new{number:02d}.wav" for number in range(30)])
    (root / "jazz/00.wav").write_bytes(b"something else")
    (root / "jazz/01.wav").unlink()
    summary = index_catalogue(str(root), output, config)
    after = by_key(output, root)
    assert summary.kept_splits == 29
    assert {key for key, row in before.items() if after.get(key) != row} == {"jazz/00.wav", "jazz/01.wav"}
    assert after["jazz/00.wav"]["split"] == before["jazz/00.wav"]["split"]
    assert after["jazz/00.wav"]["content_id"] != before["jazz/00.wav"]["content_id"]


def test_another_seed_or_fraction_draws_anew(tmp_path: Path) -> None:
    root = music(tmp_path / "music", *[f"jazz/{number:02d}.wav" for number in range(30)])
    output = str(tmp_path / "c.parquet")
    index_catalogue(str(root), output, CatalogueConfig(labels_from="folder"))
    summary = index_catalogue(str(root), output, CatalogueConfig(labels_from="folder", valid_fraction=0.5))
    assert summary.kept_splits == 0
    assert summary.by_split["valid"] == 15


def test_the_same_files_elsewhere_are_the_same_tracks(tmp_path: Path) -> None:
    frames = []
    for name in ("here", "there"):
        root = music(tmp_path / name, "a/1.wav", "a/2.wav")
        index_catalogue(str(root), str(tmp_path / f"{name}.parquet"), CatalogueConfig(content_id="hash"))
        frames.append(read_catalogue(str(tmp_path / f"{name}.parquet")))
    assert frames[0].drop("uri").equals(frames[1].drop("uri"))
    assert frames[0]["content_id"].str.starts_with("blake2b:").all()
    assert frames[0]["content_id"].n_unique() == 2


def test_one_name_in_two_unicode_forms_is_one_track(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "é.wav", unicodedata.normalize("NFD", "é.wav"))
    summary = index_catalogue(str(root), str(tmp_path / "c.parquet"), CatalogueConfig())
    assert summary.tracks == 1
    assert summary.skipped["same name in another Unicode form"].count == 1


def test_folders_that_look_the_same_are_one_genre_and_others_are_flagged(tmp_path: Path) -> None:
    folders = ["Café", unicodedata.normalize("NFD", "Café"), "Hip-Hop", "hip hop"]
    root = music(tmp_path / "music", *(f"{name}/{number}.wav" for number, name in enumerate(folders)))
    summary = index_catalogue(str(root), str(tmp_path / "c.parquet"), CatalogueConfig(labels_from="folder"))
    assert {name: sum(counts.values()) for name, counts in summary.by_genre.items()} == {
        "Café": 2,
        "Hip-Hop": 1,
        "hip hop": 1,
    }
    assert summary.look_alikes == ["Hip-Hop (1), hip hop (1)"]


def test_the_summary_counts_tags(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav", "b.wav", "c.wav")
    (tmp_path / "labels.csv").write_text("path,tags\na.wav,Loud|fast\nb.wav,loud|fast\nc.wav,fast\n")
    config = CatalogueConfig(manifest=str(tmp_path / "labels.csv"), valid_fraction=0.0)
    summary = index_catalogue(str(root), str(tmp_path / "c.parquet"), config)
    assert list(summary.by_tag.items()) == [("fast", 3), ("Loud", 1), ("loud", 1)]
    assert summary.look_alikes == ["Loud (1), loud (1)"]
    shown = {name: str(value) for name, value in summary_rows(summary).items()}
    assert (shown["tag fast"], shown["look alike"]) == ("3", "1: Loud (1), loud (1)")


def test_odd_names_of_the_output_are_no_patterns(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav")
    output = str(tmp_path / "my [best] music*/c.parquet")
    index_catalogue(str(root), output, CatalogueConfig())
    assert scan_catalogue(output).collect().equals(read_catalogue(output))
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/c.parquet")
    for _ in range(2):
        index_catalogue(str(root), latin, CatalogueConfig())
    assert read_catalogue(latin).equals(read_catalogue(output))


def test_a_root_that_cannot_be_indexed(tmp_path: Path) -> None:
    music(tmp_path, "file.wav", "texts/notes.txt")
    (tmp_path / "empty").mkdir()
    output = tmp_path / "c.parquet"
    assert "does not exist" in refused(tmp_path / "none", output)
    assert "a file is in the way" in refused(tmp_path / "file.wav", output)
    assert "holds no audio file [" in refused(tmp_path / "empty", output)
    assert "no audio file; skipped: 1 not audio (.txt 1)" in refused(tmp_path / "texts", output)
    assert not output.exists()


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav")
    assert "a file is in the way" in refused(root, root / "a.wav" / "c.parquet")
    with pytest.raises(StorageError, match="names no file"):
        index_catalogue(str(root), "s3://bucket", CatalogueConfig())


def test_a_file_that_is_no_catalogue_is_not_overwritten(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav")
    (tmp_path / "notes.txt").write_text("mine")
    assert "will not overwrite" in refused(root, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    pq.write_table(marked("features").empty_table(), tmp_path / "other.parquet")
    assert "a table of kind 'features', expected 'catalogue'" in refused(root, tmp_path / "other.parquet")


def test_settings_of_labels_that_contradict_each_other(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a.wav")
    output = str(tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="there is none"):
        index_catalogue(str(root), output, CatalogueConfig(labels_from="manifest"))
    with pytest.raises(ConfigError, match=r"manifest is set too"):
        index_catalogue(str(root), output, CatalogueConfig(labels_from="folder", manifest="m.csv"))
    assert index_catalogue(str(root), output, CatalogueConfig(labels_from="none", manifest="m.csv")).tracks == 1


def test_a_manifest_that_fits_no_file_shows_one_of_each(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "a/1.wav")
    (tmp_path / "m.csv").write_text("path,genre\n1.wav,jazz\n")
    with pytest.raises(LabelError, match=r"its first path is '1.wav', the first file 'a/1.wav'"):
        index_catalogue(str(root), str(tmp_path / "c.parquet"), CatalogueConfig(manifest=str(tmp_path / "m.csv")))


def catalogue_file(path: Path, **changes: object) -> str:
    row = {
        "track_id": "1",
        "uri": "/a.wav",
        "content_id": "x",
        "size_bytes": 1,
        "genre": None,
        "tags": [],
        "tags_known": False,
        "group": "1",
        "split": "train",
    }
    rows = [row, {**row, "track_id": "2", **changes}]
    nullable = pa.schema([field.with_nullable(True) for field in CATALOGUE], marked("catalogue").metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema=nullable), path)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"track_id": "1"}, "2 rows that share a track_id, such as '/a.wav'"),
        ({"split": "validation"}, "a split 'validation'"),
        ({"group": None}, "column group has empty cells"),
    ],
)
def test_a_catalogue_with_impossible_rows_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        read_catalogue(catalogue_file(tmp_path / "c.parquet", **changes))


def many_rows(path: Path, ids: list[str], rows_a_group: int) -> str:
    row = {"uri": "/a.wav", "content_id": "x", "size_bytes": 1, "genre": None, "tags": [], "tags_known": False}
    rows = [row | {"track_id": track, "group": track, "split": "train"} for track in ids]
    pq.write_table(pa.Table.from_pylist(rows, schema=marked("catalogue")), path, row_group_size=rows_a_group)
    return str(path)


@pytest.mark.parametrize("rows_a_group", [1, 2, 3, 5, 100])
def test_a_catalogue_is_read_in_slices_of_its_row_groups(
    rows_a_group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.tables.slices.SLICE_TRACKS", 5)
    place = many_rows(tmp_path / "c.parquet", [f"{number:02}" for number in range(23)], rows_a_group)
    found, named = catalogue_slices(place, CATALOGUE.names, ["track_id", "uri"])
    assert len(found.spans) == {1: 5, 2: 6, 3: 7, 5: 5, 100: 1}[rows_a_group]
    parts = [found.read(span) for span in found.spans]
    assert pl.concat(parts).equals(read_catalogue(place))
    for span in (Span("07", "12"), Span("", "01"), Span("22"), Span("3"), Span("05", "05x")):
        wanted = read_catalogue(place).filter(span.where())
        assert found.read(span).equals(wanted)
        assert named.read(span).equals(wanted.select("track_id", "uri"))


@pytest.mark.parametrize("ids", [["3", "1", "2", "9", "8", "7", "6"], [*"1233456"]])
def test_a_catalogue_whose_groups_do_not_follow_one_another_is_read_and_checked_whole(
    ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.tables.slices.SLICE_TRACKS", 3)
    place = many_rows(tmp_path / "c.parquet", ids, 3)
    if len(set(ids)) < len(ids):
        with pytest.raises(SchemaError, match="2 rows that share a track_id"):
            catalogue_slices(place, CATALOGUE.names)
        return
    [found] = catalogue_slices(place, CATALOGUE.names)
    assert len(found.spans) == 3
    assert sorted(track for span in found.spans for track in found.read(span)["track_id"]) == sorted(ids)


def test_a_catalogue_that_is_replaced_while_it_is_read_is_read_on_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgc.tables.slices.SLICE_TRACKS", 2)
    place = many_rows(tmp_path / "c.parquet", [*"12345"], 2)
    [found] = catalogue_slices(place, ["track_id"])
    many_rows(tmp_path / "new.parquet", [*"1267"], 2)
    (tmp_path / "new.parquet").replace(place)
    assert [found.read(span)["track_id"].to_list() for span in found.spans] == [["1", "2"], ["3", "4"], ["5"]]


def test_what_is_no_catalogue_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "stranger.parquet")
    numbers = pa.table({name: [1] for name in CATALOGUE.names}).replace_schema_metadata(marked("catalogue").metadata)
    pq.write_table(numbers, tmp_path / "types.parquet")
    expected = {"text": "no catalogue", "stranger": "no table of mgc, expected 'catalogue'", "types": "no catalogue"}
    for name, message in expected.items():
        with pytest.raises(SchemaError, match=message):
            read_catalogue(str(tmp_path / f"{name}.parquet"))
    with pytest.raises(SchemaError, match="no table of mgc"):
        scan_catalogue(str(tmp_path / "stranger.parquet"))
    with pytest.raises(StorageError, match="does not exist"):
        read_catalogue(str(tmp_path / "none.parquet"))


@pytest.mark.parametrize(
    ("count", "allowed_mib"),
    [(200_000, 240), pytest.param(1_000_000, 800, marks=pytest.mark.slow)],
)
def test_many_keys_are_held_as_columns(tmp_path: Path, count: int, allowed_mib: float) -> None:
    script = [sys.executable, "-c", MILLION_SCRIPT, str(tmp_path / "c.parquet"), str(count)]
    done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=200)
    tracks, listed, grown_mib = done.stdout.split()
    assert (int(tracks), int(listed)) == (count, count)
    assert float(grown_mib) < allowed_mib
    assert pq.read_metadata(tmp_path / "c.parquet").num_row_groups == count // 100_000


def test_real_recordings_with_their_manifests(shared_data: Path, tmp_path: Path) -> None:
    summaries = {
        name: index_catalogue(
            str(shared_data / name),
            str(tmp_path / f"{name}.parquet"),
            CatalogueConfig(manifest=str(shared_data / name / "manifest.csv")),
        )
        for name in ("gtzan-audio", "midi-catalogue")
    }
    assert summaries["gtzan-audio"].by_split == {"train": 27, "valid": 29, "test": 0, "unlisted": 4}
    assert summaries["midi-catalogue"].by_split == {"train": 775, "valid": 196, "test": 0, "unlisted": 0}
    assert [summary.rows_without_file.count for summary in summaries.values()] == [0, 0]
    assert [summary.tracks_without_row.count for summary in summaries.values()] == [0, 0]
