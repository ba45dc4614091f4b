"""What a worker reads of items: a track once for all its views, and no view pays for another's partner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from table_makers import TINY, catalogue

from mgc.audio.track_features import TrackFeatures
from mgc.audio.views import ViewRequest
from mgc.cluster import reader as reader_module
from mgc.cluster.reader import AudioFeatureReader
from mgc.config import AugmentConfig, Config
from mgc.errors import Stage, TrackCode, TrackError
from mgc.tables.schema import PLAN
from mgc.tables.work_items import plan_items

AUGMENT = AugmentConfig(views=("overlay", "overlay#2", "tempo"))


class FakeExtractor:
    """Gives each view its recipe back; dies of the bytes "evil"."""

    requests: list[tuple[bytes, int]]

    def __init__(self, *settings: object) -> None:
        self.requests = []

    def extract_views(
        self, data: bytes, views: Sequence[ViewRequest], partners: Sequence[bytes] = ()
    ) -> list[TrackFeatures]:
        self.requests.append((data, len(views)))
        if b"evil" in (data, *partners):
            raise TrackError(TrackCode.DECODE_CRASHED, Stage.DECODE, "the decoder died (signal 11)")
        return [TrackFeatures({}, view.recipe.tempo_ratio or 1.0, ()) for view in views]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> AudioFeatureReader:
    monkeypatch.setattr(reader_module, "SupervisedExtractor", FakeExtractor)
    return AudioFeatureReader(Config(features=TINY))


def items(folder: Path, contents: dict[str, bytes]) -> pa.Table:
    for name, data in contents.items():
        (folder / f"{name}.wav").write_bytes(data)
    tracks = catalogue(dict.fromkeys(contents, "1"))
    rows = plan_items(tracks, AUGMENT).to_arrow().cast(PLAN).to_pylist()
    for row in rows:
        for track, prefix in (("track_id", ""), ("partner_id", "partner_")):
            if row[track] is not None:
                path = folder / f"{row[track]}.wav"
                row[f"{prefix}uri"] = str(path)
                row[f"{prefix}content_id"] = f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
    return pa.Table.from_pylist(rows, schema=PLAN)


def test_a_track_is_decoded_once_for_all_its_views(reader: AudioFeatureReader, tmp_path: Path) -> None:
    rows = items(tmp_path, {"a": b"music", "b": b"song"})
    extracted = list(reader.read(rows))
    assert reader._extractor.requests == [(b"music", 4), (b"song", 4)]  # type: ignore[attr-defined]
    durations = [one.duration_seconds for one in extracted if isinstance(one, TrackFeatures)]
    assert len(durations) == len(extracted)
    tempo = [seconds for seconds in durations if seconds != 1.0]
    assert len(tempo) == 2


def test_a_partner_that_breaks_the_decoder_costs_its_overlays_alone(
    reader: AudioFeatureReader, tmp_path: Path
) -> None:
    rows = items(tmp_path, {"a": b"music", "b": b"evil"})
    extracted = {
        (row["track_id"], row["view"]): one for row, one in zip(rows.to_pylist(), reader.read(rows), strict=True)
    }
    failed = {item for item, one in extracted.items() if isinstance(one, TrackError)}
    overlays = {("a", "overlay"), ("a", "overlay#2")}
    assert failed == overlays | {("b", view) for view in ("clean", "overlay", "overlay#2", "tempo")}


def test_a_partner_that_was_deleted_is_named_as_the_reason(reader: AudioFeatureReader, tmp_path: Path) -> None:
    rows = items(tmp_path, {"a": b"music", "b": b"song"})
    (tmp_path / "b.wav").unlink()
    extracted = [one for row, one in zip(rows.to_pylist(), reader.read(rows), strict=True) if row["track_id"] == "a"]
    assert [isinstance(one, TrackFeatures) for one in extracted] == [True, False, False, True]
    error = extracted[1]
    assert isinstance(error, TrackError)
    assert (error.track_code, error.stage) == (TrackCode.NOT_FOUND, Stage.FETCH)
    assert error.message.startswith("the overlay's partner: ")
