"""Where two bundles' answers differ, other vocabularies included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from audio_samples import music
from model_makers import FEATURES, TAXONOMY, bundle_contents

from mgc.audio.decode.sndfile import encode
from mgc.cli.compare_command import compare
from mgc.config.taxonomy import Taxonomy
from mgc.errors import ConfigError
from mgc.inference.file_tagger import FileAnswer, Vocabularies, difference
from mgc.inference.predictor import TrackPrediction
from mgc.models.bundle import Bundle, load_bundle, write_bundle

OTHER = Taxonomy(("low", "high", "polka"), ("hum", "yodel"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(str(folder / "a"), bundle_contents(1))
    longer = FEATURES.model_copy(update={"window_seconds": 1.0})
    write_bundle(str(folder / "b"), bundle_contents(2, OTHER, features=longer))
    return [load_bundle(str(folder / name)) for name in "ab"]


def answer(taxonomy: Taxonomy, genres: list[float], tags: list[float]) -> FileAnswer:
    named = [tag for tag, value in zip(taxonomy.tags, tags, strict=True) if value >= 0.5]
    best = int(np.argmax(genres))
    arrays = (np.array(genres, np.float32), np.array(tags, np.float32))
    said = TrackPrediction(taxonomy.genres[best], genres[best], *arrays, named, np.ones(1, np.float32), 1)
    return FileAnswer("x.mp3", 3.0, said)


def test_the_same_vocabulary_has_a_distance(bundles: list[Bundle]) -> None:
    a, b = answer(TAXONOMY, [0.8, 0.2], [0.9, 0.1, 0.6]), answer(TAXONOMY, [0.3, 0.7], [0.8, 0.7, 0.55])
    found = difference(a, b, bundles[0], bundles[0])
    assert found.same_genre is False
    assert found.genre_distance == pytest.approx(0.5)
    assert (found.tags_a, found.tags_b) == ([], ["hum"])
    assert [tag for tag, _ in found.tag_changes] == ["hum", "buzz", "still"]
    assert dict(found.tag_changes)["hum"] == pytest.approx(0.6)
    assert difference(a, a, bundles[0], bundles[0]).genre_distance == 0.0


def test_other_vocabularies_are_compared_in_what_they_share(bundles: list[Bundle]) -> None:
    a, b = answer(TAXONOMY, [0.8, 0.2], [0.9, 0.1, 0.6]), answer(OTHER, [0.1, 0.6, 0.3], [0.3, 0.9])
    found = difference(a, b, *bundles)
    assert (found.same_genre, found.genre_distance) == (True, None)
    assert (found.tags_a, found.tags_b) == (["buzz", "still"], ["yodel"])
    assert [(tag, round(change, 6)) for tag, change in found.tag_changes] == [("hum", 0.2)]
    names = Vocabularies.of(*bundles)
    assert (names.genres_both, names.genres_a, names.genres_b) == (("high", "low"), (), ("polka",))
    assert (names.tags_both, names.tags_a, names.tags_b) == (("hum",), ("buzz", "still"), ("yodel",))


def test_a_file_without_an_answer_is_not_judged(bundles: list[Bundle]) -> None:
    found = difference(FileAnswer("x.mp3"), answer(TAXONOMY, [1, 0], [1, 1, 1]), bundles[0], bundles[0])
    assert (found.answered, found.same_genre, found.tags_b) == (False, None, [])


def test_standard_input_cannot_be_read_twice(bundles: list[Bundle]) -> None:
    with pytest.raises(ConfigError, match="read once"):
        compare(bundles[0].uri, bundles[1].uri, ["-"])


def test_the_command_shows_both(bundles: list[Bundle], tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(encode(music(2.0, 16_000), 16_000, "flac"))
    places = [bundle.uri for bundle in bundles]
    done = subprocess.run(
        [sys.executable, "-m", "mgc", "compare", *places, str(song), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [said[which]["bundle_fingerprint"] for which in "ab"] == [bundle.fingerprint for bundle in bundles]
    assert (said["a"]["windows"], said["b"]["windows"]) == (3, 2)
    assert said["same_genre"] == (said["a"]["predicted_genre"] == said["b"]["predicted_genre"])
    assert list(said["b"]["genre_probabilities"]) == list(OTHER.genres)
