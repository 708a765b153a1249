from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import RecipeError
from auriscope.metrics import snr
from auriscope.separation.wavesplit import Layer, Wavesplit, WavesplitConfig, spread_loss


def tiny(**values: Any) -> Wavesplit:
    torch.manual_seed(0)
    return Wavesplit(WavesplitConfig(**{**Wavesplit.Tiny, **values}))


def batch_of(num_sources: int = 2, batch: int = 2, time: int = 400) -> dict[str, Tensor]:
    sources = 0.1 * torch.randn(batch, num_sources, time, generator=torch.Generator().manual_seed(3))
    speakers = torch.arange(batch * num_sources).reshape(batch, num_sources)
    return {"mixture": sources.sum(1), "sources": sources, "speakers": speakers}


def test_the_papers_size() -> None:
    """29 million; ours has 30.0, see the class."""
    assert Wavesplit(WavesplitConfig()).num_parameters == pytest.approx(29e6, rel=0.05)


def plain_assignment(model: Wavesplit, vectors: Tensor, speakers: Tensor) -> tuple[Tensor, float]:
    """Equation 2, frame by frame and permutation by permutation."""
    table = F.normalize(model.table, dim=-1)
    batch, num_frames, num_sources, size = vectors.shape
    centres, total = torch.zeros(batch, num_sources, size), 0.0
    for row in range(batch):
        for frame in range(num_frames):
            best, chosen = float("inf"), None
            for order in itertools.permutations(range(num_sources)):
                loss = 0.0
                for talker, number in enumerate(order):
                    vector = vectors[row, frame, number]
                    distances = (vector - table).square().sum(-1)
                    if model.sharpness is not None:
                        scores = -F.softplus(model.sharpness) * distances
                        loss += F.cross_entropy(scores[None], speakers[row, talker][None]).item()
                    else:
                        loss += distances[speakers[row, talker]].item()
                        for other in range(num_sources):
                            if other != number:
                                apart = (vector - vectors[row, frame, other]).square().sum().item()
                                loss += max(0.0, 1 - apart)
                if loss < best:
                    best, chosen = loss, order
            total += best / num_sources
            assert chosen is not None
            centres[row] += vectors[row, frame, list(chosen)] / num_frames
    return centres, total / (batch * num_frames)


@pytest.mark.parametrize("speaker_loss", ["classification", "distance"])
@pytest.mark.parametrize("num_sources", [2, 3])
def test_vectors_go_to_the_talkers_frame_by_frame(speaker_loss: str, num_sources: int) -> None:
    model = tiny(speaker_loss=speaker_loss, num_sources=num_sources)
    vectors = F.normalize(torch.randn(2, 5, num_sources, 6), dim=-1)
    speakers = torch.tensor([[4, 1, 7], [0, 3, 2]])[:, :num_sources]
    centres, loss = model._assigned(vectors, speakers)
    expected_centres, expected_loss = plain_assignment(model, vectors, speakers)
    torch.testing.assert_close(centres, expected_centres)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-5)


def test_the_loss_is_the_clipped_sdr_of_all_blocks_and_what_the_speakers_add() -> None:
    model, batch = tiny(entropy_weight=0.5, speaker_weight=2.0, max_sdr_db=-1.0), batch_of()
    level = batch["mixture"].square().mean(-1, keepdim=True).sqrt() + 1e-6
    with torch.no_grad():
        vectors = model.speaker_vectors(batch["mixture"] / level)
        centres, speaker_loss = plain_assignment(model, vectors, batch["speakers"])
        estimates = model.separate(batch["mixture"] / level, centres, every_head=True)
        assert len(estimates) == 2
        sdr = [snr(estimate, batch["sources"] / level[:, None]) for estimate in estimates]
        clipped = sum(torch.where(value > -1, -1 + 1e-3 * (value + 1), value).mean() for value in sdr) / 2
        losses = model.losses(batch, 0)
        expected = -clipped + 2 * speaker_loss + 0.5 * spread_loss(F.normalize(model.table, dim=-1))
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses["sdr_loss"], -clipped, rtol=1e-4, atol=1e-4)


def test_with_a_head_for_each_layer_all_layers_count_and_the_last_one_is_heard() -> None:
    model, batch = tiny(heads="layer", output="waveform", kernel_size=4, stride=1), batch_of()
    level = batch["mixture"].square().mean(-1, keepdim=True).sqrt() + 1e-6
    mixture, sources = batch["mixture"] / level, batch["sources"] / level[:, None]
    with torch.no_grad():
        centres, _ = model._assigned(model.speaker_vectors(mixture), batch["speakers"])
        x = model.encoder(mixture)
        values = []
        for layer, head in zip([layer for block in model.blocks for layer in block], model.heads, strict=True):
            x = layer(x, None, centres.flatten(1))
            # Frames of four samples: the last three samples have none of their own.
            estimate = F.pad(torch.einsum("sc,bcf->bsf", head.weight, x) + head.bias[:, None], (0, 3))
            values.append(snr(estimate, sources).mean())
        torch.testing.assert_close(model.separate(mixture, centres, every_head=False)[0], estimate)
        loss = model.losses(batch, 0)["sdr_loss"]
    assert len(values) == 4
    torch.testing.assert_close(loss, -torch.stack(values).mean(), rtol=1e-4, atol=1e-4)


def test_the_papers_recipe_has_a_head_for_each_layer_and_a_one_hot_table() -> None:
    recipe = Path(__file__).parents[2] / "recipes/separation/wavesplit-wsj0-2mix.yaml"
    model = Wavesplit(WavesplitConfig(**yaml.safe_load(recipe.read_text())["model"]["config"]))
    assert len(model.heads) == 40
    assert torch.equal(model.table, torch.eye(101, 256))
    assert model.num_parameters == pytest.approx(29e6, rel=0.05)


def test_clear_voices_are_given_to_the_separation_stack_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every frame's vectors lie near two centres, in whatever order, k-means finds what training averages."""
    model, batch = tiny().eval(), batch_of(batch=1)
    table = F.normalize(model.table.detach(), dim=-1)
    frames = 49
    swapped = torch.rand(frames) < 0.5
    pair = table[[0, 1]] + 0.02 * torch.randn(frames, 2, 6)
    vectors = torch.where(swapped[:, None, None], pair.flip(1), pair)[None]
    monkeypatch.setattr(model, "speaker_vectors", lambda mixture, mask=None: vectors)
    with torch.no_grad():
        found = model(batch["mixture"])
        centres, _ = model._assigned(vectors, batch["speakers"])
        level = batch["mixture"].square().mean(-1, keepdim=True).sqrt() + 1e-6
        expected = model.separate(batch["mixture"] / level, centres, every_head=False)[0] * level[:, None]
        exchanged = model.separate(batch["mixture"] / level, centres.flip(1), every_head=False)[0] * level[:, None]
    error = min((found - expected).norm(), (found - exchanged).norm())
    assert error < 1e-3 * expected.norm()


def test_a_layer_is_scaled_and_shifted_by_the_talkers() -> None:
    torch.manual_seed(0)
    layer = Layer(4, 3, 2, condition_size=6)
    x, condition = torch.randn(2, 4, 9), torch.randn(2, 6)
    y = F.conv1d(x, layer.convolution.weight, layer.convolution.bias, padding=2, dilation=2)
    y = F.prelu(y, layer.prelu.weight)
    y = F.layer_norm(y.transpose(1, 2), (4,), layer.norm.weight, layer.norm.bias, 1e-8).transpose(1, 2)
    assert layer.film is not None
    film = layer.film(condition)
    expected = x + y * (1 + film[:, :4, None]) + film[:, 4:, None]
    torch.testing.assert_close(layer(x, None, condition), expected)


def test_speaker_vectors_are_disturbed_in_training_only() -> None:
    model = tiny(speaker_dropout=0.5, speaker_mixup=0.5, speaker_noise=0.1)
    centres = F.normalize(torch.randn(400, 2, 6), dim=-1)
    assert torch.equal(model.eval()._disturbed(centres), centres)
    disturbed = model.train()._disturbed(centres)
    dropped = disturbed.norm(dim=-1) < 0.5
    assert 0.4 < dropped.float().mean() < 0.65
    # What is kept is still nearer to its own speaker than half way to another.
    assert ((disturbed - centres).norm(dim=-1)[~dropped] < 1.5).all()


def test_equal_rows_of_a_table_cost_most() -> None:
    apart, near = torch.eye(3), torch.eye(3) * torch.tensor([[1.0], [1.0], [0.01]])
    assert spread_loss(apart).item() == pytest.approx(-0.5 * torch.tensor(2.0).log().item(), abs=1e-5)
    near[2, 1] = 1.0
    assert spread_loss(near) > 1.0


@pytest.mark.parametrize("values", [{}, {"output": "waveform", "kernel_size": 4, "stride": 1, "num_sources": 3}])
def test_padding_changes_nothing(values: dict[str, Any]) -> None:
    model = tiny(**values).eval()
    lengths = torch.tensor([400, 333, 64])
    mixture = torch.randn(3, 400)
    with torch.no_grad():
        together = model(mixture, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(mixture[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, :, :length], alone, rtol=1e-4, atol=1e-5)
            assert not together[row, :, length:].any()


def test_speakers_that_the_table_does_not_hold_are_refused() -> None:
    model, batch = tiny(), batch_of()
    with pytest.raises(RecipeError, match=r"speaker of number 9.*ends at 7.*num_speakers"):
        model.losses({**batch, "speakers": torch.tensor([[0, 9], [1, 2]])}, 0)
    with pytest.raises(RecipeError, match="all known"):
        model.losses({**batch, "speakers": torch.tensor([[0, -1], [1, 2]])}, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output": "spectrum"}, "output is"),
        ({"heads": "stack"}, "heads is"),
        ({"initial_table": "zeros"}, "initial_table is"),
        ({"initial_table": "one-hot"}, "one-hot"),
        ({"speaker_loss": "local"}, "speaker_loss is"),
        ({"layer_kernel_size": 2}, "layer_kernel_size"),
        ({"num_speakers": 1}, "num_speakers"),
        ({"speaker_mixup": 1.0}, "speaker_mixup"),
        ({"output": "waveform"}, "stride of 1"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**values)


def test_the_best_order_costs_no_more_than_the_speakers() -> None:
    torch.manual_seed(0)
    ordered = Wavesplit.from_config(Wavesplit.Tiny)
    free = Wavesplit.from_config({**Wavesplit.Tiny, "order": "best"})
    free.load_state_dict(ordered.state_dict())
    sources = torch.randn(3, 2, 800)
    batch = {"mixture": sources.sum(1), "sources": sources, "speakers": torch.arange(6).reshape(3, 2)}
    losses = [float(model.eval().losses(batch, 0)["sdr_loss"]) for model in (free, ordered)]
    assert losses[0] < losses[1]
    # Turning the talkers around turns the order they must come in around, and leaves the best one where it was.
    turned = {**batch, "sources": sources.flip(1)}
    assert float(free.losses(turned, 0)["sdr_loss"]) == pytest.approx(losses[0], abs=1e-4)
    assert float(ordered.losses(turned, 0)["sdr_loss"]) != pytest.approx(losses[1], abs=1e-4)
