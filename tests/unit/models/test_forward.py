"""Windows of many tracks through a network, and back to tracks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_makers import N_MELS, small_model

from mgc.models.forward import mean_by_track, member_outputs


def log_mels(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.uniform(-80, 0, (windows, frames, N_MELS)).astype(np.float16) for windows, frames in shapes]


def test_a_track_is_the_mean_of_its_windows() -> None:
    model = small_model().eval()
    tracks = log_mels((3, 24), (1, 24), (2, 24))
    outputs = member_outputs(model, tracks, batch_windows=4)
    for row, track in enumerate(tracks):
        with torch.inference_mode():
            alone = model(torch.from_numpy(track).float())
        np.testing.assert_allclose(outputs.genre_logits[row], alone.genre_logits.mean(0), atol=1e-5)
        np.testing.assert_allclose(outputs.tag_logits[row], alone.tag_logits.mean(0), atol=1e-5)
        np.testing.assert_allclose(outputs.embeddings[row], alone.embedding.mean(0), atol=1e-5)


@pytest.mark.parametrize("batch_windows", [1, 2, 5, 100])
def test_batching_does_not_change_the_answer(batch_windows: int) -> None:
    model = small_model()
    tracks = log_mels((3, 24), (4, 24), (1, 24))
    expected = member_outputs(model, tracks, batch_windows=8)
    found = member_outputs(model, tracks, batch_windows=batch_windows)
    np.testing.assert_allclose(found.genre_logits, expected.genre_logits, atol=1e-5)


def test_windows_of_different_lengths_pass_apart() -> None:
    model = small_model()
    tracks = log_mels((2, 24), (1, 10), (2, 24))
    outputs = member_outputs(model, tracks)
    for row, track in enumerate(tracks):
        alone = member_outputs(model, [track])
        np.testing.assert_allclose(outputs.tag_logits[row], alone.tag_logits[0], atol=1e-5)


@pytest.mark.parametrize("together", [1, 2, 3, 7])
def test_company_does_not_change_the_last_bit(together: int) -> None:
    """What a killed run does again in other company must come out as before."""
    model = small_model()
    tracks = log_mels(*[(1 + number % 3, 24) for number in range(14)])
    expected = member_outputs(model, tracks)
    for start in range(0, len(tracks), together):
        found = member_outputs(model, tracks[start : start + together])
        rows = slice(start, start + together)
        np.testing.assert_array_equal(found.genre_logits, expected.genre_logits[rows])
        np.testing.assert_array_equal(found.tag_logits, expected.tag_logits[rows])
        np.testing.assert_array_equal(found.embeddings, expected.embeddings[rows])


def test_no_tracks_and_a_track_without_windows() -> None:
    assert member_outputs(small_model(), []).genre_logits.shape == (0, 0)
    with pytest.raises(ValueError, match="track 1: log-mel of shape"):
        member_outputs(small_model(), [*log_mels((1, 24)), np.zeros((0, 24, N_MELS), np.float16)])


def test_mean_by_track_of_known_values() -> None:
    windows = np.array([[1, 10], [3, 30], [5, 50]], np.float32)
    found = mean_by_track(windows, np.array([2, 1]))
    np.testing.assert_array_equal(found, [[2, 20], [5, 50]])
    assert mean_by_track(windows[:, :0], np.array([2, 1])).shape == (2, 0)
