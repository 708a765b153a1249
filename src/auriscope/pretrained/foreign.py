"""Checkpoints of other toolkits: what a room's ``interop`` hands over, and the safe reading of their files.

A room that loads foreign checkpoints has a module ``interop`` with

- ``FILE_PATTERNS``: the names, with wildcards, of the files that such checkpoints consist of;
- ``recognise(path) -> Foreign | None``: the checkpoint in a folder or file, or None where it is of no known layout.

``addresses.load`` asks every room's in turn. Nothing of another toolkit is imported, and nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
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
            if _without_ones(weight) != _without_ones(own[name]):
                raise CheckpointError(
                    f"the checkpoint's {name} has shape {tuple(weight.shape)} instead of {tuple(own[name].shape)}"
                )
            shaped[name] = weight.reshape(own[name].shape)
        model.load_state_dict(shaped)
        return model.eval()


def _without_ones(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def read_tensors(path: Path) -> Any:
    """Read a file that ``torch.save`` wrote, if it holds nothing but plain data and tensors.

    Raises ``CheckpointError``: there is no such file, it is damaged, or it holds objects whose reading would run code.
    """
    try:
        # Asteroid notes torch's version in its files, as torch's own kind of string.
        with torch.serialization.safe_globals([TorchVersion]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    except pickle.UnpicklingError as error:
        # The restricted reader names what it will not make; everything else is bytes that are no pickle.
        if "GLOBAL" in str(error):
            reason = "it holds more than plain data and tensors, and reading that could run code"
            raise CheckpointError(f"{path}: {reason}; it was not loaded; ask for a file of weights alone") from error
        raise CheckpointError(f"{path}: not a file of weights, or damaged; copy or download it again") from error
    # What a cut or altered file raises depends on where it is cut.
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a file of weights, or truncated or damaged; copy or download it again"
        ) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of weights by name; raises ``CheckpointError`` as :func:`read_tensors`, and where it holds others."""
    content = read_tensors(path)
    if not is_state_dict(content):
        raise CheckpointError(f"{path}: does not hold weights by name, a state dict; it is a file of another kind")
    return dict(content)


def read_parts(folder: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Read SpeechBrain's files ``<name>.ckpt``, one a part of the model: their weights under ``<name>.<key>``.

    Raises ``CheckpointError``: one is missing, or is no file of weights.
    """
    weights = {}
    for name in names:
        path = folder / f"{name}.ckpt"
        if not path.is_file():
            raise CheckpointError(f"{folder}: not a whole model: it has no {path.name}; copy or download it, too")
        weights.update({f"{name}.{key}": value for key, value in read_state_dict(path).items()})
    return weights


def is_state_dict(content: Any) -> bool:
    """Whether what a file held is a mapping of names to tensors, with at least one."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


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


def files_sha256(path: Path, patterns: tuple[str, ...]) -> str:
    """Give the SHA-256 of a file, or of the names and contents of a folder's files that match ``patterns``."""
    files = [path] if path.is_file() else sorted({file for pattern in patterns for file in path.glob(pattern)})
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
