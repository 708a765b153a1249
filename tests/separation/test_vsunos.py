from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.metrics import pit_si_snr, si_snr
from auriscope.separation.layers import overlap_add, split_chunks
from auriscope.separation.vsunos import VSUNOS, MulCatPath, VSUNOSConfig

VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "global", "encoder_activation": "linear", "hop_size": 10, "num_sources": 3},
    {"norm": "channel", "normalize_mixture": False, "kernel_size": 10, "stride": 3},
]


def tiny(**values: Any) -> VSUNOS:
    torch.manual_seed(0)
    return VSUNOS(VSUNOSConfig(**{**VSUNOS.Tiny, **values}))


def plain_mulcat(path: MulCatPath, sequence: Tensor) -> Tensor:
    """Section 3.1, figure 2: one sequence (T, C)."""
    outputs = [
        F.linear(network(sequence[None])[0][0], branch.weight, branch.bias)
        for network, branch in zip(path.networks, path.branches, strict=True)
    ]
    return F.linear(torch.cat([outputs[0] * outputs[1], sequence], dim=1), path.projection.weight, path.projection.bias)


def plain_vsunos(model: VSUNOS, mixture: Tensor) -> list[Tensor]:
    """The estimates (S, time) after every pair of blocks of one mixture (time,), chunk by chunk and frame by frame."""
    config = model.config
    size, hop, stride = config.chunk_size, config.chunk_size // 2, config.stride
    frames = F.relu(F.conv1d(mixture[None, None], model.encoder.weight, stride=stride))[0].T
    num_frames = len(frames)
    # As the authors' code: half a chunk of zeros before, the rest of a chunk and half of one behind.
    rest = size - (hop + num_frames % size) % size
    padded = torch.cat([frames.new_zeros(hop, frames.shape[1]), frames, frames.new_zeros(rest + hop, frames.shape[1])])
    chunks = torch.stack([padded[start : start + size] for start in range(0, len(padded) - size + 1, hop)])
    results = []
    for block in model.blocks:
        chunks = chunks + torch.stack([plain_mulcat(block.intra, chunk) for chunk in chunks])
        across = [plain_mulcat(block.inter, chunks[:, position]) for position in range(size)]
        chunks = chunks + torch.stack(across, dim=1)
        heads = F.linear(F.prelu(chunks, model.prelu.weight), model.to_sources.weight, model.to_sources.bias)
        total = padded.new_zeros(len(padded), heads.shape[2])
        for number, chunk in enumerate(heads):
            total[number * hop : number * hop + size] += chunk
        total = total[hop : hop + num_frames]
        waveforms = torch.zeros(config.num_sources, len(mixture))
        for source in range(config.num_sources):
            for number in range(num_frames):
                frame = total[number, source * config.num_filters : (source + 1) * config.num_filters]
                start = number * stride
                waveforms[source, start : start + config.kernel_size] += frame @ model.decoder.weight[:, 0]
        results.append(waveforms)
    return results


def test_the_papers_size() -> None:
    """7.5 million; the blocks alone round to it, head and filterbank make it 7.56."""
    model = VSUNOS(VSUNOSConfig())
    assert model.num_parameters == pytest.approx(7.5e6, rel=0.01)
    assert round(sum(parameter.numel() for parameter in model.blocks.parameters()) / 1e6, 1) == 7.5


@pytest.mark.parametrize("num_sources", [2, 3])
def test_every_blocks_estimates_are_those_of_the_plain_formulas(num_sources: int) -> None:
    model = tiny(normalize_mixture=False, num_sources=num_sources)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mixture = torch.randn(2, 300)
    estimates = model.estimates_of_blocks(mixture)
    assert estimates.shape == (2, 2, num_sources, 300)
    for row in range(2):
        for found, expected in zip(estimates[:, row], plain_vsunos(model, mixture[row]), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), estimates[-1], rtol=1e-4, atol=1e-5)


def test_a_hop_of_a_whole_chunk_covers_every_frame_once() -> None:
    model = tiny(hop_size=10, normalize_mixture=False)
    frames = torch.randn(1, 73, 16)
    chunks = split_chunks(frames, model.chunking)
    torch.testing.assert_close(
        overlap_add(chunks, 10, padding=model.chunking.padding, num_frames=73), frames, rtol=0, atol=0
    )


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_without_blocks_every_estimate_begins_as_the_mixture(activation: str) -> None:
    model = tiny(num_filters=64, kernel_size=16, stride=8, encoder_activation=activation, num_sources=3)
    # Blocks that add nothing.
    for block in model.blocks:
        for path in (block.intra, block.inter):
            torch.nn.init.zeros_(path.projection.weight)
            torch.nn.init.zeros_(path.projection.bias)
    mixture = torch.randn(1, 1000)
    similarity = si_snr(model(mixture), mixture[:, None].expand(-1, 3, -1))
    assert (similarity > 8).all(), similarity


def test_the_loss_is_the_mean_over_blocks_each_under_its_own_permutation() -> None:
    model = tiny()
    torch.manual_seed(1)
    sources = 0.1 * torch.randn(3, 2, 500)
    batch = {"mixture": sources.sum(1), "sources": sources}
    losses = model.losses(batch, 0)
    total = 0.0
    with torch.no_grad():
        estimates = model.estimates_of_blocks(batch["mixture"])
    for heads in estimates:
        for row in range(3):
            straight = [si_snr(heads[row, i], sources[row, i]).item() for i in (0, 1)]
            crossed = [si_snr(heads[row, 1 - i], sources[row, i]).item() for i in (0, 1)]
            total += max(sum(straight), sum(crossed)) / 2
    assert losses["loss"].item() == pytest.approx(-total / 6, abs=1e-4)
    before = si_snr(batch["mixture"][:, None].expand_as(sources), sources)
    improvement = (pit_si_snr(estimates[-1], sources).values - before).mean().item()
    assert losses["si_snri_db"].item() == pytest.approx(improvement, abs=1e-4)


def test_a_normalised_mixture_comes_out_at_its_own_level() -> None:
    model = tiny()
    mixture = torch.randn(2, 400)
    with torch.no_grad():
        torch.testing.assert_close(model(0.01 * mixture), 0.01 * model(mixture), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(tiny(**variant))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "cumulative"}, "norm is"),
        ({"encoder_activation": "gelu"}, "encoder_activation is"),
        ({"hop_size": 50}, "hop_size"),
        ({"num_blocks": 0}, "num_blocks"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VSUNOSConfig(**values)
