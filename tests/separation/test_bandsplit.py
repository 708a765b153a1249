"""The band-split separator: its bands, its start, and what its parts see."""

from __future__ import annotations

import pytest
import torch

from auriscope.metrics import si_snr
from auriscope.pretrained.model import Model
from auriscope.separation.bandsplit import BandSplitConfig, BandSplitRNN, MixingPath

TINY = BandSplitRNN.Tiny


def test_the_bands_are_the_whole_spectrum_in_order() -> None:
    config = BandSplitConfig()
    assert sum(config.band_widths) == config.window_length // 2 + 1
    assert config.band_widths[-1] == 33  # 32 and the bin that is left
    model = BandSplitRNN(config)
    bins = model.band_bins[model.band_mask.bool()]
    assert bins.tolist() == list(range(257))
    with pytest.raises(ValueError, match="bins more than the spectrum"):
        BandSplitConfig(window_length=64)


@pytest.mark.parametrize("band_path", ["recurrent", "mixing"])
def test_before_training_the_tracks_are_about_the_mixture(band_path: str) -> None:
    torch.manual_seed(0)
    model: Model = BandSplitRNN(BandSplitConfig(**{**TINY, "band_path": band_path})).eval()
    mixture = 0.1 * torch.randn(2, 4000)
    with torch.no_grad():
        estimates = model(mixture)
    assert (si_snr(estimates, mixture[:, None].expand_as(estimates)) > 0).all()
    assert estimates.sum(1).std() == pytest.approx(float(mixture.std()), rel=0.5)


def test_the_gain_of_the_recording_is_the_gain_of_the_tracks() -> None:
    model = BandSplitRNN(BandSplitConfig(**TINY)).eval()
    mixture = 0.1 * torch.randn(1, 3000)
    with torch.no_grad():
        loud, quiet = model(mixture), model(0.01 * mixture)
    assert torch.allclose(0.01 * loud, quiet, atol=1e-5)


def test_silence_gives_silence() -> None:
    model = BandSplitRNN(BandSplitConfig(**TINY)).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1000)).abs().max() < 1e-6


def test_the_mixing_path_mixes_bands_and_nothing_else() -> None:
    path = MixingPath(num_bands=5, num_channels=8, dropout=0.0).eval()
    hidden = torch.randn(5, 3, 8, requires_grad=True)
    path(hidden)[0, 1].sum().backward()
    assert hidden.grad is not None
    seen = hidden.grad.abs().sum(-1) > 0
    assert seen[:, 1].all()
    assert not seen[:, [0, 2]].any()
