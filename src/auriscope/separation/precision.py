"""Run a separator in bfloat16 or with eight-bit weights, from outside, whatever its architecture.

bfloat16 halves what is read and written, and CPUs with AVX-512 BF16 or AMX, and GPUs, multiply it in hardware.
Eight-bit weights (dynamic quantisation: the activations are scaled at every call) pay where large matrices dominate,
as in transformers. What either costs in SI-SNRi and gains in time for the shipped models is what
``benchmarks/precision.py`` prints.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_PROBE_SECONDS = 0.5


class PreciseSeparator:
    """A separator that computes in another precision; mixtures and estimates stay float32.

    It offers what a model of the room offers: ``config``, ``name`` and the call. For its parameters ask ``model``.
    """

    def __init__(self, model: nn.Module, original: Model, precision: Precision) -> None:
        self.model, self.precision = model, precision
        self.config, self.name = original.config, original.name

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def __call__(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) into estimates (B, S, time), as the model does."""
        with torch.no_grad(), torch.autocast(mixture.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            estimates: Tensor = self.model(mixture, lengths)
        return estimates.float()


def with_precision(model: Model, precision: str) -> Model | PreciseSeparator:
    """Give a model, in evaluation mode, that computes in ``precision``: the model itself for "fp32".

    "int8" makes a copy whose linear layers have eight-bit weights, for the CPU.

    Raises:
        AuriscopeError: an unknown precision, or "int8" for a model without linear layers.
    """
    if precision == "fp32":
        return model
    if precision == "bf16":
        return PreciseSeparator(model, model, "bf16")
    if precision == "int8":
        return PreciseSeparator(_quantised(model), model, "int8")
    raise AuriscopeError(f"the precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")


def bf16_in_hardware() -> bool:
    """Whether this machine multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _quantised(model: Model) -> nn.Module:
    """A copy with eight-bit linear layers: those that are called, since a few lend their weights to other sums."""
    called: set[str] = set()
    probe = copy.deepcopy(model).cpu().eval()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in probe.named_modules()
        if isinstance(module, nn.Linear)
    ]
    # With gradients, since without them a model may go by faster ways than its layers' own.
    with torch.enable_grad():
        probe(torch.zeros(1, round(_PROBE_SECONDS * model.config.sample_rate)))
    for hook in hooks:
        hook.remove()
    if not called:
        raise AuriscopeError(f"{model.name} has no linear layers to store in eight bits; take fp32 or bf16")
    quantise: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        # torch moves this function to a package of its own, and says so at every call.
        warnings.simplefilter("ignore")
        quantised: nn.Module = quantise(probe, called, dtype=torch.qint8)
    return quantised
