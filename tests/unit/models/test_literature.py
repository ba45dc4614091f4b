"""MFCC inside a network, and windows cut into segments."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from mgc.models.layers import in_segments, mean_over_segments
from mgc.models.literature import Mfcc


def test_mfcc_of_a_log_mel_are_librosas() -> None:
    log_mel = np.random.default_rng(0).uniform(-80, 0, (20, 128)).astype(np.float32)
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=13).T
    np.testing.assert_allclose(Mfcc(128, 13)(torch.from_numpy(log_mel)).numpy(), expected, atol=1e-3)


def test_more_coefficients_than_bands_are_as_many_as_bands() -> None:
    layer = Mfcc(8, 13)
    assert layer.n_mfcc == 8
    # Orthonormal: nothing is lost.
    log_mel = torch.rand(5, 8)
    torch.testing.assert_close(layer(log_mel) @ layer.basis, log_mel)


def test_whole_segments_in_order() -> None:
    frames = torch.arange(2 * 10 * 3, dtype=torch.float32).reshape(2, 10, 3)
    segments = in_segments(frames, 4)
    assert segments.shape == (2, 2, 4, 3)
    assert torch.equal(segments[1, 1], frames[1, 4:8])


def test_a_short_window_is_one_segment_with_its_last_frame_repeated() -> None:
    frames = torch.rand(2, 3, 5)
    segments = in_segments(frames, 6)
    assert segments.shape == (2, 1, 6, 5)
    assert torch.equal(segments[:, 0, :3], frames)
    assert all(torch.equal(segments[:, 0, place], frames[:, 2]) for place in (3, 4, 5))


def test_segments_are_averaged_by_window() -> None:
    embeddings = torch.tensor([[1.0], [3.0], [10.0], [30.0]])
    assert mean_over_segments(embeddings, 2).flatten().tolist() == [2.0, 20.0]
