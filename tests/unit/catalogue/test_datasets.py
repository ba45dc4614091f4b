"""Public data sets in their own layouts, in miniature: names, columns and quirks are the real ones."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pytest

from mgc.catalogue.datasets import gtzan
from mgc.catalogue.index import IndexSummary, index_catalogue, read_catalogue
from mgc.config import CatalogueConfig
from mgc.errors import MgcError


def files(root: Path, *keys: str) -> Path:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"RIFF....WAVE" + key.encode())
    return root


def indexed(root: Path, **settings: object) -> tuple[dict[str, dict[str, object]], IndexSummary]:
    output = str(root.parent / "catalogue.parquet")
    summary = index_catalogue(str(root), output, CatalogueConfig.model_validate(settings))
    names = ("genre", "tags", "tags_known", "group", "split")
    rows = read_catalogue(output).to_dicts()
    return {Path(str(row["uri"])).stem: {name: row[name] for name in names} for row in rows}, summary


def refused(root: Path, **settings: object) -> str:
    with pytest.raises(MgcError) as caught:
        indexed(root, **settings)
    return str(caught.value)


# GTZAN


@pytest.fixture
def gtzan_root(tmp_path: Path) -> Path:
    root = files(tmp_path / "genres", "blues/blues.00000.au", "blues/blues.00001.au", "rock/rock.00099.au")
    files(root, "jazz/jazz.00054.au", "README.txt")
    (root / "train_filtered.txt").write_text("blues/blues.00000.au\nrock/rock.00099.wav\n")
    (root / "valid_filtered.txt").write_text("   2\n")  # by number: the second of the thousand
    (root / "test_filtered.txt").write_text("pop.00000\n")
    (root / "artists.csv").write_text("track_id,artist\nblues.00000,John Lee Hooker\nrock.00099, \n")
    return root


def test_gtzan_with_its_filtered_lists_and_artists(gtzan_root: Path) -> None:
    rows, summary = indexed(gtzan_root, dataset="gtzan")
    assert {name: row["split"] for name, row in rows.items()} == {
        "blues.00000": "train",
        "blues.00001": "valid",
        "rock.00099": "train",
        "jazz.00054": "unlisted",
    }
    assert rows["blues.00000"]["group"] == "John Lee Hooker"
    assert (rows["jazz.00054"]["genre"], rows["jazz.00054"]["tags_known"]) == ("jazz", False)
    assert (summary.manifest_rows, summary.rows_without_file.count) == (1000, 996)


def test_gtzan_without_lists_is_drawn_and_says_that_artists_are_unknown(
    gtzan_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (*gtzan.LISTS.values(), "artists.csv"):
        (gtzan_root / name).unlink()
    rows, _ = indexed(gtzan_root, dataset="gtzan")
    assert sorted(str(row["split"]) for row in rows.values()) == ["train", "train", "train", "valid"]
    assert "no artists.csv" in caplog.text


def test_gtzan_lists_elsewhere_missing_or_wrong(gtzan_root: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in gtzan.LISTS.values():
        (gtzan_root / name).rename(lists / name)
    assert indexed(gtzan_root, dataset="gtzan", annotations=str(lists))[0]["blues.00001"]["split"] == "valid"
    (lists / "valid_filtered.txt").write_text("0\n")
    assert "'valid_filtered.txt' is not the data set's own: line '0' names no clip" in refused(
        gtzan_root, dataset="gtzan", annotations=str(lists)
    )
    (lists / "valid_filtered.txt").write_text("blues.00000\n")
    assert "stands in the lists twice" in refused(gtzan_root, dataset="gtzan", annotations=str(lists))
    (lists / "test_filtered.txt").unlink()
    message = refused(gtzan_root, dataset="gtzan", annotations=str(lists))
    assert "'test_filtered.txt' is missing; looked in" in message
    assert str(lists) in message


def test_two_files_of_one_clip_are_named(gtzan_root: Path) -> None:
    files(gtzan_root, "wav/blues.00000.wav")
    message = refused(gtzan_root, dataset="gtzan")
    assert "'blues/blues.00000.au' and 'wav/blues.00000.wav' are the same clip" in message


# MagnaTagATune


def magnatagatune(root: Path) -> Path:
    clips = [
        ("2", "c/american_bach_soloists-j_s__bach__cantatas-01-gleichwie-30-59.mp3", "American Bach Soloists"),
        ("6", "0/american_bach_soloists-j_s__bach_solo-01-widerstehe-0-29.mp3", "American Bach Soloists"),
        ("10", "f/jacob_heringman-josquin-01-nymphes-0-29.mp3", "Jacob Heringman"),
        ("11", "b/jacob_heringman-black_cow-02-fantasia-30-59.mp3", "jacob heringman the other"),
    ]
    files(root, *(path for _, path, _ in clips))
    tags = ["no voice", "singer", "guitar", *(f"rare {number:03d}" for number in range(60))]
    lines = ["\t".join(f'"{name}"' for name in ("clip_id", *tags, "mp3_path"))]
    info = ["\t".join(f'"{name}"' for name in ("clip_id", "track_number", "title", "artist", "mp3_path"))]
    has = {"2": {"guitar", "singer"}, "6": {"guitar"}, "10": {"guitar", "no voice"}, "11": set()}
    for clip, path, artist in clips:
        lines.append("\t".join(f'"{cell}"' for cell in (clip, *(int(tag in has[clip]) for tag in tags), path)))
        info.append("\t".join(f'"{cell}"' for cell in (clip, 1, "a title", artist, path)))
    (root / "annotations_final.csv").write_text("\n".join(lines) + "\n")
    (root / "clip_info_final.csv").write_text("\n".join(info) + "\n")
    return root


def test_magnatagatune_by_folder_with_its_fifty_tags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = magnatagatune(tmp_path / "mp3")
    with caplog.at_level(logging.WARNING):
        rows, summary = indexed(root, dataset="magnatagatune")
    by_path = {name[:28]: row for name, row in rows.items()}
    first = by_path["american_bach_soloists-j_s__"]
    assert {row["split"] for row in rows.values()} == {"train", "valid", "test"}
    assert sorted(sorted(row["tags"]) for row in rows.values()) == [  # type: ignore[call-overload]
        [],
        ["guitar"],
        ["guitar", "no voice"],
        ["guitar", "singer"],
    ]
    assert all(row["tags_known"] and row["genre"] is None for row in rows.values())
    assert summary.groups == 4
    assert str(first["group"]).startswith("American Bach Soloists (")
    assert "1 artists (2 clips) on more than one side, such as 'American Bach Soloists'" in caplog.text


def test_magnatagatune_drawn_keeps_artists_apart(tmp_path: Path) -> None:
    rows, _ = indexed(magnatagatune(tmp_path / "mp3"), dataset="magnatagatune", dataset_split="drawn")
    bach = [row for row in rows.values() if row["group"] == "American Bach Soloists"]
    assert len(bach) == 2
    assert len({row["split"] for row in bach}) == 1


def test_magnatagatune_without_artists_groups_songs(tmp_path: Path) -> None:
    root = magnatagatune(tmp_path / "mp3")
    (root / "clip_info_final.csv").unlink()
    rows, _ = indexed(root, dataset="magnatagatune")
    assert "jacob_heringman-josquin-01-nymphes" in {row["group"] for row in rows.values()}


def test_magnatagatune_annotations_missing_or_of_another_kind(tmp_path: Path) -> None:
    root = magnatagatune(tmp_path / "mp3")
    (root / "annotations_final.csv").write_text("a,b\n1,2\n")
    assert "it has no column clip_id, mp3_path" in refused(root, dataset="magnatagatune")
    (root / "annotations_final.csv").unlink()
    message = refused(root, dataset="magnatagatune")
    assert "'annotations_final.csv' is missing" in message
    assert "--annotations" in message


# FMA


def fma(folder: Path) -> Path:
    root = files(folder / "fma_small", "000/000002.mp3", "000/000005.mp3", "099/099999.mp3", "155/155066.mp3")
    pairs = [
        ("album", "comments"),
        ("artist", "bio"),
        ("artist", "id"),
        ("set", "split"),
        ("set", "subset"),
        ("track", "genre_top"),
        ("track", "genres"),
        ("track", "genres_all"),
    ]
    lines = ["," + ",".join(group for group, _ in pairs), "," + ",".join(name for _, name in pairs)]
    lines.append("track_id" + "," * len(pairs))
    lines.append('2,0,"<p>A bio, with a comma\nand a line</p>",1,training,small,Hip-Hop,[21],[21]')
    lines.append('5,0,,1,training,small,Hip-Hop,"[21, 27]","[21, 27, 12]"')
    lines.append("99999,0,,7,validation,medium,Rock,[12],[12]")
    lines.append("155066,0,,9,test,large,,[],[]")
    metadata = folder / "fma_metadata"
    metadata.mkdir()
    (metadata / "tracks.csv").write_text("\n".join(lines) + "\n")
    (metadata / "genres.csv").write_text(
        "genre_id,#tracks,parent,title,top_level\n12,1,0,Rock,12\n21,2,0,Hip-Hop,21\n27,1,12,Lo-Fi,12\n"
    )
    return root


def test_fma_from_its_header_of_three_rows(tmp_path: Path) -> None:
    rows, summary = indexed(fma(tmp_path), dataset="fma", subset="large")
    assert rows["000002"] == {
        "genre": "Hip-Hop",
        "tags": ["genre:Hip-Hop"],
        "tags_known": True,
        "group": "1",
        "split": "train",
    }
    assert rows["000005"]["tags"] == ["genre:Hip-Hop", "genre:Lo-Fi", "genre:Rock"]
    assert (rows["099999"]["genre"], rows["099999"]["split"]) == ("Rock", "valid")
    assert (rows["155066"]["genre"], rows["155066"]["tags_known"], rows["155066"]["split"]) == (None, False, "test")
    assert summary.tracks_without_row.count == 0


def test_fma_subsets_are_nested_and_known_by_the_folder(tmp_path: Path) -> None:
    root = fma(tmp_path)
    rows, summary = indexed(root, dataset="fma")  # the root is fma_small
    assert {name for name, row in rows.items() if row["genre"]} == {"000002", "000005"}
    assert summary.tracks_without_row.count == 2
    rows, _ = indexed(root, dataset="fma", subset="medium")
    assert {name for name, row in rows.items() if row["genre"]} == {"000002", "000005", "099999"}
    assert "no subset 'mediums': did you mean 'medium'?" in refused(root, dataset="fma", subset="mediums")


def test_fma_tracks_that_are_not_fmas(tmp_path: Path) -> None:
    root = fma(tmp_path)
    tracks = tmp_path / "fma_metadata/tracks.csv"
    text = tracks.read_text()
    tracks.write_text(text.replace("subset", "part"))
    assert "it has no column set.subset" in refused(root, dataset="fma")
    tracks.write_text(text.replace("validation", "val"))
    assert "set.split holds 'val'" in refused(root, dataset="fma")
    tracks.write_text("track_id,genre\n1,Rock\n2,Pop\n3,Pop\n")
    assert "third row does not begin with 'track_id'" in refused(root, dataset="fma")


# MTG-Jamendo


def mtg_jamendo(folder: Path, number: int = 0, stem: str = "autotagging") -> Path:
    place = folder / f"repository/data/splits/split-{number}"
    place.mkdir(parents=True, exist_ok=True)
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    (place / f"{stem}-train.tsv").write_text(
        head
        + "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---punkrock\n"
        + "track_0000382\tartist_000020\talbum_000046\t82/382.mp3\t211.1\tgenre---classical\tinstrument---voice\n"
    )
    (place / f"{stem}-validation.tsv").write_text(
        head + "track_0003346\tartist_000517\talbum_000521\t46/3346.mp3\t195.0\tmood/theme---calm\tgenre---pop\n"
    )
    (place / f"{stem}-test.tsv").write_text(
        head + "track_0000759\tartist_000103\talbum_000124\t59/759.mp3\t379.8\tgenre---pop\n"
    )
    return folder / "repository/data"


@pytest.mark.parametrize("kind", ["mp3", "low.mp3", "npy"])
def test_mtg_jamendo_audio_and_mel_spectrograms(tmp_path: Path, kind: str) -> None:
    data = mtg_jamendo(tmp_path)
    root = files(
        tmp_path / "raw_30s", *(f"audio/{clip}.{kind}" for clip in ("14/214", "82/382", "46/3346", "00/100"))
    )
    rows, summary = indexed(
        root, dataset="mtg-jamendo", annotations=str(data), files="npy" if kind == "npy" else "audio"
    )
    rows = {name.removesuffix(".low"): row for name, row in rows.items()}
    assert rows["382"]["tags"] == ["genre:classical", "instrument:voice"]
    assert rows["3346"] == {
        "genre": None,
        "tags": ["mood/theme:calm", "genre:pop"],
        "tags_known": True,
        "group": "artist_000517",
        "split": "valid",
    }
    assert rows["100"]["split"] == "unlisted"
    assert (summary.rows_without_file.count, summary.tracks_without_row.count) == (1, 1)


def test_mtg_jamendo_subsets_and_splits_have_files_of_their_own(tmp_path: Path) -> None:
    data = mtg_jamendo(tmp_path, 3, "autotagging_genre")
    root = files(tmp_path / "audio", "14/214.mp3")
    settings = {"dataset": "mtg-jamendo", "annotations": str(data.parent)}
    assert indexed(root, subset="genre", split_number=3, **settings)[0]["214"]["tags"] == ["genre:punkrock"]
    assert "'splits/split-0/autotagging_genre-train.tsv' is missing" in refused(root, subset="genre", **settings)
    (data / "splits/split-3/autotagging_genre-test.tsv").write_text("TRACK_ID\tPATH\n")
    assert "its first line is not TRACK_ID ARTIST_ID" in refused(root, subset="genre", split_number=3, **settings)


# All of them


def test_what_is_asked_for_must_exist_and_fit(tmp_path: Path) -> None:
    root = files(tmp_path / "music", "a.mp3")
    assert "unknown data set 'gtzn': did you mean 'gtzan'?" in refused(root, dataset="gtzn")
    assert "labels of its own" in refused(root, dataset="gtzan", labels_from="folder")
    assert "data set 'gtzan' has no subset 'small': it has none" in refused(root, dataset="gtzan", subset="small")
    assert "no row of data set 'gtzan' names a file under" in refused(root, dataset="gtzan")


def test_a_hundred_thousand_clips_are_described_in_columns(tmp_path: Path) -> None:
    """Size alone: MTG-Jamendo and FMA have this many rows."""
    data = mtg_jamendo(tmp_path)
    lines = [
        f"track_{n}\tartist_{n % 3000}\talbum\t{n % 100:02d}/{n}.mp3\t30.0\tgenre---pop"
        for n in range(100_000, 200_000)
    ]
    train = data / "splits/split-0/autotagging-train.tsv"
    train.write_text(train.read_text().splitlines()[0] + "\n" + "\n".join(lines) + "\n")
    rows, summary = indexed(
        files(tmp_path / "audio", "07/100007.mp3"),
        dataset="mtg-jamendo",
        annotations=str(data),
        dataset_split="drawn",
    )
    assert rows["100007"]["group"] == "artist_1007"
    assert summary.manifest_rows == 100_002


def test_the_lists_number_the_thousand_clips_from_one() -> None:
    frame = pl.DataFrame({"name": ["blues.00000.au", "x/rock.00099.wav", "rock.99.wav", "song.mp3", "pop.00001"]})
    assert frame.select(gtzan.clip_of(pl.col("name"))).to_series().to_list() == [
        "blues.00000",
        "rock.00099",
        None,
        None,
        "pop.00001",
    ]
