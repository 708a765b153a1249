"""DeepCASA: orders of frames against brute force, its two losses, grouping by clusters, and the Dense-UNet."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from auriscope.metrics import si_snr, snr
from auriscope.separation.deepcasa import DeepCASA, DeepCASAConfig, TapDropout, best_order
from auriscope.separation.denseunet import DenseBlock, DenseUNet
from auriscope.separation.task import SeparationOptions, SeparationTask
from auriscope.training.config import TrainingConfig
from auriscope.training.optimization import build_optimizer

TINY = DeepCASA.Tiny


def make_batch(num_sources: int = 2, time: int = 640) -> dict[str, torch.Tensor]:
    sources = 0.1 * torch.randn(2, num_sources, time, generator=torch.Generator().manual_seed(1))
    return {"mixture": sources.sum(1), "sources": sources, "lengths": torch.tensor([time, time])}


def random_spectra(num_sources: int, num_frames: int = 6) -> torch.Tensor:
    return torch.randn(2, num_sources, 5, num_frames, dtype=torch.complex64)


def test_the_papers_size() -> None:
    model = DeepCASA(DeepCASAConfig())
    assert model.num_parameters == pytest.approx(12.8e6, rel=0.01)
    # Of the temporal network: 28 blocks of 256 and 512 channels.
    one = 256 * 512 + 512 + 512 * 3 + 512 + 512 * 256 + 256 + 2 + 2 * 2 * 512
    assert sum(parameter.numel() for parameter in model.sequential.blocks.parameters()) == 28 * one


@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_best_order_of_every_frame_is_that_of_brute_force(num_sources: int) -> None:
    torch.manual_seed(0)
    tracks, targets = random_spectra(num_sources), random_spectra(num_sources)
    order, weights = best_order(tracks, targets)
    expected = torch.zeros(2, 6)
    for item, frame in itertools.product(range(2), range(6)):
        losses = {}
        for candidate in itertools.permutations(range(num_sources)):
            difference = tracks[item, list(candidate), :, frame] - targets[item, :, :, frame]
            losses[candidate] = float((difference.real.abs() + difference.imag.abs()).mean(-1).sum())
        best = min(losses, key=losses.__getitem__)
        assert tuple(order[item, frame].tolist()) == best
        others = [loss for candidate, loss in losses.items() if candidate != best]
        expected[item, frame] = sum(others) / len(others) - losses[best]
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_losses_are_those_of_the_paper(num_sources: int) -> None:
    torch.manual_seed(0)
    model = DeepCASA(DeepCASAConfig(**TINY, num_sources=num_sources))
    batch = make_batch(num_sources)
    level = batch["mixture"].square().mean(-1).sqrt()
    sources = batch["sources"] / level[:, None, None]
    spectrum, targets = model.transform(batch["mixture"] / level[:, None]), model.transform(sources)
    with torch.no_grad():
        tracks = model.frame_masks(spectrum) * spectrum[:, None]
    order, weights = best_order(tracks, targets)

    arranged = torch.empty_like(tracks)
    for item, frame, source in itertools.product(range(2), range(order.shape[1]), range(num_sources)):
        arranged[item, source, :, frame] = tracks[item, order[item, frame, source], :, frame]
    expected = -snr(model.inverse(arranged, 640), sources).mean()
    torch.testing.assert_close(model.losses(batch, 0)["loss"], expected, rtol=1e-3, atol=1e-3)

    with torch.no_grad():
        vectors = model.sequential(spectrum, tracks)
    values = []
    for item in range(2):
        rows, labels, row_weights = [], [], []
        for frame in range(order.shape[1]):
            for track in range(1 if num_sources == 2 else num_sources):
                rows.append(vectors[item, frame, track])
                labels.append(order[item, frame].tolist().index(track))
                row_weights.append(float(weights[item, frame]) / vectors.shape[2])
        value = 0.0
        for a, b in itertools.product(range(len(rows)), repeat=2):
            value += row_weights[a] * row_weights[b] * (float(rows[a] @ rows[b]) - (labels[a] == labels[b])) ** 2
        values.append(value)
    assert float(model.losses(batch, 1)["loss"].detach()) == pytest.approx(sum(values) / 2, rel=1e-3)


@pytest.mark.parametrize("num_sources", [2, 3])
def test_vectors_that_tell_the_order_bring_every_track_to_one_place(num_sources: int) -> None:
    torch.manual_seed(0)
    model = DeepCASA(DeepCASAConfig(**TINY, num_sources=num_sources)).eval()
    orders = list(itertools.permutations(range(num_sources)))
    truth = torch.tensor([[orders[(3 * frame + frame**2) % len(orders)] for frame in range(40)]])
    directions = torch.eye(8)[: len(orders)] + 0.1 * torch.randn(len(orders), 8)
    noise = 0.05 * torch.randn(1, 40, 1 if num_sources == 2 else num_sources, 8)
    # A vector tells the source of its track; of two tracks the first has one.
    vectors = directions[truth.argsort(-1)[..., : noise.shape[2]]] + noise
    shares = model.group(vectors, torch.ones(1, 40))
    assert torch.equal(shares.sort(-1).values, torch.eye(num_sources)[-1].expand_as(shares))
    order = shares.argmax(-1)
    # Talkers are found in any order, but in the same one throughout.
    found = {tuple(order[0, f].argsort(-1)[truth[0, f]].tolist()) for f in range(40)}
    assert len(found) == 1


def test_a_recording_in_one_order_is_left_in_it() -> None:
    model = DeepCASA(DeepCASAConfig(**TINY)).eval()
    vectors = torch.nn.functional.normalize(torch.ones(1, 30, 1, 8) + 0.3 * torch.randn(1, 30, 1, 8), dim=-1)
    shares = model.group(vectors, torch.ones(1, 30))
    assert (shares == shares[:, :1]).all()


def test_a_frame_between_two_clusters_is_shared_if_the_grouping_is_not_sharp() -> None:
    model = DeepCASA(DeepCASAConfig(**TINY, sharpness=3.0)).eval()
    first, second = torch.eye(8)[:2]
    vectors = torch.stack([first, second, first, second, (first + second) / 2**0.5])[None, :, None]
    shares = model.group(vectors, torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]))
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 5, 2))
    torch.testing.assert_close(shares[0, 4], torch.full((2, 2), 0.5))
    torch.testing.assert_close(shares[0, 0].max(), torch.sigmoid(torch.tensor(3.0 * 2)))
    assert torch.equal(shares[0, 0], shares[0, 1].flip(0))


def test_each_stage_trains_its_part_and_leaves_the_other_bitwise_alone() -> None:
    torch.manual_seed(0)
    model = DeepCASA(DeepCASAConfig(**TINY))
    task = SeparationTask(model, SeparationOptions(stage_batches=(2,)))
    optimizer = build_optimizer(task.parameters(), TrainingConfig(optimizer="adamw", weight_decay=0.1))
    for number in range(4):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer.zero_grad(set_to_none=True)
        task(make_batch(), "main")["loss"].backward()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        part = "simultaneous." if number < 2 else "sequential."
        assert changed == {name for name in before if name.startswith(part)}


def test_three_sources_come_out_whole() -> None:
    torch.manual_seed(0)
    model = DeepCASA(DeepCASAConfig(**TINY, num_sources=3)).eval()
    mixture = make_batch(3)["mixture"]
    with torch.no_grad():
        estimates = model(mixture)
    assert estimates.shape == (2, 3, 640)
    # The first masks share the mixture out: whatever the grouping, the tracks add up to about the mixture.
    assert (si_snr(estimates.sum(1), mixture) > 0).all()


def test_tap_dropout_drops_whole_taps_but_never_the_middle_one() -> None:
    torch.manual_seed(0)
    dropout, weight = TapDropout(0.5), torch.ones(4, 1, 3)
    seen = {tuple(dropout(weight)[:, 0].T.reshape(3, 4).mean(1).tolist()) for _ in range(60)}
    assert seen == {(left, 1.0, right) for left in (0.0, 1.0) for right in (0.0, 1.0)}
    assert torch.equal(dropout.eval()(weight), weight)


def test_dropout_is_only_for_training() -> None:
    torch.manual_seed(0)
    model = DeepCASA(DeepCASAConfig(**{**TINY, "dropout": 0.5, "tap_dropout": 0.5}))
    batch = make_batch()
    assert not torch.equal(model.losses(batch, 0)["loss"], model.losses(batch, 0)["loss"])
    model.eval()
    assert torch.equal(model.losses(batch, 1)["loss"], model.losses(batch, 1)["loss"])


def test_a_dense_block_sees_all_frequencies_and_near_frames() -> None:
    torch.manual_seed(0)
    block = DenseBlock(2, 4, 3, num_bins=21).eval()
    # The global norms see everything; without them what is left is the reach of the convolutions.
    for module in block.modules():
        if hasattr(module, "norm"):
            module.norm = FirstArgument()
    image = torch.randn(1, 2, 21, 15, requires_grad=True)
    block(image)[0, :, 10, 7].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0) > 0
    assert seen[:, 6:9].all()
    assert not seen[:, :5].any()
    assert not seen[:, 10:].any()


class FirstArgument(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("num_bins", "num_frames"), [(17, 9), (16, 8), (13, 1)])
def test_any_grid_comes_back_in_its_size(num_bins: int, num_frames: int) -> None:
    network = DenseUNet(2, 3, num_bins, num_channels=4, num_layers=2, num_scales=3, dropout=0.0)
    assert network(torch.randn(1, 2, num_bins, num_frames)).shape == (1, 3, num_bins, num_frames)


def test_masks_are_twice_what_the_network_gives_near_zero_and_unbounded_far_from_it() -> None:
    model = DeepCASA(DeepCASAConfig(**TINY)).eval()
    network = torch.nn.Module()
    spectrum = torch.ones(1, 33, 2, dtype=torch.complex64)
    for given, expected in ((0.01, 0.02), (9.0, 10 * math.log(19.0))):
        network.forward = lambda image, lengths, value=given: torch.full((1, 4, 33, 2), value)
        model.simultaneous = network
        masks = model.frame_masks(spectrum)
        assert masks.shape == (1, 2, 33, 2)
        torch.testing.assert_close(masks.real, torch.full_like(masks.real, expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"magnitude_power": 0.0}, "magnitude_power"),
        ({"sharpness": -1.0}, "sharpness"),
        ({"num_layers": 1}, "num_layers must be at least 2"),
        ({"embedding_size": 1}, "embedding_size"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepCASAConfig(**values)
