"""A foreign checkpoint in our terms, and what reading one of any toolkit takes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from auriscope.errors import CheckpointError
from auriscope.pretrained.model import Model, model_class

Renames = tuple[tuple[str, str], ...]
"""Regular expressions and what replaces them: how the names of another toolkit's weights become ours."""


@dataclass(frozen=True)
class Foreign:
    """A foreign checkpoint in our terms: the architecture, its configuration values, and its weights by our names."""

    architecture: str
    config: dict[str, Any]
    weights: dict[str, Tensor]

    def build(self) -> Model:
        """Make the model, in evaluation mode; missing, surplus or misshaped weights raise ``CheckpointError``."""
        model = model_class(self.architecture).from_config(self.config)
        own = model.state_dict()
        missing, surplus = sorted(own.keys() - self.weights.keys()), sorted(self.weights.keys() - own.keys())
        if missing or surplus:
            kind, name = ("lacks", missing[0]) if missing else ("has an unknown weight", surplus[0])
            raise CheckpointError(
                f"the checkpoint is not a {self.architecture} of that configuration: it {kind} {name}"
            )
        shaped = {}
        for name, weight in self.weights.items():
            # A convolution with a kernel of one is a linear layer here: drop its dimensions of size one.
            if weight.numel() != own[name].numel():
                raise CheckpointError(
                    f"the checkpoint's {name} has shape {tuple(weight.shape)} instead of {tuple(own[name].shape)}"
                )
            shaped[name] = weight.reshape(own[name].shape)
        model.load_state_dict(shaped)
        return model.eval()


def read_tensors(path: Path) -> Any:
    """Read a file that ``torch.save`` wrote, if it holds nothing but plain data and tensors."""
    try:
        # Asteroid notes torch's version in its files, as torch's own kind of string.
        with torch.serialization.safe_globals([TorchVersion]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of plain data and tensors; it was not loaded") from error


def count_modules(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Count what the first group of ``pattern`` matches among the keys: how many modules of a list there are."""
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


def rename(weights: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """Rename every weight by all replacements of ``renames`` (pattern, replacement), in their order."""
    renamed = {}
    for key, value in weights.items():
        name = key
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
