"""The demo catalogue on disk: layout, labels, damaged files, and that composing twice is composing once."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgc.demo.compose import DAMAGED, DemoCatalogue, compose_catalogue, pass_a_day, plan_clips
from mgc.demo.styles import STYLES, TAGS
from mgc.errors import ConfigError, StorageError

SECONDS = 1.5


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> DemoCatalogue:
    return compose_catalogue(tmp_path_factory.mktemp("demo"), clips_per_style=6, clip_seconds=SECONDS, seed=3)


def rows_of(catalogue: DemoCatalogue) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(catalogue.manifest.read_text())))


def test_each_row_is_a_file_in_the_folder_of_its_genre(catalogue: DemoCatalogue) -> None:
    rows = rows_of(catalogue)
    assert len(rows) == 6 * len(STYLES)
    for row in rows:
        assert row["path"].split("/")[0] == row["genre"]
        assert (catalogue.folder / row["path"]).is_file()
    on_disk = {str(path.relative_to(catalogue.folder)) for path in catalogue.folder.rglob("*/*") if path.is_file()}
    assert on_disk == {row["path"] for row in rows} | set(DAMAGED)


def test_the_manifest_says_what_the_catalogue_says(catalogue: DemoCatalogue) -> None:
    for row, clip in zip(rows_of(catalogue), catalogue.clips, strict=True):
        assert (row["path"], row["genre"], row["group"]) == (clip.path, clip.genre, clip.group)
        assert tuple(row["tags"].split("|")) == clip.tags
        assert set(clip.tags) <= set(TAGS)


def test_the_files_are_what_their_names_say(catalogue: DemoCatalogue) -> None:
    formats = {"flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "wav": "WAV"}
    for clip in catalogue.clips:
        info = soundfile.info(catalogue.folder / clip.path)
        assert info.format == formats[clip.container] or (clip.container == "mp3" and info.format == "MPEG")
        assert (info.samplerate, info.channels) == (clip.sample_rate, clip.channels)
        assert info.duration == pytest.approx(SECONDS, abs=0.12)


def test_every_style_comes_in_every_format(catalogue: DemoCatalogue) -> None:
    layouts = {
        style.name: {(c.container, c.sample_rate, c.channels) for c in catalogue.clips if c.genre == style.name}
        for style in STYLES
    }
    assert all(layout == layouts["folk"] for layout in layouts.values())
    assert {container for container, _, _ in layouts["folk"]} == {"flac", "mp3", "ogg", "wav"}
    assert {rate for _, rate, _ in layouts["folk"]} == {22_050, 44_100}


def test_a_group_is_two_clips_of_one_style(catalogue: DemoCatalogue) -> None:
    groups: dict[str, list[str]] = {}
    for clip in catalogue.clips:
        groups.setdefault(clip.group, []).append(clip.genre)
    assert len(groups) == 12
    assert all(len(genres) == 2 and len(set(genres)) == 1 for genres in groups.values())


def test_two_files_are_damaged_each_in_its_way(catalogue: DemoCatalogue) -> None:
    text, empty = (catalogue.folder / path for path in catalogue.damaged)
    assert text.suffix == ".mp3"
    assert text.read_text().startswith("This is a text file")
    assert empty.stat().st_size == 0
    assert not set(catalogue.damaged) & {clip.path for clip in catalogue.clips}


def test_the_folder_says_that_it_is_synthetic(catalogue: DemoCatalogue) -> None:
    text = (catalogue.folder / "README.txt").read_text()
    for phrase in ("synthetic", "say nothing about real music", "CC0", "seed 3"):
        assert phrase in text


def test_a_second_call_does_nothing(tmp_path: Path) -> None:
    first = compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)
    assert first.composed
    assert not second.composed
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert second.clips == first.clips


def test_a_clip_a_project_has_no_clip_beside_it(tmp_path: Path) -> None:
    clips = compose_catalogue(tmp_path, clips_per_style=2, clip_seconds=1.0, clips_per_project=1).clips
    assert len({clip.group for clip in clips}) == len(clips) == 2 * len(STYLES)
    assert clips[0].path == f"ambient/{clips[0].group}.flac"


def test_lengths_are_spread_about_the_one_given() -> None:
    seconds = [clip.piece.seconds for clip in plan_clips(12, 4.0, 0, length_spread=0.25)]
    assert 3.0 <= min(seconds) < 3.2
    assert 4.8 < max(seconds) <= 5.0
    assert {clip.piece.seconds for clip in plan_clips(12, 4.0, 0)} == {4.0}


@pytest.fixture
def with_unsorted(tmp_path: Path) -> DemoCatalogue:
    return compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=2.0, unsorted=True)


def test_what_is_unsorted_has_no_label_and_lies_outside_the_genres(with_unsorted: DemoCatalogue) -> None:
    names = [one.path for one in with_unsorted.plan.unsorted]
    assert names[0] == "medley-ambient-techno-20.flac"
    assert names[-1] == "copy-of-folk-01a.mp3"
    assert len(names) == 6 * 4 + len(STYLES)
    assert not set(names) & {row["path"] for row in rows_of(with_unsorted)}
    assert {path.name for path in with_unsorted.folder.glob("[!.]*-*")} == set(names)


def test_a_copy_is_its_clip_in_another_format_and_a_medley_two_styles(with_unsorted: DemoCatalogue) -> None:
    clip = with_unsorted.clips[-1]
    clip_samples, copy_samples = (
        soundfile.read(with_unsorted.folder / path, always_2d=True)[0][:, 0]
        for path in (clip.path, "copy-of-folk-01a.mp3")
    )
    length = min(len(clip_samples), len(copy_samples))
    assert np.corrcoef(clip_samples[:length], copy_samples[:length])[0, 1] > 0.99
    medley = with_unsorted.plan.unsorted[0]
    assert [piece.project.style.name for piece in medley.pieces] == ["ambient", "techno"]
    assert soundfile.info(with_unsorted.folder / medley.path).duration == pytest.approx(2.0, abs=0.01)


def test_a_day_makes_one_file_new_one_another_and_one_less_and_the_next_call_puts_them_back(
    with_unsorted: DemoCatalogue,
) -> None:
    folder = with_unsorted.folder

    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    changes = pass_a_day(with_unsorted)
    after = contents()
    assert set(after) - set(before) == {changes.new} == {"new-folk.ogg"}
    assert set(before) - set(after) == {changes.deleted} == {"copy-of-folk-01a.mp3"}
    other = {name for name in set(before) & set(after) if before[name] != after[name]}
    assert other == {changes.changed, ".mgc-demo.json"}
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*/*")}
    again = compose_catalogue(folder, clips_per_style=1, clip_seconds=2.0, unsorted=True)
    # An OGG stream has a serial number of its own: the changed file is a FLAC, and the deleted one an MP3.
    assert (again.composed, contents()) == (True, before)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*/*")} == times, "labelled clips are left alone"


def test_other_arguments_replace_the_catalogue_and_leave_foreign_files(tmp_path: Path) -> None:
    compose_catalogue(tmp_path, clips_per_style=2, clip_seconds=1.0)
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    after = compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0, damaged=False)
    assert after.composed
    assert after.damaged == ()
    audio = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*/*") if path.is_file()}
    assert audio == {clip.path for clip in after.clips}
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("stamp", ["", "[]", '{"files": 3}', '{"arguments": ""}'])
def test_what_is_no_stamp_marks_no_catalogue(tmp_path: Path, stamp: str) -> None:
    (tmp_path / ".mgc-demo.json").write_text(stamp)
    with pytest.raises(StorageError, match="is no demo catalogue"):
        compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)


def test_an_unfinished_catalogue_is_composed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mgc.demo.compose._manifest", fail)
        with pytest.raises(KeyboardInterrupt):
            compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)
    assert compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0).composed
    assert not compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0).composed


def test_a_lost_file_is_composed_again(tmp_path: Path) -> None:
    first = compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)
    lost = tmp_path / first.clips[0].path
    content = lost.read_bytes()
    lost.unlink()
    assert compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0).composed
    assert lost.read_bytes() == content


def test_the_same_seed_gives_the_same_samples(tmp_path: Path) -> None:
    one, two, other = (
        compose_catalogue(tmp_path / name, clips_per_style=3, clip_seconds=1.0, seed=seed)
        for name, seed in (("one", 5), ("two", 5), ("other", 6))
    )
    assert one.manifest.read_bytes() == two.manifest.read_bytes()
    assert one.manifest.read_bytes() != other.manifest.read_bytes()
    for clip in one.clips:
        a, b = (soundfile.read(folder.folder / clip.path)[0] for folder in (one, two))
        np.testing.assert_array_equal(a, b)


def test_a_folder_of_someones_music_is_left_alone(tmp_path: Path) -> None:
    track = tmp_path / "mine.mp3"
    track.write_bytes(b"music")
    with pytest.raises(StorageError, match="is no demo catalogue"):
        compose_catalogue(tmp_path, clips_per_style=1, clip_seconds=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.mp3"]


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(StorageError, match="cannot write the demo catalogue"):
        compose_catalogue(path, clips_per_style=1, clip_seconds=1.0)


def test_a_stamp_cannot_delete_outside_its_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / ".mgc-demo.json").write_text('{"arguments": "", "files": ["../precious.txt"], "complete": false}')
    compose_catalogue(folder, clips_per_style=1, clip_seconds=1.0)
    assert precious.read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clips_per_style": 0}, "clips_per_style = 0"),
        ({"clip_seconds": 0.0}, "clip_seconds = 0"),
        ({"clip_seconds": float("nan")}, "clip_seconds = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_catalogue(tmp_path / "demo", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()
