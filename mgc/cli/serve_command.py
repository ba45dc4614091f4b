"""`mgc serve`: a bundle's answers over HTTP, on this machine, until it is ended."""

from __future__ import annotations

import os
import socket
import threading
from typing import Annotated

import typer

from mgc.cli.app import ConfigOption, SetOption, console, settings
from mgc.cli.terminal import facts
from mgc.errors import ConfigError
from mgc.models.bundle_files import read_bundle_for_audio, student_of
from mgc.storage.store import Store


def serve(
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="model bundle that `mgc train` wrote")],
    store: Annotated[
        list[str] | None,
        typer.Option(help="folder or s3:// prefix whose files may be requested by URI; may be given again"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; beyond this machine only behind a proxy")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    max_upload: Annotated[int, typer.Option(help="largest upload, MiB", min=1)] = 100,
    decoders: Annotated[int | None, typer.Option(help="files decoded at once; default: one a CPU", min=1)] = None,
    fast: Annotated[bool, typer.Option("--fast", help="use the bundle's student in place of its ensemble")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Answer HTTP requests: POST /tag with an audio file, or the URI of one in a --store (docs/serving.md)."""
    bundle = student_of(bundle) if fast else bundle
    chosen = settings(config, set_)
    stored = read_bundle_for_audio(bundle)
    for place in store or ():
        Store.open(place).check_readable()
    _require_free(host, port)
    try:
        from mgc.cluster.serve import DECODE_SECONDS, TAG_PATH, ServiceArguments, serving
    except ImportError as error:
        raise ConfigError(f"Ray Serve is not installed: {error}", "pip install 'mgc-tagger[serve]'") from error
    decode = chosen.decode
    if "time_limit_seconds" not in decode.model_fields_set:
        decode = decode.model_copy(update={"time_limit_seconds": DECODE_SECONDS})
    arguments = ServiceArguments(
        bundle=stored.uri,
        fingerprint=stored.manifest.fingerprint,
        stores=[Store.open(place).root for place in store or ()],
        max_upload_bytes=max_upload * 1024**2,
        decoders=decoders or os.cpu_count() or 1,
        settings={"decode": decode.model_dump(mode="json"), "tagging": chosen.tagging.model_dump(mode="json")},
    )
    with serving(arguments, host, port) as metrics:
        rows = {"bundle": f"{bundle} ({stored.manifest.fingerprint})", "answers": f"http://{host}:{port}{TAG_PATH}"}
        facts(console(), "Serving, until Ctrl-C or SIGTERM", rows | {"metrics": metrics})
        threading.Event().wait()


def _require_free(host: str, port: int) -> None:
    """Raise where the address cannot be listened on: Ray's proxy would try for ever."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", "give another --port"
        ) from error
