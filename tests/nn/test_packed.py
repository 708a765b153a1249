from __future__ import annotations

import copy
import pickle

import torch
from torch import nn
from torch.nn import functional as F

from auriscope.nn.packed import PackedLinear, packable


def test_products_are_those_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    layer, packed = nn.Linear(60, 30), PackedLinear()
    with torch.no_grad():
        for shape in ((60,), (7, 60), (2, 7, 60), (0, 7, 60)):
            x = torch.randn(shape)
            torch.testing.assert_close(packed(x, layer.weight, layer.bias), layer(x))
            torch.testing.assert_close(packed(x, layer.weight, None, "relu"), F.linear(x, layer.weight).relu())


def test_weights_that_changed_are_arranged_anew() -> None:
    torch.manual_seed(0)
    layer, packed = nn.Conv1d(20, 30, 3), PackedLinear()
    x = torch.randn(5, 60)

    def check() -> None:
        torch.testing.assert_close(
            packed(x, layer.weight, layer.bias), F.linear(x, layer.weight.flatten(1), layer.bias)
        )

    with torch.no_grad():
        check()
        layer.weight.mul_(2.0)
        check()
        layer.load_state_dict(nn.Conv1d(20, 30, 3).state_dict())
        check()
        layer.load_state_dict(nn.Conv1d(20, 30, 3).state_dict(), assign=True)
        check()
        layer.double().float()
        check()


def test_a_copy_arranges_its_own_weights() -> None:
    torch.manual_seed(0)
    weight, packed, x = nn.Parameter(torch.randn(4, 6)), PackedLinear(), torch.randn(3, 6)
    with torch.no_grad():
        packed(x, weight, None)
        for copied in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            other = nn.Parameter(torch.randn(4, 6))
            torch.testing.assert_close(copied(x, other, None), x @ other.T)


def test_gradients_other_types_and_autocast_are_left_to_torch() -> None:
    x, weight = torch.randn(3, 6), torch.randn(4, 6)
    assert not packable(x, weight)
    with torch.no_grad():
        assert packable(x, weight)
        assert not packable(x.double(), weight.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not packable(x, weight)
    with torch.inference_mode():
        assert packable(x, weight)
        assert not packable(x, weight.clone())
