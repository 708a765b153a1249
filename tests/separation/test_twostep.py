"""Two-Step: its ideal masks, its two losses against plain ones, and what each stage leaves alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from auriscope.errors import RecipeError
from auriscope.metrics import pit_si_snr, si_snr
from auriscope.separation.task import SeparationOptions, SeparationTask
from auriscope.separation.twostep import TwoStep, TwoStepConfig
from auriscope.training.config import TrainingConfig
from auriscope.training.optimization import build_optimizer

TINY = TwoStep.Tiny


def make_batch(num_sources: int = 2, time: int = 800) -> dict[str, torch.Tensor]:
    sources = 0.1 * torch.randn(2, num_sources, time, generator=torch.Generator().manual_seed(1))
    return {"mixture": sources.sum(1), "sources": sources, "lengths": torch.tensor([time, time])}


def test_the_papers_size() -> None:
    model = TwoStep(TwoStepConfig())
    # 32 blocks: 1x1 to 512, depthwise, 1x1 to 256, two PReLUs, two norms. Around: filters, the masker's in and out.
    blocks = 32 * (256 * 512 + 512 + 512 * 3 + 512 + 512 * 256 + 256 + 2 + 2 * 2 * 512)
    around = 2 * 256 * 21 + 2 * 256 + 256 * 256 + 256 + 1 + 256 * 512 + 512
    assert model.num_parameters == blocks + around
    assert blocks == pytest.approx(8.6e6, rel=0.01)
    assert model.num_parameters == pytest.approx(8.6e6, rel=0.05)


def test_the_size_of_the_authors_network() -> None:
    recipe = Path(__file__).parents[2] / "recipes/separation/twostep-wsj0-2mix.yaml"
    model = TwoStep(TwoStepConfig(**yaml.safe_load(recipe.read_text())["model"]["config"]))
    # What the authors' separator has to train, and our filterbank, which has one decoder and no bias.
    assert model.num_parameters == 8_611_652 + 2 * 256 * 21


@pytest.mark.parametrize("bottleneck_channels", [12, 32])
@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_original_masks_are_a_convolution_along_the_filters(bottleneck_channels: int, num_sources: int) -> None:
    torch.manual_seed(0)
    values = {**TINY, "variant": "original", "bottleneck_channels": bottleneck_channels, "num_sources": num_sources}
    masker = TwoStep(TwoStepConfig(**values)).masker
    features, conv, norm = torch.rand(2, 9, 32), masker.along_filters, nn.BatchNorm1d(32)
    # In training both norms take the statistics of the batch.
    x = masker.bottleneck(norm(features.transpose(1, 2)))
    for block in masker.blocks:
        x = x + block(x, None)[0]
    x = norm(x if masker.to_filters is None else masker.to_filters(x)).relu()
    maps = F.conv2d(x[:, None], conv.weight[..., None], conv.bias, padding=(16, 0))
    torch.testing.assert_close(masker(features), maps.softmax(1).transpose(2, 3), atol=1e-5, rtol=1e-4)


def test_the_original_trains_its_norms_and_separates_a_padded_batch_as_it_does_singles(check_padding: Any) -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY, variant="original"))
    for stage in range(2):
        model.losses(make_batch(), stage)["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.masker.norm.running_mean.abs().max() > 0
    check_padding(model)


def test_ideal_masks_are_softmaxes_of_the_sources_features() -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY))
    batch = make_batch()
    masked = model.ideal(model.encoder(batch["mixture"]), batch["mixture"], batch["sources"])
    weight = model.encoder.weight
    for item, source in itertools.product(range(2), range(2)):
        latents = [F.relu(F.conv1d(s[None, None], weight, stride=8))[0] for s in batch["sources"][item]]
        mask = latents[source].exp() / (latents[0].exp() + latents[1].exp())
        mixture = F.relu(F.conv1d(batch["mixture"][item, None, None], weight, stride=8))[0]
        torch.testing.assert_close(masked[item, source], (mask * mixture).T)


def test_noise_has_a_share_of_its_own_and_does_not_come_out(check_padding: Any) -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY, separate_noise=True))
    batch = make_batch()
    noise = torch.randn_like(batch["mixture"]) * batch["mixture"].std()
    mixture = batch["mixture"] + noise
    features = model.encoder(mixture)
    masked = model.ideal(features, mixture, batch["sources"])
    latents = [model.encoder(each) for each in (*batch["sources"].unbind(1), noise)]
    shares = torch.stack(latents, dim=1).softmax(1)
    torch.testing.assert_close(masked, (shares[:, :2] * features[:, None]).transpose(2, 3), atol=1e-4, rtol=1e-4)
    # The talkers' masks leave something over, and a network trained so takes the noise off.
    masks = model.masker(features.transpose(1, 2))
    assert masks.shape[1] == 2
    assert bool((masks.sum(1) < 1).all())
    assert model(mixture).shape == (2, 2, 800)
    for stage in range(2):
        model.losses({**batch, "mixture": mixture}, stage)["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    check_padding(model)


def test_noise_has_a_mask_of_a_softmax_only() -> None:
    with pytest.raises(ValueError, match="separate_noise needs"):
        TwoStepConfig(**TINY, separate_noise=True, mask_activation="sigmoid")
    with pytest.raises(ValueError, match="separate_noise needs"):
        TwoStepConfig(**TINY, separate_noise=True, variant="original")


def plain_si_snr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    scaled = (estimate @ target) / (target @ target) * target
    return 10 * torch.log10((scaled @ scaled) / ((estimate - scaled) @ (estimate - scaled)))


@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_losses_are_those_of_the_paper(num_sources: int) -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY, num_sources=num_sources))
    batch = make_batch(num_sources)
    level = batch["mixture"].square().mean(-1).sqrt()
    mixture, sources = batch["mixture"] / level[:, None], batch["sources"] / level[:, None, None]
    targets = model.ideal(model.encoder(mixture), mixture, sources)

    tracks = model.decoder(targets, 800)
    expected = -torch.stack([si_snr(tracks[i, s], sources[i, s]) for i in range(2) for s in range(num_sources)]).mean()
    torch.testing.assert_close(model.losses(batch, 0)["loss"], expected, atol=1e-3, rtol=1e-4)

    features = model.encoder(mixture).transpose(1, 2)
    masked = model.masker(features) * features[:, None]
    best = [
        max(
            sum(plain_si_snr(masked[i, e].flatten(), targets[i, s].flatten()) for s, e in enumerate(order))
            for order in itertools.permutations(range(num_sources))
        )
        / num_sources
        for i in range(2)
    ]
    torch.testing.assert_close(model.losses(batch, 1)["loss"], -sum(best) / 2, atol=1e-3, rtol=1e-4)


def test_each_stage_trains_its_part_and_leaves_the_other_bitwise_alone() -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY))
    task = SeparationTask(model, SeparationOptions(stage_batches=(2,)))
    # Weight decay and momentum must not move what a stage does not train.
    optimizer = build_optimizer(task.parameters(), TrainingConfig(optimizer="adamw", weight_decay=0.1))
    filterbank = {"encoder.weight", "decoder.weight"}
    for number in range(4):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer.zero_grad(set_to_none=True)
        losses = task(make_batch(), "main")
        losses["loss"].backward()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == (filterbank if number < 2 else set(before) - filterbank)


def test_a_stage_more_trains_everything_on_the_tracks() -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY))
    task = SeparationTask(model, SeparationOptions(stage_batches=(0, 1)))
    batch = make_batch()
    assert task(batch, "main")["loss"].item() == pytest.approx(model.losses(batch, 1)["loss"].item())
    losses = task(batch, "main")
    expected = -pit_si_snr(model(batch["mixture"]), batch["sources"]).values.mean()
    torch.testing.assert_close(losses["loss"], expected, atol=1e-3, rtol=1e-4)
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(RecipeError, match="must hold 1 numbers"):
        SeparationTask(model, SeparationOptions(stage_batches=(0, 1, 2)))


def test_a_silent_source_does_not_count() -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY))
    batch = make_batch()
    batch["sources"][0, 1] = 0
    for stage in range(2):
        loss = model.losses(batch, stage)["loss"]
        loss.backward()
        assert loss.isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_gain_of_the_recording_is_the_gain_of_the_tracks() -> None:
    torch.manual_seed(0)
    model = TwoStep(TwoStepConfig(**TINY)).eval()
    mixture = make_batch()["mixture"]
    torch.testing.assert_close(0.01 * model(mixture), model(0.01 * mixture), rtol=1e-3, atol=1e-6)


def test_harmonic_filters_reconstruct_and_mask_well_before_any_training() -> None:
    config = TwoStepConfig(
        **{**TINY, "num_filters": 128, "kernel_size": 64, "stride": 32, "initial_filters": "harmonic"}
    )
    model = TwoStep(config)
    moment = torch.arange(4000) / 8000
    sources = 0.1 * torch.stack([torch.sin(2 * torch.pi * 300 * moment), torch.sin(2 * torch.pi * 1500 * moment)])[None]
    mixture = sources.sum(1)
    whole = model.decoder(model.encoder(mixture).transpose(1, 2)[:, None], 4000)[0]
    assert (si_snr(whole[:, 64:-64], mixture[:, 64:-64]) > 40).all()
    assert model.losses({"mixture": mixture, "sources": sources}, 0)["ideal_si_snr_db"] > 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "new"}, "variant is 'new'"),
        ({"variant": "original", "num_filters": 255}, "even num_filters"),
        ({"variant": "original", "skip_channels": 8}, "skip_channels=0"),
        ({"initial_filters": "fourier"}, "initial_filters is 'fourier'"),
        ({"initial_filters": "harmonic"}, "2 \\* kernel"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoStepConfig(**values)
