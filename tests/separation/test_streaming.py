"""Streaming: block by block, whatever the blocks, the estimates are those of the offline pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model
from auriscope.separation import DPRNN, BandSplitRNN, ConvTasNet
from auriscope.separation.streaming import StreamingSeparator

MODELS: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "convtasnet_cumulative": (ConvTasNet, {"causal": True, "norm": "cumulative"}),
    "convtasnet_channel_softmax": (ConvTasNet, {"causal": True, "norm": "channel", "mask_activation": "softmax"}),
    "convtasnet_late": (ConvTasNet, {"causal": True, "norm": "channel", "block_padding": "late"}),
    "convtasnet_without_skip": (ConvTasNet, {"causal": True, "norm": "channel", "skip_channels": 0, "num_sources": 3}),
    "convtasnet_even_kernel": (ConvTasNet, {"causal": True, "norm": "cumulative", "block_kernel_size": 2, "stride": 5}),
    "dprnn": (DPRNN, {"bidirectional": False, "norm": "channel"}),
    "dprnn_gru_mulcat": (
        DPRNN,
        {"bidirectional": False, "norm": "channel", "cell": "gru", "multiply_concatenate": True, "num_layers": 2},
    ),
    "dprnn_uneven_hop": (DPRNN, {"bidirectional": False, "norm": "channel", "hop_size": 3, "num_sources": 3}),
    "dprnn_half_padding": (DPRNN, {"bidirectional": False, "norm": "channel", "chunk_padding": "half"}),
    "dprnn_no_overlap": (
        DPRNN,
        {"bidirectional": False, "norm": "channel", "chunk_padding": "none", "hop_size": 10},
    ),
}


def make(name: str) -> Model:
    torch.manual_seed(0)
    architecture, changes = MODELS[name]
    model = architecture.from_config({**architecture.Tiny, **changes}).eval()
    for parameter in model.parameters():
        # Every weight matters, the biases and scales of norms too.
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def stream(model: Model, mixture: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    separator = StreamingSeparator(model, batch_size=len(mixture))
    given, position = [], 0
    while position < mixture.shape[-1]:
        size = sizes[len(given) % len(sizes)]
        given.append(separator.push(mixture[:, position : position + size]))
        position += size
    return [*given, separator.finish()]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sizes", [[1], [7, 160, 1, 33], [5000]], ids=["samples", "uneven", "whole"])
def test_blocks_of_any_size_give_the_offline_estimates(name: str, sizes: list[int]) -> None:
    model = make(name)
    for num_samples in (1203, 611) if sizes != [1] else (307,):
        mixture = torch.randn(2, num_samples)
        given = stream(model, mixture, sizes)
        with torch.no_grad():
            offline = model(mixture)
        assert offline.abs().max() > 1e-2
        torch.testing.assert_close(torch.cat(given, dim=-1), offline, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_samples", [0, 1, 15, 16, 17])
def test_signals_about_as_short_as_a_filter(name: str, num_samples: int) -> None:
    model = make(name)
    mixture = torch.randn(1, num_samples)
    given = torch.cat(stream(model, mixture, [4]), dim=-1)
    assert given.shape == (1, model.config.num_sources, num_samples)
    if num_samples:
        with torch.no_grad():
            torch.testing.assert_close(given, model(mixture), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_comes_later_than_the_latency(name: str) -> None:
    model = make(name)
    separator = StreamingSeparator(model)
    num_given = 0
    for position in range(1, 1500):
        num_given += separator.push(torch.randn(1, 1)).shape[-1]
        assert num_given >= position - separator.latency_samples
    assert num_given > 1000


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ConvTasNet.from_config(ConvTasNet.Tiny), "causal=True"),
        (DPRNN.from_config(DPRNN.Tiny), "bidirectional=False"),
        (BandSplitRNN.from_config(BandSplitRNN.Tiny), "cannot be streamed"),
    ],
)
def test_models_that_see_the_future_are_refused(model: Model, words: str) -> None:
    with pytest.raises(AuriscopeError, match=words):
        StreamingSeparator(model.eval())


def test_a_stream_ends_once_and_needs_evaluation_mode() -> None:
    model = make("dprnn")
    separator = StreamingSeparator(model)
    separator.finish()
    with pytest.raises(AuriscopeError, match="finished"):
        separator.push(torch.zeros(1, 10))
    with pytest.raises(AuriscopeError, match="evaluation mode"):
        StreamingSeparator(model.train())
