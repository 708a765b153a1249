from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auriscope.data.synthetic import voice
from auriscope.separation.counter import TalkerCountConfig, TalkerCountNet, take_turns
from auriscope.separation.task import SeparationTask


def tiny() -> TalkerCountNet:
    torch.manual_seed(0)
    return TalkerCountNet.from_config(TalkerCountNet.Tiny)


def plain_logits(model: TalkerCountNet, mixture: Tensor) -> Tensor:
    """The network frame by frame on one mixture (time,), from its description."""
    config = model.config
    mixture = mixture / mixture.square().mean().sqrt()
    starts = range(0, len(mixture) - config.window_size + 1, config.hop_size)
    frames = [torch.fft.rfft(mixture[start : start + config.window_size] * model.window) for start in starts]
    x = torch.stack([model.bottleneck((torch.log10(frame.abs() ** 2 + 1e-2) - 1) / 2) for frame in frames])
    for number, layer in enumerate(model.layers):
        norm, reach = model.norms[number], 2**number
        y = torch.relu(torch.nn.functional.layer_norm(x, x.shape[1:], norm.weight, norm.bias, norm.eps))
        added = []
        for frame in range(len(x)):
            total = layer.bias
            for tap in range(config.kernel_size):
                source = frame + (tap - config.kernel_size // 2) * reach
                if 0 <= source < len(x):
                    total = total + layer.weight[:, :, tap] @ y[source]
            added.append(total)
        x = x + torch.stack(added)
    norm = model.norms[-1]
    x = torch.relu(torch.nn.functional.layer_norm(x, x.shape[1:], norm.weight, norm.bias, norm.eps))
    shares = torch.softmax(model.at_once(x), -1).mean(0)
    pooled = torch.cat([x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt(), shares])
    return model.output(torch.relu(model.hidden(pooled)))


def test_the_shipped_configuration_is_small() -> None:
    """Stored at half precision its weights take less than 200 kB."""
    assert 2 * TalkerCountNet(TalkerCountConfig()).num_parameters < 200_000


def test_the_network_is_that_of_the_plain_formulas() -> None:
    model = tiny()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    mixture = torch.randn(700)
    torch.testing.assert_close(model(mixture[None])[0], plain_logits(model, mixture), rtol=1e-4, atol=1e-4)


def test_the_level_does_not_matter() -> None:
    model = tiny()
    mixture = 0.1 * torch.randn(2, 900)
    torch.testing.assert_close(model(0.1 * mixture), model(mixture), rtol=1e-3, atol=1e-4)


def test_turns_keep_everybody_and_leave_silences() -> None:
    torch.manual_seed(0)
    sources = torch.ones(8, 4, 40_000)
    counts = torch.tensor([1, 2, 3, 4] * 2)
    sources[torch.arange(4) >= counts[:, None]] = 0
    taken = take_turns(sources, counts, edge_samples=100)
    heard = (taken > 0.5).sum(1).float()
    for row, count in enumerate(counts.tolist()):
        assert (taken[row, :count].amax(-1) > 0.5).all()
        assert not taken[row, count:].any()
        if count == 1:
            assert torch.equal(taken[row], sources[row])
        else:
            # By turns: mostly one voice at a time, and now and then two.
            assert heard[row].mean() < 1.6
            assert heard[row].max() == 2
    assert 0.005 < taken.diff(dim=-1).abs().max() < 0.02
    again = take_turns(sources, counts, edge_samples=100)
    assert not torch.equal(again, taken)


def test_one_and_two_voices_are_learned_apart() -> None:
    torch.manual_seed(0)
    rate, seconds = 8000, 0.4
    voices = torch.stack([torch.from_numpy(voice(number, 0, seconds=seconds, sample_rate=rate)) for number in range(8)])
    sources = torch.stack([torch.stack([voices[i], voices[7 - i] * (i % 2)]) for i in range(8)]).float()
    counts = torch.tensor([1, 2] * 4)
    batch = {
        "mixture": sources.sum(1),
        "sources": sources,
        "lengths": torch.full((8,), sources.shape[-1]),
        "num_sources": counts,
    }
    model = TalkerCountNet(TalkerCountConfig(max_talkers=2, num_channels=16, num_layers=2))
    task = SeparationTask(model)
    assert task.selection_metric == "count_accuracy"
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        task(batch, "main")["loss"].backward()
        optimizer.step()
    assert torch.equal(model(batch["mixture"]).argmax(-1) + 1, counts)


def test_accuracy_is_of_the_mixture_as_it_is() -> None:
    """A network that always says two is wrong for three talkers and right for two."""
    model = tiny()
    torch.nn.init.zeros_(model.output.weight)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    sources = torch.randn(2, 3, 500)
    sources[1, 2] = 0
    batch = {
        "mixture": sources.sum(1),
        "sources": sources,
        "lengths": torch.tensor([500, 500]),
        "num_sources": torch.tensor([3, 2]),
    }
    torch.testing.assert_close(model.evaluate(batch)["count_accuracy"], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"max_talkers": 1}, "max_talkers"), ({"kernel_size": 4}, "kernel_size"), ({"hop_size": 0}, "hop_size")],
)
def test_impossible_configurations(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TalkerCountConfig(**values)
