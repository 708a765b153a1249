"""Models as data: registration, addresses, saving, loading, checksums, model cards.

Names are imported on first use: the shipped models can be listed, and their cards read, without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.pretrained.addresses import (
        ShippedModel,
        import_room,
        list_architectures,
        list_shipped,
        load,
        resolve,
        suggest,
    )
    from auriscope.pretrained.card import ModelCard
    from auriscope.pretrained.checkpoint import load_pretrained, save_pretrained
    from auriscope.pretrained.model import Model, model_class

_HOMES = {
    "Model": "model",
    "ModelCard": "card",
    "ShippedModel": "addresses",
    "import_room": "addresses",
    "list_architectures": "addresses",
    "list_shipped": "addresses",
    "load": "addresses",
    "load_pretrained": "checkpoint",
    "model_class": "model",
    "resolve": "addresses",
    "save_pretrained": "checkpoint",
    "suggest": "addresses",
}

__all__ = [
    "Model",
    "ModelCard",
    "ShippedModel",
    "import_room",
    "list_architectures",
    "list_shipped",
    "load",
    "load_pretrained",
    "model_class",
    "resolve",
    "save_pretrained",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
