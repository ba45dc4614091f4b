"""The further statistics of the block-level network, beside numpy and beside sounds that differ in one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgc.config.network_settings import BlockLevelConfig
from mgc.models.block_level import ENVELOPE_LAGS, BlockLevel, TimbreStatistics, quantiles

N_MELS, FRAMES = 128, 90
GROUPS = ("onsets", "prominence", "cepstrum", "envelope", "recurrence", "together")


def statistics(frames: torch.Tensor) -> dict[str, torch.Tensor]:
    module = TimbreStatistics(N_MELS)
    return dict(zip(GROUPS, module(frames), strict=True))


def noise(seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, FRAMES, N_MELS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n_frames", [1, 2, 5, FRAMES])
@pytest.mark.parametrize("n_mels", [8, 80, 128])
def test_windows_of_any_length_and_any_number_of_bins(n_frames: int, n_mels: int) -> None:
    module = TimbreStatistics(n_mels)
    found = module(torch.randn(2, n_frames, n_mels))
    assert [tuple(group.shape) for group in found] == [(2, size) for size in module.sizes]
    assert all(bool(torch.isfinite(group).all()) for group in found)


def test_quantiles_are_those_of_a_sort() -> None:
    frames = noise(batch=3)
    places = [round(share * (FRAMES - 1)) for share in (0.1, 0.5, 1.0)]
    assert torch.equal(quantiles(frames, (0.1, 0.5, 1.0)), frames.sort(dim=1).values[:, places])


def test_windows_do_not_affect_each_other() -> None:
    frames = noise(batch=3)
    for together, alone in zip(TimbreStatistics(N_MELS)(frames), TimbreStatistics(N_MELS)(frames[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


def test_onsets_are_where_most_comes_anew() -> None:
    frames = torch.full((1, FRAMES, N_MELS), -1.0)
    frames[0, 40:44, 20] = 2.0
    anew, sounding = statistics(frames)["onsets"][0].split(64)
    # Band 10 is bins 20 and 21; 8 frames are taken for onsets, of which 2 are.
    assert int(anew.argmax()) == int(sounding.argmax()) == 10
    assert float(anew[10]) == pytest.approx(1.5 * 2 / 8)
    assert float(anew.sum()) == pytest.approx(float(anew[10]))


def test_prominence_knows_a_partial_that_sounds_now_and_then() -> None:
    frames = torch.zeros(1, FRAMES, N_MELS)
    frames[0, ::10, 50] = 1.0
    median, often, seldom, deviation = statistics(frames)["prominence"][0].split(N_MELS)
    assert (float(median[50]), float(often[50]), float(seldom[50])) == pytest.approx((0.0, 0.0, 1.0))
    assert int(deviation.argmax()) == 50


def test_the_cepstrum_is_the_cosine_transform() -> None:
    frames = noise()
    mean = statistics(frames)["cepstrum"][0, :40].numpy()
    bins = np.arange(N_MELS) + 0.5
    for order in (1, 2, 40):
        wave = np.sqrt(2 / N_MELS) * np.cos(np.pi * order * bins / N_MELS)
        assert mean[order - 1] == pytest.approx(float((frames[0].mean(dim=0).numpy() * wave).sum()), abs=1e-5)


def test_the_envelope_tells_decay_from_rise() -> None:
    falling = -torch.arange(FRAMES, dtype=torch.float32)[None, :, None].expand(1, FRAMES, N_MELS) / 20
    down = statistics(falling)["envelope"].reshape(len(ENVELOPE_LAGS), 4, 64)
    up = statistics(-falling)["envelope"].reshape(len(ENVELOPE_LAGS), 4, 64)
    for place, lag in enumerate(ENVELOPE_LAGS):
        np.testing.assert_allclose(down[place], -lag / 20, atol=1e-5)
        np.testing.assert_allclose(up[place], lag / 20, atol=1e-5)


def test_partials_that_recur_at_a_distance_are_found_at_it() -> None:
    frames = torch.zeros(1, FRAMES, N_MELS)
    frames[:, :, 40::12] = 1.0
    recurrence = statistics(frames)["recurrence"][0]
    assert int(recurrence[:20].argmax()) == 12 - 1


def test_bands_that_change_together_are_correlated() -> None:
    frames = noise()
    frames[:, :, 8:12] = frames[:, :, 4:8]
    rows, columns = np.triu_indices(32, 1)
    pair = int(np.flatnonzero((rows == 1) & (columns == 2))[0])
    together = statistics(frames)["together"][0]
    assert float(together[pair]) > 0.9
    assert float(together.abs().median()) < 0.3


def test_a_level_change_moves_only_what_sounds_at_onsets() -> None:
    quiet, loud = (statistics(noise() + gain) for gain in (0.0, 1.5))
    torch.testing.assert_close(loud["onsets"][:, 64:] - quiet["onsets"][:, 64:], torch.full((1, 64), 1.5))
    torch.testing.assert_close(loud["onsets"][:, :64], quiet["onsets"][:, :64], atol=1e-4, rtol=1e-4)
    for group in GROUPS[1:]:
        torch.testing.assert_close(loud[group], quiet[group], atol=2e-3, rtol=1e-3)


def test_the_network_takes_them_where_set() -> None:
    plain, further = (BlockLevel(BlockLevelConfig(timbre=timbre), N_MELS, 4, 18) for timbre in (False, True))
    more = further.statistics.sizes[len(plain.statistics.sizes) :]
    assert more == TimbreStatistics(N_MELS).sizes
    output = further.eval()(torch.rand(2, 50, N_MELS) * -80)
    assert output.tag_logits.shape == (2, 18)
    assert sum(parameter.numel() for parameter in further.parameters()) == pytest.approx(1.0e6, rel=0.1)
