"""Tags into files and back: what is left alone, what is written, and that all of it can be taken back."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from audio_samples import music
from curation_makers import BUNDLE, Tagged, tagged_folder
from rich.console import Console
from typer.testing import CliRunner

from mgc.audio.decode.sndfile import encode
from mgc.catalogue.index import catalogue_root, index_catalogue
from mgc.cli.app import build_app
from mgc.cli.write_tags_command import undo_journal, write_tags
from mgc.config import CatalogueConfig, DecodeConfig
from mgc.curation.filetags.journal import read_journal
from mgc.curation.filetags.tag_child import SupervisedTagEditor
from mgc.curation.filetags.tag_fields import read_fields, with_fields
from mgc.curation.filetags.write_plan import Skips, TagChange, WriteOptions, planned_changes
from mgc.curation.filetags.writer import Written, write_changes
from mgc.errors import ConfigError, LeaseError, SchemaError, StorageError
from mgc.storage.store import Store
from mgc.tables.diff import plan_work
from mgc.tables.lease import run_lease
from mgc.tables.predictions import read_predictions
from mgc.tables.publish import publish
from mgc.tables.run_index import newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.work_items import clean_items

SOUND = music(0.5, 22_050)
MAX_BYTES = 10**9
LEASE_SECONDS = 60.0


@pytest.fixture
def tagged(tmp_path: Path) -> Tagged:
    files = {f"{kind}.{kind}": encode(SOUND, 22_050, kind) for kind in ("mp3", "flac", "ogg", "wav", "au")}  # type: ignore[arg-type]
    files["unsure.mp3"] = files["broken.mp3"] = files["mp3.mp3"]
    files["known.flac"] = with_fields(files["flac.flac"], "x.flac", {"GENRE": ("Schlager",)})
    failed = {"error_code": "T203_DECODE_FAILED", "error_stage": "decode", "error_message": "x"}
    return tagged_folder(tmp_path, files, unsure={"genre_probability": 0.5}, broken=failed)


@pytest.fixture(scope="module")
def editor() -> Iterator[SupervisedTagEditor]:
    with SupervisedTagEditor(DecodeConfig()) as editor:
        yield editor


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fields(path: Path) -> dict[str, tuple[str, ...]]:
    with path.open("rb") as file:
        return read_fields(file).values


def planned(tagged: Tagged, options: WriteOptions, editor: SupervisedTagEditor) -> tuple[dict[str, TagChange], Skips]:
    skips = Skips()
    root = catalogue_root(str(tagged.catalogue))
    found = planned_changes(read_predictions(str(tagged.predictions)), tagged.tracks(), root, options, skips, editor)
    return {Path(change.uri).name: change for change in found}, skips


def apply(tagged: Tagged) -> Path:
    write_tags(str(tagged.catalogue), str(tagged.predictions), apply=True)
    return max((tagged.predictions / "tag-journals").iterdir())


def test_a_dry_run_touches_nothing_and_names_what_it_would_write(
    tagged: Tagged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tagged.music)
    write_tags(str(tagged.catalogue), str(tagged.predictions), changes=str(tmp_path / "changes.csv"))
    assert contents(tagged.music) == before
    assert not (tagged.predictions / "tag-journals").exists()
    printed = capsys.readouterr().out
    assert "Dry run" in printed
    assert "probability below 0.8" in printed
    rows = (tmp_path / "changes.csv").read_text().splitlines()
    assert any("mp3.mp3,file,GENRE,–,jazz" in row for row in rows)


def test_only_sure_tracks_that_were_answered_are_written(tagged: Tagged, editor: SupervisedTagEditor) -> None:
    changes, skips = planned(tagged, WriteOptions(), editor)
    assert set(changes) == {"mp3.mp3", "flac.flac", "ogg.ogg", "wav.wav", "au.au", "known.flac"}
    assert skips.counts == {"probability below 0.8": 1, "failed: no answer": 1}
    assert changes["au.au"].into == "sidecar"
    assert "no tags that mgc writes" in changes["au.au"].note


def test_an_abstained_track_is_left_alone(tagged: Tagged, editor: SupervisedTagEditor) -> None:
    predictions = read_predictions(str(tagged.predictions)).with_columns(abstained=pl.lit(True))
    skips = Skips()
    assert not list(planned_changes(predictions, tagged.tracks(), str(tagged.music), WriteOptions(), skips, editor))
    assert skips.counts["abstained"] == 7


def test_a_genre_that_somebody_wrote_stays_unless_told(tagged: Tagged, editor: SupervisedTagEditor) -> None:
    kept, _ = planned(tagged, WriteOptions(), editor)
    assert "GENRE" not in kept["known.flac"].after
    assert kept["known.flac"].after["MGC_GENRE"] == ("jazz",)
    replaced, _ = planned(tagged, WriteOptions(replace_genre=True), editor)
    assert replaced["known.flac"].after["GENRE"] == ("jazz",)
    assert replaced["known.flac"].before["GENRE"] == ("Schlager",)


def test_written_files_say_genre_tags_and_source(tagged: Tagged) -> None:
    (tagged.music / "mp3.mp3").chmod(0o640)
    apply(tagged)
    for name in ("mp3.mp3", "flac.flac", "ogg.ogg", "wav.wav"):
        said = fields(tagged.music / name)
        assert said["GENRE"] == said["MGC_GENRE"] == ("jazz",)
        assert said["MGC_BUNDLE"] == (BUNDLE,)
        assert said["MGC_TAGS"] == ("piano",)
        assert said["MGC_GENRE_PROBABILITY"] == ("0.900",)
    assert json.loads((tagged.music / "au.au.mgc.json").read_text())["genre"] == "jazz"
    assert (tagged.music / "mp3.mp3").stat().st_mode & 0o777 == 0o640
    assert not list(tagged.music.glob(".mgc-tmp-*"))


def test_writing_again_changes_nothing(tagged: Tagged, editor: SupervisedTagEditor) -> None:
    apply(tagged)
    changes, skips = planned(tagged, WriteOptions(), editor)
    assert not changes
    assert skips.counts["says it already"] == 6


def test_no_run_tags_written_files_anew(tagged: Tagged) -> None:
    apply(tagged)
    index_catalogue(str(tagged.music), str(tagged.catalogue), CatalogueConfig())
    output = OutputDirectory(Store.open(str(tagged.predictions)), "predictions")
    plan = plan_work(clean_items(tagged.tracks()), newest_index(output), BUNDLE)
    assert plan.todo.is_empty()
    assert plan.unchanged == 8
    assert publish(output) is None, "published already"


def test_undo_puts_every_byte_and_time_back(tagged: Tagged) -> None:
    before, times = contents(tagged.music), {path: path.stat().st_mtime_ns for path in tagged.music.iterdir()}
    tracks = tagged.tracks()
    journal = apply(tagged)
    assert contents(tagged.music) != before
    undo_journal(Console(file=io.StringIO()), str(journal), MAX_BYTES, LEASE_SECONDS)
    assert contents(tagged.music) == before
    assert {path: path.stat().st_mtime_ns for path in tagged.music.iterdir()} == times
    assert tagged.tracks().equals(tracks)


def test_undo_leaves_files_alone_that_changed_since(tagged: Tagged) -> None:
    journal = apply(tagged)
    with (tagged.music / "ogg.ogg").open("ab") as file:
        file.write(b"more")
    changed = (tagged.music / "ogg.ogg").read_bytes()
    screen = io.StringIO()
    undo_journal(Console(file=screen, width=200), str(journal), MAX_BYTES, LEASE_SECONDS)
    assert (tagged.music / "ogg.ogg").read_bytes() == changed
    assert "changed since its tags were written" in screen.getvalue()
    assert fields(tagged.music / "mp3.mp3") == {}


def test_a_file_that_changed_since_it_was_tagged_is_left_alone(tagged: Tagged, editor: SupervisedTagEditor) -> None:
    (tagged.music / "mp3.mp3").write_bytes(encode(music(0.6, 22_050), 22_050, "mp3"))
    (tagged.music / "ogg.ogg").unlink()
    changes, skips = planned(tagged, WriteOptions(), editor)
    assert "mp3.mp3" not in changes
    assert skips.counts["changed since it was tagged"] == 1
    assert skips.counts["deleted since it was tagged"] == 1


def test_a_read_only_file_is_left_alone_and_named(tagged: Tagged, capsys: pytest.CaptureFixture[str]) -> None:
    path = tagged.music / "mp3.mp3"
    before = path.read_bytes()
    path.chmod(0o444)
    apply(tagged)
    assert path.read_bytes() == before
    said = capsys.readouterr().out
    assert "could not be written" in said
    assert "it is read-only" in said


def test_a_file_that_changes_between_plan_and_write_is_left_alone(
    tagged: Tagged, editor: SupervisedTagEditor
) -> None:
    changes, _ = planned(tagged, WriteOptions(), editor)
    other = encode(music(0.6, 22_050), 22_050, "mp3")
    (tagged.music / "mp3.mp3").write_bytes(other)

    class Notes:
        def add(self, entry: object) -> None:
            raise AssertionError("nothing is to be noted")

    written = write_changes([changes["mp3.mp3"]], Notes(), MAX_BYTES, editor)  # type: ignore[arg-type]
    assert written.files == 0
    assert (tagged.music / "mp3.mp3").read_bytes() == other


def test_a_crash_before_the_file_is_replaced_leaves_the_old_file(
    tagged: Tagged, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tagged.music)

    whole = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if Path(target).parent == tagged.music:
            raise KeyboardInterrupt
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_tags(str(tagged.catalogue), str(tagged.predictions), apply=True)
    monkeypatch.undo()
    journal = max((tagged.predictions / "tag-journals").iterdir())
    assert len(read_journal(str(journal)).entries) == 1
    undo_journal(Console(file=io.StringIO()), str(journal), MAX_BYTES, LEASE_SECONDS)
    assert contents(tagged.music) == before


def test_a_link_stays_a_link(tagged: Tagged, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.mp3"
    os.replace(tagged.music / "mp3.mp3", elsewhere)  # noqa: PTH105
    (tagged.music / "mp3.mp3").symlink_to(elsewhere)
    apply(tagged)
    assert (tagged.music / "mp3.mp3").is_symlink()
    assert fields(elsewhere)["GENRE"] == ("jazz",)


def test_names_that_are_long_or_no_utf8_are_written_and_undone(tmp_path: Path, editor: SupervisedTagEditor) -> None:
    names = ["n" * 251 + ".mp3", os.fsdecode(b"caf\xe9.mp3"), "l" * 252 + ".au"]
    made = tagged_folder(tmp_path, {name: encode(SOUND, 22_050, name.rpartition(".")[2]) for name in names})  # type: ignore[arg-type]
    before = contents(made.music)
    changes, skips = planned(made, WriteOptions(min_probability=0.0), editor)
    assert {change.into for change in changes.values()} == {"file"}
    assert len(changes) == 2
    assert skips.counts == {"the name of its sidecar would be longer than 255 bytes": 1}
    journal = apply(made)
    assert {name for name, data in contents(made.music).items() if data != before[name]} == set(names[:2])
    undo_journal(Console(file=io.StringIO()), str(journal), MAX_BYTES, LEASE_SECONDS)
    assert contents(made.music) == before


def test_sidecars_go_where_they_are_sent_and_never_over_strangers(tagged: Tagged, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "ogg.ogg.mgc.json").write_text("{}")
    before = contents(tagged.music)
    options = {"where": "sidecar", "sidecars_to": str(tmp_path / "beside"), "apply": True}
    write_tags(str(tagged.catalogue), str(tagged.predictions), **options)  # type: ignore[arg-type]
    assert contents(tagged.music) == before
    assert (tmp_path / "beside" / "ogg.ogg.mgc.json").read_text() == "{}"
    assert json.loads((tmp_path / "beside" / "mp3.mp3.mgc.json").read_text())["bundle_fingerprint"] == BUNDLE
    journal = max((tagged.predictions / "tag-journals").iterdir())
    write_tags(undo_=str(journal))
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["ogg.ogg.mgc.json"]


def test_while_a_run_is_at_work_nothing_is_written_or_taken_back(tagged: Tagged, tmp_path: Path) -> None:
    journal = apply(tagged)
    (tagged.music / "mp3.mp3").write_bytes(encode(music(0.6, 22_050), 22_050, "mp3"))
    before = contents(tagged.music)
    store, app, runner = Store.open(str(tagged.predictions)), build_app("write-tags"), CliRunner()
    command = ["write-tags", str(tagged.catalogue), "-p", str(tagged.predictions), "--replace-genre"]
    with run_lease(store, LEASE_SECONDS):
        for refused in ([*command, "--apply"], ["write-tags", "--undo", str(journal)]):
            error = runner.invoke(app, refused).exception
            assert isinstance(error, LeaseError)
            assert f"another run is at work in '{store.uri()}'" in str(error)
        assert runner.invoke(app, command).exit_code == 0, "a dry run disturbs nobody"
        assert contents(tagged.music) == before
        assert runner.invoke(app, [*command, "--apply", "--takeover"]).exit_code == 0
    assert fields(tagged.music / "known.flac")["GENRE"] == ("jazz",)
    assert list(store.list("leases/")) == []


def test_rows_are_not_put_down_where_another_run_has_taken_over(
    tagged: Tagged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, whole = Store.open(str(tagged.predictions)), write_changes

    def and_then_another_takes_over(*arguments: Any) -> Written:
        written = whole(*arguments)
        for lease in list(store.list("leases/")):
            store.delete(lease.key)
        return written

    monkeypatch.setattr("mgc.cli.write_tags_command.write_changes", and_then_another_takes_over)
    rows = read_predictions(str(tagged.predictions))
    apply(tagged)
    assert "the next run will tag these files anew: another run has taken over" in capsys.readouterr().out
    assert read_predictions(str(tagged.predictions)).equals(rows)


def test_a_journal_cut_off_in_its_last_line_is_read(tagged: Tagged) -> None:
    journal = apply(tagged)
    text = journal.read_text()
    journal.write_text(text[:-40])
    assert len(read_journal(str(journal)).entries) == text.count("\n") - 2


def test_what_is_no_journal_and_what_cannot_be_asked_are_named(tagged: Tagged) -> None:
    with pytest.raises(SchemaError, match="no journal"):
        read_journal(str(tagged.music / "au.au"))
    with pytest.raises(StorageError, match="cannot read the journal"):
        read_journal(str(tagged.music / "none.jsonl"))
    with pytest.raises(ConfigError, match="probability of 8"):
        WriteOptions(min_probability=8)
    with pytest.raises(ConfigError, match="nothing to write"):
        write_tags(str(tagged.catalogue))
