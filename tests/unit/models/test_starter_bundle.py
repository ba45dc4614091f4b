"""The bundle that comes with mgc: whole, small, with a card, and of nobody's machine."""

from __future__ import annotations

from pathlib import Path

from mgc.models.bundle import load_bundle
from mgc.models.bundle_files import require_audio
from mgc.models.published_files import STARTER, bundle_place

FILES = {path.name: path.read_bytes() for path in Path(STARTER).iterdir()}


def test_it_is_whole_takes_audio_and_is_found_by_its_name() -> None:
    bundle = load_bundle("starter")
    assert Path(bundle.uri) == Path(STARTER) == Path(bundle_place("starter"))
    require_audio(bundle.features, bundle.uri)
    assert len(bundle.taxonomy.genres) == 10
    assert bundle.features.frames_per_second == 22_050 / 512 / 3.33678


def test_it_holds_five_megabytes_at_most_and_weights_as_safetensors() -> None:
    assert sum(map(len, FILES.values())) <= 5_000_000
    assert {Path(name).suffix for name in FILES} == {".json", ".md", ".safetensors"}


def test_its_card_has_data_licence_figures_promise_and_limits_and_no_path() -> None:
    card = FILES["README.md"].decode()
    for phrase in ("Kereliuk", "for research", "5 folds of train and valid", "on artists never met", "limits"):
        assert phrase in card
    assert not any(path in FILES["bundle.json"].decode() + card for path in ("/tmp", "/home", "/work"))


def test_no_two_tags_that_exclude_each_other_can_be_listed() -> None:
    bundle = load_bundle(STARTER)
    exclusive = [{bundle.taxonomy.tags[tag] for tag in group} for group in bundle.decision.exclusive_tags]
    assert {"mood:calm", "mood:intense"} in exclusive
