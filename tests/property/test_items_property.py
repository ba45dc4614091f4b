"""What is planned depends on the seed, the track and its view, and on nothing else."""

from __future__ import annotations

from collections import Counter

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import catalogue

from mgc.audio.views import Recipe, draw_recipe
from mgc.config import AUGMENT_BOUNDS, AugmentConfig
from mgc.config.view_settings import KINDS, View, parse_view
from mgc.tables.work_items import clean_items, plan_items

VIEWS = ("tempo", "overlay", "pitch+loudness+tempo", "noise#2", "gain")
NAMES = st.text("abcdefgh", min_size=1, max_size=6)
TRACKS = st.dictionaries(NAMES, st.sampled_from(["jazz", "rock", None]), min_size=1, max_size=12)
KIND_SETS = st.sets(st.sampled_from(KINDS), min_size=1).map(lambda kinds: tuple(k for k in KINDS if k in kinds))


def tracks_of(genres: dict[str, str | None], split: str = "train") -> pl.DataFrame:
    parts = [
        catalogue({name: "1"}, split=split).with_columns(genre=pl.lit(genre, pl.String))
        for name, genre in genres.items()
    ]
    return pl.concat(parts)


@given(NAMES, KIND_SETS, st.integers(1, 50), st.integers(0, 2**31))
def test_a_recipe_is_within_its_ranges_and_the_same_every_time(
    track_id: str, kinds: tuple[str, ...], number: int, seed: int
) -> None:
    config, view = AugmentConfig(seed=seed), View(kinds, number)
    recipe = draw_recipe(view, track_id, config, "partner@1")
    assert draw_recipe(view, track_id, AugmentConfig(seed=seed, views=VIEWS), "partner@1") == recipe
    assert Recipe.from_text(recipe.to_text()) == recipe
    names = {"tempo": "tempo_ratio", "pitch": "pitch_semitones", "loudness": "presence_db", "gain": "gain_db"}
    names |= {"noise": "snr_db", "overlay": "overlay_alpha"}
    for kind, name in names.items():
        value, (lowest, highest) = getattr(recipe, name), getattr(config, name)
        assert name in AUGMENT_BOUNDS
        assert value is None if kind not in kinds else lowest <= value <= highest


@settings(max_examples=25, deadline=None)
@given(st.sets(NAMES, min_size=20, max_size=60), KIND_SETS)
def test_draws_differ_between_tracks_numbers_and_seeds(track_ids: set[str], kinds: tuple[str, ...]) -> None:
    drawn = {
        draw_recipe(View(kinds, number), track_id, AugmentConfig(seed=seed), "p@1").to_text()
        for track_id in track_ids
        for number in (1, 2)
        for seed in (0, 1)
    }
    assert len(drawn) >= 4 * len(track_ids) - 2


@settings(max_examples=40, deadline=None)
@given(TRACKS, st.randoms(), st.sampled_from([None, 0.5, 1.0]))
def test_the_plan_does_not_depend_on_the_catalogues_order(
    genres: dict[str, str | None], random: object, share: float | None
) -> None:
    config = AugmentConfig(views=VIEWS, balance_to_share=share)
    names = list(genres)
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = plan_items(tracks_of({name: genres[name] for name in names}), config)
    assert shuffled.equals(plan_items(tracks_of(genres), config))
    assert shuffled.select("track_id", "view").is_unique().all()


@settings(max_examples=40, deadline=None)
@given(TRACKS)
def test_partners_are_other_tracks_of_the_same_genre_and_split(genres: dict[str, str | None]) -> None:
    both = pl.concat([tracks_of(genres), tracks_of({f"{name}v": genre for name, genre in genres.items()}, "valid")])
    items = plan_items(both, AugmentConfig(views=VIEWS, splits=("train", "valid")))
    facts = {row["track_id"]: (row["genre"], row["split"]) for row in both.iter_rows(named=True)}
    sizes = Counter(facts.values())
    overlays = items.filter(pl.col("view") == "overlay")
    for row in overlays.iter_rows(named=True):
        assert row["partner_id"] != row["track_id"]
        assert facts[row["partner_id"]] == facts[row["track_id"]]
        assert Recipe.from_text(row["recipe"]).partner == f"{row['partner_id']}@{row['partner_content_id']}"
    able = {name for name, fact in facts.items() if fact[0] is not None and sizes[fact] > 1}
    assert set(overlays["track_id"]) == able
    assert items.filter(pl.col("view") == "gain").height == both.height


@settings(max_examples=40, deadline=None)
@given(TRACKS, NAMES)
def test_a_new_track_changes_few_partners(genres: dict[str, str | None], added: str) -> None:
    config = AugmentConfig(views=("overlay",))
    before = plan_items(tracks_of(genres), config)
    after = plan_items(tracks_of({"jazz-new-" + added: "jazz", **genres}), config)
    same = before.join(after, on=["track_id", "view"], suffix="_after").filter(pl.col("partner_id").is_not_null())
    changed = same.filter(pl.col("recipe") != pl.col("recipe_after"))
    # Where a partner changed it is the new track: it stands between the drawn place and the old partner.
    assert set(changed["partner_id_after"]) <= {"jazz-new-" + added}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.floats(0.1, 1.0))
def test_balancing_fills_rare_genres_to_their_share(rare: int, common: int, share: float) -> None:
    genres: dict[str, str | None] = {f"r{n}": "jazz" for n in range(rare)} | {f"c{n}": "rock" for n in range(common)}
    items = plan_items(tracks_of(genres), AugmentConfig(views=("tempo", "noise"), balance_to_share=share))
    rows = Counter(items["genre"])
    most = 3 * max(rare, common)
    for genre, count in (("jazz", rare), ("rock", common)):
        assert rows[genre] == max(3 * count, -(-share * most // 1))
    assert all(parse_view(name).name == name for name in items["view"])


def test_without_views_every_track_is_heard_once() -> None:
    tracks = tracks_of({"a": "jazz", "b": None})
    assert plan_items(tracks, AugmentConfig()).equals(clean_items(tracks).sort("track_id"))
    only_train = plan_items(tracks_of({"a": "jazz"}, "valid"), AugmentConfig(views=VIEWS))
    assert only_train["view"].to_list() == ["clean"]
