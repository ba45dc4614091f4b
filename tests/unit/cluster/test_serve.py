"""The service without Ray's cluster: what the proxy lets through, which URIs are read, and what a request answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from audio_samples import music
from hostile_files import HOSTILE_FILES
from model_makers import bundle_contents

from mgc.audio.decode.sndfile import encode
from mgc.config import Config
from mgc.errors import FingerprintError
from mgc.inference.file_reader import FileReader
from mgc.inference.file_tagger import FileTagger, json_answer
from mgc.models.bundle import write_bundle
from mgc.models.bundle_files import read_bundle_for_audio

pytest.importorskip("starlette", reason="Ray Serve is not installed: mgc-tagger[serve]")
import mgc.cluster.serve as service
from mgc.cluster.serve import AllowedStores, ServiceArguments, TaggingService, UploadLimits

Messages = list[dict[str, Any]]
LOOP = asyncio.Runner()
"""`serve.batch` has one queue in a process, which belongs to the first event loop."""


def call(app: Any, messages: Messages, path: str = "/tag", method: str = "POST", **headers: str) -> Messages:
    """Return what an ASGI application sends for a request; after the messages given its client stalls."""
    sent: Messages = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return sent


def body(*pieces: bytes, ends: bool = True) -> Messages:
    return [
        {"type": "http.request", "body": piece, "more_body": not ends or number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]


class Behind:
    """An application that keeps what reaches it."""

    def __init__(self) -> None:
        self.seen: Messages = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.seen.append({**await receive(), "headers": dict(scope["headers"])})


def test_a_body_is_passed_on_whole_and_no_header_sets_limits_of_ray() -> None:
    behind = Behind()
    limits = UploadLimits(behind, 10)
    for header in ("x_request_timeout_seconds", "x_request_disconnect_disabled", "serve_multiplexed_model_id"):
        call(limits, body(b"abc", b"", b"defg"), **{header: "0", "accept": "x"})
    seen = {"type": "http.request", "body": b"abcdefg", "more_body": False, "headers": {b"accept": b"x"}}
    assert behind.seen == [seen] * 3
    assert limits._held == 0


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        (body(), {"content_length": "11"}, 413),
        (body(), {"content_length": "-1"}, 413),
        (body(b"12345", b"123456"), {}, 413),
        (body(b"123", ends=False), {"content_length": "9"}, 408),
        ([*body(b"123", ends=False), {"type": "http.disconnect"}], {}, 400),
    ],
)
def test_what_is_too_large_or_stalls_reaches_nothing(
    messages: Messages, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STALL_SECONDS", 0.05)
    behind = Behind()
    limits = UploadLimits(behind, 10)
    sent = call(limits, messages, **headers)
    assert sent[0]["status"] == status
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]
    assert (behind.seen, limits._held) == ([], 0)


def test_an_upload_that_trickles_ends_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "UPLOAD_SECONDS", 0.0)
    assert call(UploadLimits(Behind(), 10), body(b"1", ends=False))[0]["status"] == 408


def test_more_uploads_than_memory_is_meant_for_are_told_to_come_again() -> None:
    limits = UploadLimits(Behind(), 10)
    limits._held = service.HELD_BYTES - 3
    sent = call(limits, body(b"1234"))
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"5") in sent[0]["headers"]
    assert call(limits, body(b"123")) == []


def test_the_proxy_takes_its_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(service.LIMITS_VARIABLE, "17")
    (middleware,) = service.proxy_middlewares()
    assert (middleware.cls, middleware.args) == (UploadLimits, (17,))


def test_only_files_in_an_allowed_store_are_read(tmp_path: Path) -> None:
    music, outside = tmp_path / "music", tmp_path / "music-of-others"
    for folder in (music, outside):
        folder.mkdir()
        (folder / "song.wav").write_bytes(b"x")
    (music / "link.wav").symlink_to(outside / "song.wav")
    (music / "circle").symlink_to(music / "circle")
    stores = AllowedStores([str(music), "s3://bucket/albums/"])
    assert stores.holds(f"{music}/song.wav")
    assert stores.holds("s3://bucket/albums/a/song.wav")
    for uri in (
        f"{outside}/song.wav",
        f"{music}/../music-of-others/song.wav",
        f"{music}/link.wav",
        "song.wav",
        f"file://{music}/song.wav",
        "http://169.254.169.254/latest/meta-data",
        "s3://bucket/albums-of-others/song.wav",
        "s3://bucket/albums/../secret",
        "s3://bucket/albums//secret",
        "s3://other/albums/song.wav",
        "s3://bucket",
        "-",
        "",
        f"{music}/\0",
        "/etc/passwd",
    ):
        assert not stores.holds(uri), uri
    assert not AllowedStores([]).holds(f"{music}/song.wav")
    assert not AllowedStores([]).holds("s3://bucket/albums/song.wav")


@pytest.fixture(autouse=True)
def _outside_of_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve.batch` asks the replica for a setting, only to warn of it."""
    monkeypatch.setattr(
        "ray.serve.batching._BatchQueue._warn_if_max_batch_size_exceeds_max_ongoing_requests", lambda queue: None
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_bundle(str(folder / "bundle"), bundle_contents(2))
    (folder / "store").mkdir()
    (folder / "store" / "song.flac").write_bytes(encode(music(1.5, 16_000, seed=0), 16_000, "flac"))
    return folder


def tagged(
    folder: Path, *requests: tuple[Messages, str, str, dict[str, str]], seconds: float = 60.0
) -> list[tuple[int, Any]]:
    """Return status and JSON of requests to one service, all at once."""
    from starlette.requests import Request

    async def each() -> list[Any]:
        arguments = ServiceArguments(
            bundle=str(folder / "bundle"),
            stores=[str(folder / "store")],
            max_upload_bytes=10**6,
            decoders=2,
            settings={"decode": {"time_limit_seconds": seconds}},
        )
        app = TaggingService.func_or_class(arguments)
        readers = [app._free._queue[number] for number in range(2)]

        async def one(messages: Messages, path: str, method: str, headers: dict[str, str]) -> Any:
            scope = {
                "type": "http",
                "method": method,
                "path": path.partition("?")[0],
                "query_string": path.partition("?")[2].encode(),
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
                "server": ("x", 80),
            }
            waiting = list(messages)

            async def receive() -> dict[str, Any]:
                return waiting.pop(0) if waiting else {"type": "http.disconnect"}

            return await app(Request(scope, receive))

        try:
            return await asyncio.gather(*(one(*request) for request in requests))
        finally:
            app.check_health()
            for reader in readers:
                reader.close()

    return [(answer.status_code, json.loads(answer.body)) for answer in LOOP.run(each())]


def post(content: bytes, path: str = "/tag", **headers: str) -> tuple[Messages, str, str, dict[str, str]]:
    return body(content), path, "POST", {name.replace("_", "-"): value for name, value in headers.items()}


def uri_request(value: object) -> tuple[Messages, str, str, dict[str, str]]:
    return post(json.dumps(value).encode(), content_type="application/json; charset=utf-8")


def form_of(name: str, content: bytes) -> tuple[Messages, str, str, dict[str, str]]:
    part = f'--x\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    note = b'--x\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n'
    return post(note + part + content + b"\r\n--x--\r\n", content_type="multipart/form-data; boundary=x")


def test_answers_are_those_of_mgc_tag_however_a_file_comes_and_whatever_comes_with_it(folder: Path) -> None:
    uri = str(folder / "store" / "song.flac")
    song = Path(uri).read_bytes()
    stored = read_bundle_for_audio(str(folder / "bundle"))
    tagger = FileTagger(stored, Config().tagging)
    with FileReader(stored.features, Config().decode) as reader:
        answer = tagger.answer(reader.begin([uri])[0].result())
    expected = json_answer(answer, tagger.bundle)
    whole = json_answer(answer, tagger.bundle, embedding=True, windows=True)
    answered = tagged(
        folder,
        post(song),
        form_of("my song.flac", song),
        uri_request({"uri": uri}),
        post(song, "/tag?embedding=1&windows=1"),
        *[post(song)] * 20,
        post(HOSTILE_FILES["zeros.mp3"].make()),
        post(b""),
        uri_request({"uri": str(folder / "store" / "missing.flac")}),
    )
    names = ["-", "my song.flac", uri, "-", *["-"] * 20]
    good = [(200, {**(whole if n == 3 else expected), "audio_file": name}) for n, name in enumerate(names)]
    assert answered[:-3] == good
    assert [(status, value["error_code"]) for status, value in answered[-3:]] == [
        (422, "T202_NOT_AUDIO"),
        (422, "T201_EMPTY_FILE"),
        (404, "T101_NOT_FOUND"),
    ]


def test_requests_that_make_no_sense_are_refused(folder: Path) -> None:
    answered = tagged(
        folder,
        ([], "/health", "GET", {}),
        ([], "/tag", "GET", {}),
        ([], "/other", "POST", {}),
        post(b"x" * (10**6 + 1)),
        post(b"{", content_type="application/json"),
        post(b"[" * 100_000, content_type="application/json"),
        uri_request(["a"]),
        uri_request({"uri": 1}),
        uri_request({"uri": "/etc/passwd"}),
        post(b"x", content_type="multipart/form-data"),
        post(b"--x--\r\n", content_type="multipart/form-data; boundary=x"),
        form_of("", b"x"),
    )
    assert [status for status, _ in answered] == [200, 405, 404, 413, 400, 400, 400, 400, 403, 400, 400, 422]
    assert answered[0][1]["bundle_fingerprint"] == read_bundle_for_audio(str(folder / "bundle")).manifest.fingerprint
    assert all(value["error"] for _, value in answered[1:-1])


def test_a_file_that_takes_too_long_says_little_about_itself(folder: Path) -> None:
    ((status, value),) = tagged(folder, post(HOSTILE_FILES["hangs_sf_open.wav"].make()), seconds=1.0)
    assert (status, value["error_code"]) == (504, "T207_DECODE_TIMEOUT")


def test_a_bundle_that_was_replaced_is_not_served(folder: Path) -> None:
    with pytest.raises(FingerprintError, match="was replaced"):
        TaggingService.func_or_class(ServiceArguments(bundle=str(folder / "bundle"), fingerprint="f" * 16))
