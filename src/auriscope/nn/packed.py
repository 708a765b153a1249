"""Linear layers without gradients on a CPU, with weights arranged once as oneDNN wants them.

torch hands such products to MKL, which on some processors reaches less than half of what oneDNN does; and oneDNN's own
layers in torch arrange the weights anew in every call, which for short recordings costs as much as the product.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch import Tensor

Activation = Literal["none", "relu"]


def packable(x: Tensor, weight: Tensor) -> bool:
    """Whether :class:`PackedLinear` has something to offer: float32 on a CPU, without gradients, nothing traced."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        # Those made in inference mode do not tell when they change.
        and not weight.is_inference()
    )


class PackedLinear:
    """What ``F.linear`` computes, for weights that stay the same from call to call.

    Weights that were changed in place, loaded or moved are arranged anew. It holds a copy of the weights, and is no
    part of the state of the module that owns it.
    """

    def __init__(self) -> None:
        self._weight: weakref.ref[Tensor] | None = None
        self._state: tuple[int, int] = (0, 0)
        self._packed: Tensor | None = None

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none") -> Tensor:
        """Give activation(x · weight + bias), (…, outputs), of x (…, inputs) that is ``packable``.

        ``weight`` (outputs, …) is a parameter itself, not a view of one; its further dimensions, flattened, are the
        inputs, of which x may have the first only. A packed layer is for one weight and one number of inputs.
        """
        operations: Any = torch.ops.mkldnn
        state = weight.data_ptr(), weight._version
        if self._packed is None or self._weight is None or self._weight() is not weight or state != self._state:
            self._packed = operations._reorder_linear_weight(weight.detach().flatten(1)[:, : x.shape[-1]].contiguous())
            self._weight, self._state = weakref.ref(weight), state
        found: Tensor = operations._linear_pointwise(x, self._packed, bias, activation, [], "")
        return found

    def __deepcopy__(self, memo: Any) -> PackedLinear:
        # Arranged weights cannot be copied; a copy of the module arranges its own.
        return PackedLinear()

    def __reduce__(self) -> Any:
        return PackedLinear, ()
