from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.separation.maskdnn import MaskDNN, MaskDNNConfig, discriminative_loss, with_context

VARIANTS: list[dict[str, Any]] = [
    {},
    {"recurrent_layers": ()},
    {"recurrent_layers": (1, 2), "bidirectional": True, "cell": "lstm", "features": "log", "hop_length": 16},
    {"recurrent_layers": (1,), "cell": "gru", "context_frames": 1, "num_sources": 3},
]


def tiny(**values: Any) -> MaskDNN:
    torch.manual_seed(0)
    return MaskDNN(MaskDNNConfig(**{**MaskDNN.Tiny, **values})).eval()


def by_all_assignments(estimates: Tensor, references: Tensor, discrimination: float) -> float:
    """The objective of one example, term by term, for every order of the estimates; the least counts."""
    num_sources = len(estimates)
    totals = []
    for order in itertools.permutations(range(num_sources)):
        total = 0.0
        for talker, estimate in enumerate(order):
            for other in range(num_sources):
                error = float((estimates[estimate] - references[other]).square().mean())
                total += error if other == talker else -discrimination / (num_sources - 1) * error
        totals.append(total)
    return min(totals)


def test_the_number_of_parameters() -> None:
    first, second = (3 * 513 + 1) * 150, 150 * 150 + 150 * 150 + 2 * 150
    assert MaskDNN(MaskDNNConfig()).num_parameters == first + second + 151 * 2 * 513


@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_loss_is_that_of_the_best_assignment(num_sources: int) -> None:
    generator = torch.Generator().manual_seed(0)
    estimates, references = torch.rand(2, 4, num_sources, 9, 7, generator=generator)
    expected = [by_all_assignments(e, r, 0.3) for e, r in zip(estimates, references, strict=True)]
    assert discriminative_loss(estimates, references, 0.3).tolist() == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_one_talker_is_the_squared_error() -> None:
    estimates, references = torch.rand(2, 3, 1, 5, 6)
    expected = (estimates - references).square().mean((1, 2, 3))
    torch.testing.assert_close(discriminative_loss(estimates, references, 0.3), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_share_the_mixture_out(variant: dict[str, Any]) -> None:
    model = tiny(**variant)
    mixture = torch.randn(2, 1000)
    with torch.no_grad():
        masks = model.masks(model.transform(mixture))
        assert masks.min() >= 0
        torch.testing.assert_close(masks.sum(1), torch.ones_like(masks[:, 0]))
        assert masks.std() < 0.2  # about even before training
        torch.testing.assert_close(model(mixture).sum(1), mixture, atol=1e-4, rtol=1e-3)


def test_one_frame_of_the_plain_network_by_hand() -> None:
    model = tiny(recurrent_layers=(), num_layers=1)
    spectrum = torch.complex(*torch.randn(2, 1, 33, 3))
    with torch.no_grad():
        hidden = torch.relu(model.layers[0][0](spectrum[0].abs().T.reshape(-1)))
        first, second = model.output(hidden).abs().chunk(2)
        masks = model.masks(spectrum)[0, :, :, 1]
    torch.testing.assert_close(masks[0], first / (first + second), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(masks[1], second / (first + second), atol=1e-5, rtol=1e-4)


def test_context_goes_from_the_past_to_the_future() -> None:
    features = torch.arange(1.0, 7.0).reshape(1, 3, 2)
    expected = [[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 0, 0]]
    assert with_context(features, 3)[0].tolist() == expected
    assert with_context(features, 1) is features


def test_only_layers_that_are_named_remember() -> None:
    model = tiny(recurrent_layers=(), context_frames=1)
    spectrum = torch.randn(1, 33, 6, dtype=torch.complex64)
    changed = spectrum.clone()
    changed[..., 2] += 1
    with torch.no_grad():
        same = (model.masks(spectrum) == model.masks(changed)).all(2).all(1)[0]
        assert same.tolist() == [True, True, False, True, True, True]
        recurrent = tiny(recurrent_layers=(2,), context_frames=1)
        same = (recurrent.masks(spectrum) == recurrent.masks(changed)).all(2).all(1)[0]
    assert same.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(tiny(**variant))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": "mfcc"}, "features is 'mfcc'"),
        ({"cell": "tcn"}, "cell is 'tcn'"),
        ({"context_frames": 2}, "odd"),
        ({"recurrent_layers": (3,)}, "recurrent_layers"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskDNNConfig(**values)
