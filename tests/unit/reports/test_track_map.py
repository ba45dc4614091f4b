from __future__ import annotations

import numpy as np
import pytest

from mgc.reports.track_map import TrackMap, lay_out_map


def clusters(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Unit vectors about three middles, by turns."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(3, 24))
    vectors = middles[np.arange(n) % 3] + 0.3 * rng.normal(size=(n, 24))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"{row:04}" for row in range(n)], unit.astype(np.float32)


def places(made: TrackMap) -> np.ndarray:
    return np.stack([made.x, made.y], axis=1)


def test_alike_tracks_are_near_each_other() -> None:
    ids, vectors = clusters(150)
    made = lay_out_map(ids, vectors, "b")
    assert made is not None
    found = places(made)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    apart = np.linalg.norm(found[:, None] - found[None], axis=2) + 9.0 * np.eye(150)
    nearest = apart.argmin(axis=1)
    assert np.mean(nearest % 3 == np.arange(150) % 3) > 0.98
    again = lay_out_map(ids, vectors, "b")
    assert again is not None
    np.testing.assert_array_equal(places(again), found)


def test_an_old_map_is_kept_and_new_tracks_are_put_among_their_like() -> None:
    ids, vectors = clusters(150)
    first = lay_out_map(ids[:120], vectors[:120], "b")
    assert first is not None
    kept = TrackMap.from_json(first.to_json())
    grown = lay_out_map(ids, vectors, "b", kept)
    assert grown is not None
    np.testing.assert_allclose(places(grown)[:120], places(first), atol=1e-5)
    for row in range(120, 150):
        near = np.linalg.norm(places(first) - places(grown)[row], axis=1).argmin()
        assert near % 3 == row % 3


def test_a_map_of_another_bundle_or_of_too_few_is_made_anew() -> None:
    ids, vectors = clusters(60)
    first = lay_out_map(ids, vectors, "b")
    assert first is not None
    shifted = TrackMap("b", first.track_ids, np.zeros(60), np.zeros(60))
    for bundle, old in (("other", shifted), ("b", TrackMap("b", ids[:30], np.zeros(30), np.zeros(30)))):
        anew = lay_out_map(ids, vectors, bundle, old)
        assert anew is not None
        np.testing.assert_array_equal(places(anew), places(first))


@pytest.mark.parametrize("n", [5, 6, 9])
def test_few_and_equal_tracks_have_places(n: int) -> None:
    ids, vectors = clusters(n)
    made = lay_out_map(ids, vectors, "b")
    assert made is not None
    assert np.isfinite(places(made)).all()
    same = lay_out_map(ids, np.tile(vectors[:1], (n, 1)), "b")
    assert same is not None
    assert np.isfinite(places(same)).all()


def test_four_tracks_are_no_map_and_strange_bytes_are_none() -> None:
    ids, vectors = clusters(4)
    assert lay_out_map(ids, vectors, "b") is None
    assert TrackMap.from_json(b"[]") is None
    assert TrackMap.from_json(b"{") is None
