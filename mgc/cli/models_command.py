"""Networks of others: `mgc models` lists some, `mgc models pull NAME` fetches one, `mgc import-onnx` takes any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mgc.cli.app import console
from mgc.cli.terminal import facts
from mgc.cluster.progress import Meter
from mgc.config.settings import read_toml
from mgc.errors import BundleError, ConfigError
from mgc.models.published_files import (
    LICENCE,
    PUBLISHED_FILES,
    STARTER_NAME,
    PublishedFile,
    fetch_published,
    is_pulled,
    published_file,
    pulled_bundle,
)

TRAINED_ON = {"mtat": "MagnaTagATune", "msd": "Million Song Dataset", "jamendo": "MTG-Jamendo"}


def models(
    action: Annotated[str | None, typer.Argument(help="pull: fetch networks; nothing: list them")] = None,
    names: Annotated[list[str] | None, typer.Argument(help="of the list", metavar="[NAME]...")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="put the bundle there, e.g. on s3:// for all nodes of a cluster"),
    ] = None,
) -> None:
    """List the networks that others published, or pull some: from then on `-b NAME` is one's bundle.

    They lie in $XDG_CACHE_HOME/mgc (~/.cache/mgc). A file's SHA-256 is checked, and nothing in it is executed.
    """
    if action is None:
        _show_list(console())
        return
    if action != "pull" or not names:
        raise ConfigError(f"'mgc models {action}' is no request", "mgc models, or mgc models pull NAME")
    if output and len(names) > 1:
        raise ConfigError(f"--output is the place of one bundle, and {len(names)} are named", "pull them one by one")
    files = [published_file(name) for name in names]
    for file in files:
        _pull(console(), file, output)


def import_onnx(
    model: Annotated[Path, typer.Argument(help="the .onnx file, whole")],
    contract: Annotated[Path, typer.Option("--contract", help="TOML: what it takes and gives (docs/models.md)")],
    output: Annotated[str, typer.Option("--output", "-o", help="directory of the bundle")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another bundle")] = False,
) -> None:
    """Turn MODEL into a bundle that tags or embeds, alone or under a `transfer` member.

    It is read as data: external files, operators that are not of the ONNX standard and huge graphs are refused.
    """
    from mgc.models.bundle import write_bundle  # here: the list of `mgc models` waits for no torch
    from mgc.models.onnx_import import onnx_bundle, read_contract

    terms = read_contract(read_toml(str(contract)), f"'{contract}'")
    try:
        data = model.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read '{model}': {error.strerror}", "check the path") from error
    contents = onnx_bundle(data, terms, model.name)
    fingerprint = write_bundle(output, contents, overwrite=overwrite)
    labels, features = contents.taxonomy, contents.features
    size = contents.members[0].config.model_dump()["embedding_size"]
    rows = {
        "takes": f"{features.content}, windows of {features.window_seconds:g} s at {features.sample_rate} Hz",
        "gives": f"{len(labels.genres)} genres, {len(labels.tags)} tags, {size} values of embedding",
        "licence": terms.origin.licence,
        "bundle": f"{output} ({fingerprint})",
    }
    facts(console(), "Import of an ONNX network", rows)


def _show_list(screen: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "network", "trained on", "labels", "MB", "licence", "pulled"):
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=True)
    table.add_row(STARTER_NAME, "block_level", "GTZAN", "10 genres", "3.3", "research", "with mgc")
    for file in PUBLISHED_FILES.values():
        size, labels = f"{file.size_bytes / 1e6:.1f}", f"{len(file.tags)} tags"
        pulled = "yes" if is_pulled(file.name) else "–"
        table.add_row(file.name, file.network, TRAINED_ON[file.tag_set], labels, size, LICENCE, pulled)
    screen.print(table)
    screen.print("mgc models pull NAME, then mgc tag song.mp3 -b NAME", style="dim")


def _pull(screen: Console, file: PublishedFile, output: str | None) -> None:
    from mgc.models.bundle import write_bundle  # here: the list waits for no torch
    from mgc.models.published_weights import pulled_contents

    with Meter(screen, file.name, file.size_bytes // 1_000, "kB").shown() as meter:
        contents = pulled_contents(file, fetch_published(file, _Transfer(file.size_bytes, meter)))
    place = output or str(pulled_bundle(file.name))
    try:
        fingerprint = write_bundle(place, contents)
    except BundleError:  # damaged, or of another version of mgc
        if output:
            raise
        fingerprint = write_bundle(place, contents, overwrite=True)
    rows = {
        "network": contents.members[0].config.name,
        "bundle": f"{place} ({fingerprint})",
        "next": f"mgc tag song.mp3 -b {output or file.name}",
    }
    facts(screen, f"Pulled {file.name}", rows)


class _Transfer:
    """What pooch reports its progress to."""

    def __init__(self, total: int, meter: Meter) -> None:
        self.total = total
        self._meter = meter
        self._done = 0

    def update(self, n_bytes: int) -> None:
        self._done = min(self._done + n_bytes, self.total)
        self._meter.update(self._done // 1_000)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass
