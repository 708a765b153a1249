"""The methods of interpretation by name, as ``--method`` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auriscope.errors import AuriscopeError
from auriscope.interpretation.baselines import GradCAM, Gradients, IntegratedGradients, Occlusion
from auriscope.interpretation.flint import FLINT
from auriscope.interpretation.interpreter import Interpreter, TrainedInterpreter
from auriscope.interpretation.l2i import L2I
from auriscope.interpretation.lime import LIME
from auriscope.interpretation.lmac import LMAC
from auriscope.interpretation.piq import PIQ
from auriscope.interpretation.vibi import VIBI
from auriscope.pretrained.addresses import load, suggest

METHODS: dict[str, type[Interpreter]] = {
    kind.method: kind
    for kind in (
        PIQ,
        L2I,
        VIBI,
        FLINT,
        LMAC,
        LIME,
        Gradients,
        IntegratedGradients,
        Occlusion,
        GradCAM,
    )
}
"""Every method's class by its name; the trained ones are loaded, the others are made from nothing."""


def interpreter_of(method: str, address: str | Path | None = None, *, device: Any = "cpu") -> Interpreter:
    """Make the interpreter of a method, or load it from ``address``, which a trained one needs and no other takes.

    Raises ``AuriscopeError``: there is no such method, an address is missing or superfluous, or of another method.
    """
    if method not in METHODS:
        raise AuriscopeError(f"there is no method {method!r}{suggest(method, METHODS)}")
    kind = METHODS[method]
    if not issubclass(kind, TrainedInterpreter):
        if address is not None:
            raise AuriscopeError(f"{method} is not trained, so that it has no model {address}; leave that out")
        return kind()
    if address is None:
        raise AuriscopeError(f"{method} is trained for a classifier: give the address of its model")
    model = load(address, device=device)
    if not isinstance(model, kind):
        raise AuriscopeError(f"{address}: is a {model.name}, not an interpreter by {method}")
    return model
