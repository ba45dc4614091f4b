"""What spoke for an answer: the parts that a prediction rests on are found, and figures are those of predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from model_makers import FEATURES, TAXONOMY, bundle_contents

from mgc.audio.track_features import TrackFeatures
from mgc.config.taxonomy import Taxonomy
from mgc.inference.occlusion import BANDS, occlusion
from mgc.inference.predictor import Predictor
from mgc.models.bundle import load_bundle, write_bundle

LONG = FEATURES.model_copy(update={"window_seconds": 4.0})
FRAMES = LONG.n_frames


def track(n_windows: int = 2, duration_seconds: float = 8.0, features: Any = LONG) -> TrackFeatures:
    rng = np.random.default_rng(0)
    log_mel = rng.uniform(-60, 0, (n_windows, features.n_frames, features.n_mels)).astype(np.float16)
    starts = tuple(4.0 * number for number in range(n_windows))
    return cast(
        TrackFeatures,
        SimpleNamespace(log_mel=log_mel, start_seconds=starts, duration_seconds=duration_seconds),
    )


class OneSpot:
    """Hangs on two spots: for it the lowest band in the second window's third second, against it the highest band."""

    def predict(self, log_mels: list[Any]) -> list[Any]:
        made = []
        for log_mel in log_mels:
            third = log_mel[1, FRAMES // 2 + 1 : FRAMES * 3 // 4 - 1].astype(float)
            for_it = third[:, : LONG.n_mels // BANDS].mean() > -55
            against = log_mel[:, :, -LONG.n_mels // BANDS :].astype(float).mean() > -55
            probability = 0.5 + 0.3 * for_it - 0.1 * against
            pair = np.array([1 - probability, probability], np.float32)
            made.append(SimpleNamespace(genre="x", genre_probabilities=pair, tag_probabilities=pair))
        return made


def test_the_second_and_the_bands_that_an_answer_rests_on_are_found() -> None:
    bundle = cast(Any, SimpleNamespace(features=LONG, taxonomy=Taxonomy(("a", "b"), ())))
    found = occlusion(cast(Any, OneSpot()), bundle, track())
    assert found is not None
    assert (found.name, found.probability) == ("b", pytest.approx(0.7))
    np.testing.assert_allclose(found.start_seconds, np.arange(8.0))
    np.testing.assert_allclose(found.end_seconds, np.arange(1.0, 9.0))
    np.testing.assert_allclose(found.slice_drops, np.eye(8)[6] * 0.3, atol=1e-6)
    np.testing.assert_allclose(found.band_drops, [0.3, *[0.0] * (BANDS - 2), -0.1], atol=1e-6)
    assert (np.diff(found.band_hz) > 0).all()
    assert found.band_hz[0] == pytest.approx(LONG.f_min)


def test_what_lies_beyond_the_end_of_a_track_is_not_silenced() -> None:
    bundle = cast(Any, SimpleNamespace(features=LONG, taxonomy=Taxonomy(("a", "b"), ())))
    found = occlusion(cast(Any, OneSpot()), bundle, track(duration_seconds=5.5))
    assert found is not None
    np.testing.assert_allclose(found.end_seconds, [1, 2, 3, 4, 5, 5.5])


@pytest.mark.parametrize("taxonomy", [TAXONOMY, Taxonomy((), TAXONOMY.tags)])
def test_figures_are_differences_of_the_bundles_own_predictions(tmp_path: Any, taxonomy: Taxonomy) -> None:
    write_bundle(str(tmp_path / "bundle"), bundle_contents(2, taxonomy))
    bundle = load_bundle(str(tmp_path / "bundle"))
    predictor, shown = Predictor(bundle), track(features=bundle.features)
    found = occlusion(predictor, bundle, shown)
    assert found is not None
    names = taxonomy.genres or taxonomy.tags

    def probability(log_mel: Any) -> float:
        (one,) = predictor.predict([log_mel])
        return float((one.genre_probabilities if taxonomy.genres else one.tag_probabilities)[names.index(found.name)])

    assert probability(shown.log_mel) == found.probability
    silenced = shown.log_mel.copy()
    silenced[:, :, : bundle.features.n_mels // BANDS] = -bundle.features.top_db
    assert found.band_drops[0] == pytest.approx(found.probability - probability(silenced), abs=1e-6)
    assert len(found.band_drops) == BANDS
