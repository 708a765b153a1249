"""Other precisions give nearly the same, through the same call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model
from auriscope.separation import DPRNN, ConvTasNet, SepFormer
from auriscope.separation.precision import PreciseSeparator, with_precision


@pytest.mark.parametrize("architecture", [ConvTasNet, DPRNN, SepFormer])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_estimates_stay_close(architecture: type[Model], precision: str) -> None:
    torch.manual_seed(0)
    model = architecture.from_config(architecture.Tiny).eval()
    if architecture is ConvTasNet and precision == "int8":
        with pytest.raises(AuriscopeError, match="separation/convtasnet has no linear layers"):
            with_precision(model, precision)
        return
    mixture = torch.randn(2, 4000)
    separator = with_precision(model, precision)
    assert isinstance(separator, PreciseSeparator)
    assert (separator.config, separator.name) == (model.config, model.name)
    with torch.no_grad():
        expected = model(mixture)
    estimates = separator(mixture)
    assert estimates.dtype == torch.float32
    assert 0 < (estimates - expected).norm() < 0.1 * expected.norm()
    lengths = torch.tensor([4000, 3000])
    if precision == "bf16":
        torch.testing.assert_close(separator(mixture, lengths)[1, :, 3000:], torch.zeros(2, 1000))


def test_int8_stores_every_projection_of_a_transformer_in_eight_bits() -> None:
    model = SepFormer.from_config(SepFormer.Tiny).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    separator = with_precision(model, "int8")
    assert isinstance(separator, PreciseSeparator)
    kinds = {name: type(module) for name, module in separator.model.named_modules() if ".layers." in name}
    assert not [name for name, kind in kinds.items() if kind is nn.Linear]
    assert [name for name in kinds if name.endswith("qkv")]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fp32_is_the_model_itself_and_others_are_named() -> None:
    model = DPRNN.from_config(DPRNN.Tiny).eval()
    assert with_precision(model, "fp32") is model
    with pytest.raises(AuriscopeError, match="'fp16'; it must be one of fp32, bf16, int8"):
        with_precision(model, "fp16")
