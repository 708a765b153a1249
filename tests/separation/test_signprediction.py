from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.metrics import si_snr
from auriscope.separation.signprediction import (
    SignPredictionConfig,
    SignPredictionNet,
    phase_differences,
    triangle_masks,
)

VARIANTS: list[dict[str, Any]] = [{}, {"hop_length": 16, "num_sources": 3}]


def tiny(**values: Any) -> SignPredictionNet:
    torch.manual_seed(0)
    return SignPredictionNet(SignPredictionConfig(**{**SignPredictionNet.Tiny, **values})).eval()


def spectra(num_sources: int, seed: int = 0) -> Tensor:
    """Spectra (2, S, 5, 4) of sources."""
    generator = torch.Generator().manual_seed(seed)
    return torch.complex(*torch.randn(2, 2, num_sources, 5, 4, generator=generator))


def test_the_papers_size() -> None:
    model = SignPredictionNet(SignPredictionConfig())
    chimera = sum(
        parameter.numel()
        for part in (model.magnitude_recurrence, model.to_embeddings, model.to_magnitudes)
        for parameter in part.parameters()
    )
    assert round(chimera / 1e6, 1) == 32.9  # as published for chimera++
    assert model.num_parameters == 56_924_967
    assert abs(model.num_parameters / 55.2e6 - 1) < 0.05


@pytest.mark.parametrize("num_sources", [2, 3, 5])
def test_true_magnitudes_and_signs_give_the_talkers_back(num_sources: int) -> None:
    sources = spectra(num_sources)
    mixture = sources.sum(1, keepdim=True)
    loudness = mixture.abs()
    signs = (sources * mixture.conj()).imag.sign()
    masks = triangle_masks(sources.abs() / loudness, (mixture - sources).abs() / loudness, signs)
    torch.testing.assert_close(masks * mixture, sources, atol=2e-3, rtol=1e-3)


def test_angles_are_those_of_the_law_of_cosines() -> None:
    sources = spectra(2).to(torch.complex128).numpy()
    mixture = sources.sum(1)
    loud, one, other = np.abs(mixture), np.abs(sources[:, 0]), np.abs(sources[:, 1])
    angle = np.arccos((loud**2 + one**2 - other**2) / (2 * loud * one))
    np.testing.assert_allclose(angle, np.abs(np.angle(sources[:, 0] / mixture)), atol=1e-6)
    sides = [torch.from_numpy(side / loud)[:, None] for side in (one, other)]
    masks = triangle_masks(sides[0], sides[1], torch.ones_like(sides[0]))
    np.testing.assert_allclose(np.angle(masks[:, 0].numpy()), angle, atol=1e-3)


def test_two_talkers_of_any_triangle_add_up_to_the_mixture() -> None:
    one, sign = 0.6 + 0.3 * torch.rand(2, 1, 5, 4), 2 * torch.rand(2, 1, 5, 4) - 1
    both = torch.cat([one, 1.4 - one], 1)
    masks = triangle_masks(both, both.flip(1), torch.cat([sign, -sign], 1))
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 5, 4, dtype=torch.complex64), atol=1e-3, rtol=0)


def test_sides_that_make_no_triangle_lie_on_a_line() -> None:
    sides = (
        torch.tensor([0.2, 0.2, 1.5, 2.0]).reshape(1, 1, 4, 1),
        torch.tensor([0.3, 1.9, 0.1, 3.5]).reshape(1, 1, 4, 1),
    )
    masks = triangle_masks(*sides, torch.ones(1, 1, 4, 1)).flatten()
    assert masks.real.tolist() == pytest.approx([0.2, -0.2, 1.5, -2.0])
    assert masks.imag.abs().max() < 1e-3


@pytest.mark.parametrize("num_sources", [2, 3])
def test_before_training_the_tracks_are_about_the_mixture(num_sources: int) -> None:
    mixture = 0.1 * torch.randn(2, 1000)
    with torch.no_grad():
        estimates = tiny(num_sources=num_sources)(mixture)
    assert (si_snr(estimates, mixture[:, None].expand_as(estimates)) > 5).all()


def test_a_steady_tone_and_a_click_have_no_phase_differences_of_their_own() -> None:
    model = tiny(window_length=64, hop_length=16)
    moment = torch.arange(1600)
    # Middle of bin 8: its phase goes on as that of the bin does.
    tone = model.transform(torch.cos(2 * torch.pi * 8 / 64 * moment)[None])
    features = phase_differences(tone, 64, 16).unflatten(2, (33, 2, 2))
    inner = features[0, 5:-8]
    torch.testing.assert_close(inner[:, 8, 0, 0], torch.ones(len(inner)), atol=0.02, rtol=0)
    assert inner[:, 8, 0, 1].abs().max() < 0.02
    # A click in the middle of frame 50: no group delay.
    click = torch.zeros(1, 1600)
    click[0, 800] = 20
    features = phase_differences(model.transform(click), 64, 16).unflatten(2, (33, 2, 2))
    torch.testing.assert_close(features[0, 50, 1:, 1, 0], torch.ones(32), atol=0.02, rtol=0)
    assert features[0, 50, 1:, 1, 1].abs().max() < 1e-3


def test_magnitudes_are_trained_towards_those_of_the_best_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(num_sources=3, clustering_weight=0.0, max_mask=100.0)
    sources = spectra(3)
    mixture = sources.sum(1)
    others = mixture[:, None] - sources
    order = [2, 0, 1]
    truth = torch.cat([sources[:, order].abs(), others[:, order].abs()], 1) / mixture.abs()[:, None]
    monkeypatch.setattr(model, "magnitude_masks", lambda hidden: truth)
    hidden = torch.zeros(2, 4, model.magnitude_recurrence.num_out)
    monkeypatch.setattr(model.magnitude_recurrence, "forward", lambda features: hidden)
    monkeypatch.setattr(model.to_embeddings, "forward", lambda hidden: torch.randn(2, 4, 5 * 4))
    assert float(model._magnitude_losses(mixture, sources)["loss"]) == pytest.approx(0, abs=1e-5)


def test_the_waveform_losses_by_hand() -> None:
    sources = 0.1 * torch.randn(2, 2, 1000)
    batch = {"mixture": sources.sum(1), "sources": sources}
    for name in ("l1", "si_snr"):
        model = tiny(waveform_loss=name)
        with torch.no_grad():
            estimates = model(batch["mixture"])
            loss = float(model.losses(batch, 1)["loss"])
        level = batch["mixture"].square().mean(-1).sqrt()
        expected = 0.0
        for item in range(2):
            pairs = []
            for order in ([0, 1], [1, 0]):
                if name == "l1":
                    pairs.append(float((estimates[item, order] - sources[item]).abs().mean() / level[item]))
                else:
                    pairs.append(-float(si_snr(estimates[item, order], sources[item]).mean()))
            expected += min(pairs) / 2
        assert loss == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(tiny(**variant))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"waveform_loss": "mse"}, "waveform_loss is 'mse'"),
        ({"num_sources": 1}, "num_sources"),
        ({"clustering_weight": 1.5}, "clustering_weight"),
        ({"max_mask": 1.0}, "max_mask"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignPredictionConfig(**values)
