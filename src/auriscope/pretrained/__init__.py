"""Models as data: registration, addresses, saving, loading, checksums, model cards."""

from __future__ import annotations

from auriscope.pretrained.addresses import list_architectures, list_shipped, load
from auriscope.pretrained.model import Model, model_class

__all__ = ["Model", "list_architectures", "list_shipped", "load", "model_class"]
