"""Storage and the catalogue against a real S3 server: the same as on a folder, and clear where it fails."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import s3fs
import soundfile as sf
from swift_server import SwiftServer

from mgc.catalogue.index import index_catalogue, read_catalogue, scan_catalogue
from mgc.config import CatalogueConfig, DecodeConfig
from mgc.errors import LabelError, SchemaError, Stage, StorageError, TrackCode, TrackError
from mgc.storage.objects import AccessDeniedError, ObjectNotFoundError
from mgc.storage.store import Store, content_hash, fetch_track

pytestmark = pytest.mark.s3


@pytest.fixture
def store(bucket: str) -> Store:
    return Store.open(f"s3://{bucket}/my music/")


def clip(seed: int) -> bytes:
    """Return a tenth of a second of noise as FLAC."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 800)
    sink = io.BytesIO()
    sf.write(sink, noise, 8_000, format="FLAC")
    return sink.getvalue()


def music(store: Store) -> None:
    for number in range(8):
        store.write_atomic(f"{'jazz' if number % 2 else 'rock & roll'}/é {number}.flac", clip(number))
    store.write_atomic("jazz/untitled", clip(99))
    store.write_atomic("jazz/README", b"no audio in here")
    store.write_atomic("cover.jpg", b"\xff\xd8\xff\xe0")


def code_of(fetch: Callable[[], bytes]) -> TrackCode:
    with pytest.raises(TrackError) as caught:
        fetch()
    assert caught.value.stage is Stage.FETCH
    assert "s3://" not in caught.value.message
    return caught.value.track_code


def test_objects_behave_as_files_do(store: Store, tmp_path: Path) -> None:
    folder = Store.open(str(tmp_path))
    for place in (store, folder):
        for key in ("a/x", "a-b/x", "a.wav", "é +%/ü.wav", "B"):
            place.write_atomic(key, key.encode())
        place.write_atomic("a.wav", b"new")
        place.delete("B")
        place.delete("B")
    assert [(item.key, item.size_bytes) for item in store.list()] == [
        (item.key, item.size_bytes) for item in folder.list()
    ]
    assert [item.key for item in store.list("a/")] == ["a/x"]
    assert store.read_bytes("é +%/ü.wav") == "é +%/ü.wav".encode()
    assert store.read_bytes("a.wav", 1, 2) == b"e"
    assert store.read_bytes("a.wav", 3, 9) == b""
    assert store.exists("a.wav")
    assert not store.exists("a")
    assert store.stat("a.wav") == next(store.list("a.wav"))
    store.delete_tree("a")
    assert [item.key for item in store.list()] == ["a-b/x", "a.wav", "é +%/ü.wav"]


def test_a_listing_of_many_pages_is_whole_and_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgc.storage.s3_files.KEYS_A_PAGE", 7)
    keys = [f"part-{number:03d}" for number in range(30)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write_atomic(key, b""), keys))
    assert [item.key for item in store.list()] == keys


def test_large_and_small_objects_are_read_by_seeking(store: Store) -> None:
    noise = np.random.default_rng(0).bytes(5 * 1024**2)
    store.write_atomic("large", noise)
    store.write_atomic("small", noise[:1000])
    for key, place in (("large", 4_900_000), ("small", 900)):
        with store.open_input(key) as source:
            source.seek(place)
            assert source.read(50) == noise[place : place + 50]
    with pytest.raises(ObjectNotFoundError):
        store.open_input("none")


def test_a_track_is_fetched_in_one_go_and_checked(store: Store) -> None:
    store.write_atomic("song.wav", b"0123456789")
    etag = store.stat("song.wav").content_id
    assert etag == "781e5e245d69b566979b86e28d23f2c7"  # printf 0123456789 | md5sum
    assert fetch_track(store.uri("song.wav"), DecodeConfig(max_file_bytes=10), etag) == b"0123456789"
    assert store.fetch("song.wav", 10, content_hash(store, "song.wav", 10)) == b"0123456789"
    assert code_of(lambda: store.fetch("song.wav", 9, etag)) is TrackCode.TOO_LARGE
    assert code_of(lambda: store.fetch("none.wav", 9)) is TrackCode.NOT_FOUND
    store.write_atomic("song.wav", b"9876543210")
    assert code_of(lambda: store.fetch("song.wav", 10, etag)) is TrackCode.CHANGED_SINCE_INDEX


def test_many_threads_share_a_store(store: Store) -> None:
    for number in range(4):
        store.write_atomic(str(number), bytes([number]) * 100_000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: store.read_bytes(str(number % 4)), range(40)))
    assert found == [bytes([number % 4]) * 100_000 for number in range(40)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_another_process_reads_from_the_same_store(store: Store, method: str) -> None:
    store.write_atomic("file", b"from the parent")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(store.read_bytes, ("file",)).get(60) == b"from the parent"


def test_arrow_and_ray_train_work_in_the_same_place(store: Store, tmp_path: Path) -> None:
    place = store.arrow_filesystem()
    elsewhere = pickle.loads(pickle.dumps(place.filesystem))
    elsewhere.create_dir(f"{place.path}/checkpoint/1", recursive=True)
    pq.write_table(pa.table({"a": [1, 2]}), f"{place.path}/checkpoint/1/t.parquet", filesystem=elsewhere)
    pafs.copy_files(f"{place.path}/checkpoint", str(tmp_path), source_filesystem=place.filesystem)
    assert pq.read_table(tmp_path / "1/t.parquet")["a"].to_pylist() == [1, 2]
    assert [item.key for item in store.list()] == ["checkpoint/1/t.parquet"]


def test_a_bucket_gives_the_catalogue_that_its_folder_gives(store: Store, tmp_path: Path) -> None:
    music(store)
    music(Store.open(str(tmp_path / "music")))
    config = CatalogueConfig(labels_from="folder", content_id="hash", valid_fraction=0.5)
    near = index_catalogue(str(tmp_path / "music"), str(tmp_path / "near.parquet"), config)
    far = index_catalogue(store.uri(), store.uri("made/catalogue.parquet"), config)
    assert (far.tracks, far.skipped["not audio"].count) == (near.tracks, near.skipped["not audio"].count) == (9, 2)
    catalogue = read_catalogue(far.output)
    assert catalogue.drop("uri").equals(read_catalogue(near.output).drop("uri"))
    assert scan_catalogue(far.output).collect().equals(catalogue)
    row = catalogue.filter(uri=store.uri("rock & roll/é 2.flac")).to_dicts()[0]
    assert fetch_track(row["uri"], DecodeConfig(), row["content_id"]) == clip(2)


def test_etags_are_the_content_ids_and_an_index_is_made_again(store: Store) -> None:
    music(store)
    output = store.uri("made/catalogue.parquet")
    config = CatalogueConfig(labels_from="folder")
    index_catalogue(store.uri(), output, config)
    before = {row["uri"]: row for row in read_catalogue(output).to_dicts()}
    store.write_atomic("jazz/é 1.flac", clip(1_000))
    store.delete("jazz/é 3.flac")
    store.write_atomic("jazz/new.flac", clip(1_001))
    summary = index_catalogue(store.uri(), output, config)
    after = {row["uri"]: row for row in read_catalogue(output).to_dicts()}
    changed = {uri.rpartition("/")[2] for uri in before | after if before.get(uri) != after.get(uri)}
    assert changed == {"é 1.flac", "é 3.flac", "new.flac"}
    assert summary.kept_splits == 8
    assert fetch_track(
        store.uri("jazz/é 1.flac"), DecodeConfig(), after[store.uri("jazz/é 1.flac")]["content_id"]
    ) == clip(1_000)


def test_the_manifest_may_lie_in_the_bucket_too(store: Store, tmp_path: Path) -> None:
    music(store)
    store.write_atomic("labels.csv", "path,genre\njazz/é 1.flac,jazz\n".encode())
    output = str(tmp_path / "c.parquet")
    summary = index_catalogue(store.uri(), output, CatalogueConfig(manifest=store.uri("labels.csv")))
    assert (summary.with_genre, summary.tracks_without_row.count) == (1, 8)
    with pytest.raises(LabelError, match="does not exist"):
        index_catalogue(store.uri(), output, CatalogueConfig(manifest=store.uri("none.csv")))


def test_the_content_type_that_the_server_names_counts(store: Store, tmp_path: Path) -> None:
    s3 = s3fs.S3FileSystem(config_kwargs={"request_checksum_calculation": "when_required"}, skip_instance_cache=True)
    s3.pipe_file(store.uri("stream 1"), b"not to be told by its bytes", ContentType="audio/mpeg")
    s3.pipe_file(store.uri("stream 2"), b"not to be told by its bytes", ContentType="text/plain")
    index_catalogue(store.uri(), str(tmp_path / "c.parquet"), CatalogueConfig())
    assert read_catalogue(str(tmp_path / "c.parquet"))["uri"].to_list() == [store.uri("stream 1")]


def test_wrong_places_are_named_before_any_work(store: Store, bucket: str, tmp_path: Path) -> None:
    store.write_atomic("file.flac", clip(0))
    output = str(tmp_path / "c.parquet")
    wrong = {
        f"s3://no-such-{bucket}/music": (ObjectNotFoundError, "there is no bucket for"),
        f"s3://{bucket}/no such music": (ObjectNotFoundError, "nothing is under"),
        store.uri("file.flac"): (StorageError, "is an object, not a prefix"),
    }
    for root, (kind, message) in wrong.items():
        with pytest.raises(kind, match=message):
            index_catalogue(root, output, CatalogueConfig())
    with pytest.raises(ObjectNotFoundError, match="there is no bucket"):
        index_catalogue(store.uri(), f"s3://no-such-{bucket}/c.parquet", CatalogueConfig())
    with pytest.raises(SchemaError, match="will not overwrite"):
        index_catalogue(store.uri(), store.uri("file.flac"), CatalogueConfig())
    assert not Path(output).exists()
    assert [item.key for item in store.list()] == ["file.flac"]


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials(store: Store, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    store.write_atomic("song.wav", b"RIFF")
    monkeypatch.setenv(variable, "wrong")
    for check in (store.check_readable, store.check_writable):
        with pytest.raises(AccessDeniedError, match=r"is denied[\s\S]*check AWS_ACCESS_KEY_ID"):
            check()
    assert code_of(lambda: store.fetch("song.wav", 100)) is TrackCode.ACCESS_DENIED


def test_no_credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="no credentials for"):
        store.check_readable()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessDeniedError, match=r"profile \(nobody\) could not be found"):
        store.check_readable()


def test_credentials_that_allow_nothing(
    store: Store, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.write_atomic("song.wav", b"RIFF")
    for name, value in swift.env("guest").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDeniedError, match="is denied"):
        index_catalogue(store.uri(), str(tmp_path / "c.parquet"), CatalogueConfig())
    with pytest.raises(AccessDeniedError):
        store.exists("song.wav")
    assert code_of(lambda: store.fetch("song.wav", 100)) is TrackCode.ACCESS_DENIED


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_server_that_does_not_answer(store: Store, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    begun = time.monotonic()
    for check in (store.check_readable, store.check_writable):
        with pytest.raises(StorageError, match=r"no S3 server answers[\s\S]*check AWS_ENDPOINT_URL"):
            check()
    assert time.monotonic() - begun < 15


def test_an_endpoint_that_is_no_url(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(StorageError, match="Invalid endpoint: nonsense"):
        store.check_readable()


def test_the_region_may_be_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_atomic("song.wav", b"RIFF")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    store.check_readable()
    assert store.read_bytes("song.wav") == b"RIFF"


class CuttingRelay:
    """A TCP relay before the server that cuts the first answers short, as a bad line does."""

    def __init__(self, endpoint_url: str, cuts: int, bytes_before_cut: int) -> None:
        host, port = endpoint_url.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._cuts_left = cuts
        self._bytes_before_cut = bytes_before_cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            budget = self._bytes_before_cut if self._cuts_left > 0 else None
            self._cuts_left -= 1
            server = socket.create_connection(self._server)
            threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, budget), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, budget: int | None) -> None:
        with source, target:
            try:
                while data := source.recv(65_536):
                    target.sendall(data if budget is None else data[:budget])
                    budget = None if budget is None else budget - len(data)
                    if budget is not None and budget <= 0:
                        break
                target.shutdown(socket.SHUT_RDWR)
                source.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other direction ended first
                return


@pytest.fixture
def relay(
    swift: SwiftServer, monkeypatch: pytest.MonkeyPatch, store: Store
) -> Iterator[Callable[[int], CuttingRelay]]:
    store.write_atomic("song.wav", np.random.default_rng(0).bytes(1_000_000))
    made: list[CuttingRelay] = []

    def make(cuts: int) -> CuttingRelay:
        made.append(CuttingRelay(swift.endpoint_url, cuts, bytes_before_cut=300_000))
        monkeypatch.setenv("AWS_ENDPOINT_URL", made[-1].endpoint_url)
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_line_that_breaks_in_the_middle_of_a_file_is_tried_again(
    store: Store, relay: Callable[[int], CuttingRelay]
) -> None:
    broken = relay(2)
    assert store.fetch("song.wav", 2_000_000) == np.random.default_rng(0).bytes(1_000_000)
    assert broken.connections == 3


def test_a_line_that_keeps_breaking_fails_the_track_alone(store: Store, relay: Callable[[int], CuttingRelay]) -> None:
    relay(1_000)
    assert code_of(lambda: store.fetch("song.wav", 2_000_000)) is TrackCode.FETCH_FAILED


def test_the_real_catalogue_in_a_bucket(shared_data: Path, store: Store, tmp_path: Path) -> None:
    folder = shared_data / "midi-catalogue"
    with ThreadPoolExecutor(8) as pool:
        paths = [path for path in sorted((folder / "audio").iterdir()) if path.stat().st_size < 200_000][:50]
        list(pool.map(lambda path: store.write_atomic(f"audio/{path.name}", path.read_bytes()), paths))
    config = CatalogueConfig(manifest=str(folder / "manifest.csv"))
    summary = index_catalogue(store.uri(), str(tmp_path / "c.parquet"), config)
    assert (summary.tracks, summary.with_tags, summary.rows_without_file.count) == (50, 50, 921)
    assert read_catalogue(summary.output)["uri"].str.starts_with(store.uri("audio/t")).all()
