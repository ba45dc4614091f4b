"""MFCC inside a network, windows cut into segments, recurrent cells, positions."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from mgc.config.network_settings import GuoCnnConfig, GuoRnnConfig
from mgc.models.layers import in_segments, mean_over_segments
from mgc.models.literature import GuoCnn, GuoRnn, Mfcc, positions


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


def test_an_elman_cell_is_tanh_of_input_and_state() -> None:
    torch.manual_seed(0)
    rnn = GuoRnn(GuoRnnConfig(rnn="elman", units=8, hidden_layers=1), 4, 2, 0).eval().rnn
    frames = torch.rand(1, 5, 4)
    state = torch.zeros(8)
    for frame in frames[0]:
        state = torch.tanh(rnn.weight_ih_l0 @ frame + rnn.bias_ih_l0 + rnn.weight_hh_l0 @ state + rnn.bias_hh_l0)
    torch.testing.assert_close(rnn(frames)[0][0, -1], state)


def test_mfcc_statistics_join_the_convolutions() -> None:
    torch.manual_seed(0)
    network = GuoCnn(GuoCnnConfig(n_mfcc=3, channels=8, embedding_size=8), 16, 2, 0).train()
    assert network.mfcc is not None
    log_mel = torch.rand(4, 20, 16) * -80
    coefficients = Mfcc(16, 3)(log_mel)
    raw = torch.cat([coefficients.mean(dim=1), coefficients.std(dim=1, correction=0)], dim=1)
    scaled = network.mfcc(log_mel)  # the first batch: its own mean and deviation
    torch.testing.assert_close(scaled, (raw - raw.mean(dim=0)) / (raw.var(dim=0, correction=0) + 1e-5).sqrt())
    assert network.dense[0].in_features == 8 + 6


def test_positions_are_those_of_the_paper() -> None:
    table = positions(50, 8).numpy()
    for place, index in ((0, 0), (7, 2), (49, 6)):
        angle = place / 10_000 ** (index / 8)
        np.testing.assert_allclose(table[place, index : index + 2], [np.sin(angle), np.cos(angle)], atol=1e-5)
