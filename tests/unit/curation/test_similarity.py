"""The index beside the predictions: exact and approximate, fresh or refused, and the command that searches it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from audio_samples import short_wav
from curation_makers import BUNDLE, frame, prediction, table_of, unit_rows

from mgc.catalogue.index import index_catalogue
from mgc.cli.similar_command import similar
from mgc.config import CatalogueConfig
from mgc.curation.nearest_neighbours import NeighbourIndex, nearest_of, recall_at
from mgc.curation.similarity import SimilarBy, build_index, nearest_tracks, open_index
from mgc.errors import ConfigError, FingerprintError, SchemaError


def clustered(n: int, dimensions: int = 24, clusters: int = 20, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return unit vectors around centres, shape (n, dimensions)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dimensions))
    return unit_rows(centres[np.arange(n) % clusters] + 0.4 * random.standard_normal((n, dimensions)))


def rows_of(vectors: np.ndarray[Any, Any], **changes: Any) -> list[dict[str, Any]]:
    return [
        prediction(
            f"t{number:03d}", f"/music/{number % 2}/song{number}.mp3", "c", embedding=vector.tolist(), **changes
        )
        for number, vector in enumerate(vectors)
    ]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "current").mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(rows), folder / "current" / "part-0.parquet")
    return str(folder)


def test_exact_neighbours_are_those_of_all_cosines() -> None:
    vectors = clustered(300)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    found = NeighbourIndex.build(vectors).neighbours_of(np.arange(300), 7, exact=True)
    np.testing.assert_allclose(found.cosines, np.sort(cosines, axis=1)[:, ::-1][:, :7], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.rows, axis=1), found.cosines, atol=1e-5)


def test_the_graph_finds_nearly_all_of_the_true_ten() -> None:
    index = NeighbourIndex.build(clustered(3_000, clusters=150))
    assert recall_at(index, 10, 100) >= 0.95


def test_an_index_survives_its_bytes() -> None:
    vectors = clustered(50)
    index = NeighbourIndex.build(vectors)
    restored = NeighbourIndex.restore(index.to_bytes())
    assert (len(restored), restored.dimensions) == (50, 24)
    np.testing.assert_array_equal(restored.search(vectors, 5).rows, index.search(vectors, 5).rows)
    with pytest.raises(ValueError, match=r"."):
        NeighbourIndex.restore(b"no index at all" * 20)


def test_a_track_is_not_its_own_neighbour_even_among_equals() -> None:
    vectors = np.repeat(clustered(2), 15, axis=0)
    found = NeighbourIndex.build(vectors).neighbours_of(np.arange(30), 5)
    assert not (found.rows == np.arange(30)[:, None]).any()
    np.testing.assert_allclose(found.cosines, 1.0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_small_catalogues_have_fewer_neighbours(n: int) -> None:
    built = build_index(frame(rows_of(clustered(n))))
    assert built.similar_to(["t000"], 10).height == n - 1
    assert built.all_pairs(10).height == n * (n - 1)


def test_tracks_are_named_by_id_uri_or_the_end_of_the_path() -> None:
    built = build_index(frame(rows_of(clustered(4))))
    assert built.row_of("t002") == built.row_of("/music/0/song2.mp3") == built.row_of("song2.mp3") == 2
    with pytest.raises(ConfigError, match="none of the 4 tracks"):
        built.row_of("ong2.mp3")
    twice = frame([*rows_of(clustered(2)), prediction("x", "/other/song1.mp3", "c", embedding=[1.0] * 24)])
    with pytest.raises(ConfigError, match=r"2 tracks are called 'song1\.mp3'"):
        build_index(twice).row_of("song1.mp3")


def test_failed_tracks_and_rows_of_older_bundles_are_left_out() -> None:
    rows = rows_of(clustered(5))
    rows[1] = prediction("t001", "/music/1/song1.mp3", "c", error_code="T203_DECODE_FAILED")
    rows[2] |= {"bundle_fingerprint": "older", "tagged_at": datetime(2025, 1, 1, tzinfo=UTC)}
    built = build_index(frame(rows))
    assert built.tracks["track_id"].to_list() == ["t000", "t003", "t004"]
    assert built.manifest.left_out == 2
    assert built.manifest.bundle_fingerprint == BUNDLE
    with pytest.raises(SchemaError, match="has an embedding"):
        build_index(frame(rows[1:2]))


def test_an_index_is_taken_as_it_is_until_the_predictions_change(tmp_path: Path) -> None:
    folder = write(tmp_path / "predictions", rows_of(clustered(20)))
    first = open_index(folder)
    assert open_index(folder, rebuild=False).manifest == first.manifest
    write(Path(folder), rows_of(clustered(21, seed=1), bundle_fingerprint="n" * 16))
    with pytest.raises(FingerprintError, match=f"of bundle {BUNDLE}"):
        open_index(folder, rebuild=False)
    second = open_index(folder)
    assert second.manifest.bundle_fingerprint == "n" * 16
    assert second.manifest.count == 21
    assert len(list((Path(folder) / "similar").iterdir())) == 3, "the old index is deleted"


def test_a_missing_or_damaged_index_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "predictions", rows_of(clustered(20)))
    with pytest.raises(FingerprintError, match="there is none"):
        open_index(folder, rebuild=False)
    key = open_index(folder).manifest.index_key
    (Path(folder) / key).write_bytes(b"cut off")
    with pytest.raises(SchemaError, match="damaged"):
        open_index(folder)
    assert open_index(folder, rebuild=True).manifest.count == 20


def test_the_tracks_nearest_to_an_embedding_of_the_same_bundle() -> None:
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    rows = rows_of(vectors)
    rows[1] |= {"bundle_fingerprint": "other"}
    rows.append(prediction("failed", "/music/failed.mp3", "c", error_code="T203_DECODE_FAILED"))
    found = nearest_tracks(frame(rows), vectors[1], BUNDLE, own_uri="/music/0/song0.mp3")
    assert [one.uri for one in found] == ["/music/1/song3.mp3", "/music/0/song2.mp3"]
    assert [one.similarity for one in found] == [pytest.approx(0.8, abs=1e-6), pytest.approx(0.6, abs=1e-6)]
    assert (found[0].genre, found[0].genre_probability) == (
        rows[3]["genre"],
        pytest.approx(rows[3]["genre_probability"]),
    )
    assert len(nearest_tracks(frame(rows), vectors[1], BUNDLE, k=1)) == 1
    assert nearest_tracks(frame(rows[:1]), vectors[0], BUNDLE, own_uri="/music/0/song0.mp3") == []


def test_several_tracks_are_compared_by_their_centroid_or_by_the_nearest_of_them() -> None:
    vectors = clustered(200)
    built = build_index(frame(rows_of(vectors)))
    given = [3, 17, 17, 60]
    names = [f"t{number:03d}" for number in given]
    centroid = built.similar_to(names, 8)
    mean = unit_rows(vectors[given].mean(axis=0, keepdims=True))[0]
    cosines = vectors @ mean
    cosines[given] = -2
    assert centroid["track_id"].to_list() == [f"t{number:03d}" for number in np.argsort(-cosines)[:8]]
    np.testing.assert_allclose(centroid["cosine"], np.sort(cosines)[::-1][:8], atol=1e-6)
    nearest = built.similar_to(names, 8, by=SimilarBy.NEAREST)
    each = vectors @ vectors[given].T
    each[given] = -2
    best = np.argsort(-each.max(axis=1))[:8]
    assert nearest["track_id"].to_list() == [f"t{number:03d}" for number in best]
    np.testing.assert_allclose(nearest["cosine"], each.max(axis=1)[best], atol=1e-6)
    assert nearest["nearest_to"].to_list() == [
        f"/music/{number % 2}/song{number}.mp3" for number in np.array(given)[each[best].argmax(axis=1)]
    ]
    assert nearest["rank"].to_list() == centroid["rank"].to_list() == list(range(1, 9))
    everything = [f"t{number:03d}" for number in range(200)]
    assert built.similar_to(everything, 5).height == built.similar_to(everything, 5, by=SimilarBy.NEAREST).height == 0


def test_tracks_that_point_opposite_ways_have_no_centroid() -> None:
    built = build_index(frame(rows_of(np.array([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]], np.float32))))
    with pytest.raises(ConfigError, match="cancel each other") as caught:
        built.similar_to(["t000", "t001"], 3)
    assert "--by nearest" in caught.value.remedy
    assert built.similar_to(["t000", "t001"], 3, by=SimilarBy.NEAREST)["nearest_to"].to_list() == [
        "/music/0/song0.mp3"
    ]


def test_a_track_without_an_embedding_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    rows = rows_of(clustered(5))
    rows[1] = prediction("t001", "/music/1/song1.mp3", "c", error_code="T203_DECODE_FAILED")
    rows[2] |= {"bundle_fingerprint": "older", "tagged_at": datetime(2025, 1, 1, tzinfo=UTC)}
    folder = write(tmp_path / "predictions", rows)
    for _ in ("built", "loaded"):
        built = open_index(folder)
        with pytest.raises(ConfigError, match=r"'song1\.mp3' has no embedding: .* failed with T203_DECODE_FAILED"):
            built.similar_to(["t000", "song1.mp3"], 3)
        with pytest.raises(ConfigError, match=f"'t002' was tagged by bundle older, and the index is of {BUNDLE}"):
            built.similar_to(["t002"], 3)
        with pytest.raises(ConfigError, match="none of the 3 tracks with an embedding is called 'nothing'"):
            built.similar_to(["nothing"], 3)


def test_a_playlist_holds_every_name_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uris = ["/music/a.mp3", "/music/Björk — Jóga, live.flac", "/music/a\n#EXT b.mp3", "s3://music/x/y.opus"]
    uris += ["file:///music/caf%E9.mp3", "s3://music/a\rb.mp3"]
    rows = [
        prediction(f"t{number}", uri, "c", embedding=vector.tolist(), duration_seconds=None if number == 3 else 61.6)
        for number, (uri, vector) in enumerate(zip(uris, unit_rows(np.linspace([1, 0], [1, 0.5], 6)), strict=True))
    ]
    folder, playlist = write(tmp_path / "predictions", rows), tmp_path / "played.M3U8"
    similar(folder, ["t0"], k=9, output=str(playlist))
    assert f"5 tracks in {playlist}" in capsys.readouterr().out
    assert playlist.read_text(encoding="utf-8").splitlines() == [
        "#EXTM3U",
        "#EXTINF:62,Björk — Jóga, live",
        "/music/Björk — Jóga, live.flac",
        "#EXTINF:62,a\\n#EXT b",
        "file:///music/a%0A%23EXT%20b.mp3",
        "#EXTINF:-1,y",
        "s3://music/x/y.opus",
        "#EXTINF:62,caf�",
        "file:///music/caf%E9.mp3",
        "#EXTINF:62,a\\rb",
        "s3://music/a%0Db.mp3",
    ]
    similar(folder, ["t0", "t5"], k=2, by=SimilarBy.NEAREST, output=str(tmp_path / "alike.csv"), as_json=True)
    assert pl.read_csv(tmp_path / "alike.csv")["track_id"].to_list() == ["t4", "t1"]
    with pytest.raises(ConfigError, match="is a playlist's name, and this is a table"):
        similar(folder, all_=True, output=str(playlist))


def test_predictions_of_another_bundle_are_refused() -> None:
    with pytest.raises(FingerprintError, match=f"none of 1 predictions is of bundle mine; they are of {BUNDLE}"):
        nearest_tracks(frame(rows_of(clustered(1))), clustered(1)[0], "mine")


@pytest.mark.parametrize("n_queries", [1, 4])
def test_the_nearest_without_an_index_are_those_of_the_index(n_queries: int) -> None:
    vectors = clustered(300)
    plain = nearest_of(vectors, vectors[:n_queries], 5)
    of_index = NeighbourIndex.build(vectors).search(vectors[:n_queries], 5)
    np.testing.assert_array_equal(plain.rows, of_index.rows)
    np.testing.assert_allclose(plain.cosines, of_index.cosines, atol=1e-6)
    assert nearest_of(vectors[:0], vectors[:2], 5).rows.shape == (2, 0)


def test_the_command_prints_json_and_writes_all_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "predictions", rows_of(clustered(20)))
    similar(folder, ["t003"], k=3, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["rank"] for line in lines] == [1, 2, 3]
    assert lines[0]["cosine"] >= lines[1]["cosine"]
    similar(folder, ["song3.mp3"], k=3)
    assert lines[0]["uri"] in capsys.readouterr().out
    similar(folder, k=4, all_=True, output=str(tmp_path / "pairs.parquet"))
    pairs = pl.read_parquet(tmp_path / "pairs.parquet")
    assert pairs.columns == ["track_id", "neighbour_id", "rank", "cosine"]
    assert pairs.height == 80
    with pytest.raises(ConfigError, match="nothing to find"):
        similar(folder)
    with pytest.raises(ConfigError, match="--features is missing"):
        similar(folder, duplicates=True, catalogue=_catalogue(tmp_path))


def _catalogue(folder: Path) -> str:
    (folder / "music").mkdir()
    (folder / "music" / "x.wav").write_bytes(short_wav())
    index_catalogue(str(folder / "music"), str(folder / "catalogue.parquet"), CatalogueConfig())
    return str(folder / "catalogue.parquet")
