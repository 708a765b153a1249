"""Folders in the layout of the library transformers: their weights, the files of their tokenizer, and their settings.

The library is not asked: what these files say is either obeyed or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained.files import CONFIG_NAME, WEIGHTS_NAME, read_json
from auriscope.pretrained.foreign import read_state_dict
from auriscope.text.tokenizer import UNKNOWN

OLD_WEIGHTS_NAME = "pytorch_model.bin"
VOCABULARY = ("vocab.json", "added_tokens.json", "tokenizer_config.json")
PIECES = ("tokenizer.json", "merges.txt")
FRONT = ("preprocessor_config.json", "processor_config.json")
"""Where the settings of the features may be."""
FILE_PATTERNS = (CONFIG_NAME, WEIGHTS_NAME, OLD_WEIGHTS_NAME, *VOCABULARY, *PIECES, *FRONT)
"""The files of such a folder that are read."""


def byte_pieces(folder: Path, num_tokens: int) -> dict[str, Any]:
    """Read byte-level ``tokens`` and their ``merges`` from ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    Raises ``CheckpointError`` where they are missing or damaged, or name more than ``num_tokens``.
    """
    whole, path = folder / PIECES[0], folder / VOCABULARY[0]
    if whole.is_file():
        content = read_json(whole)
        try:
            numbers = dict(content["model"]["vocab"])
            merges = [entry if isinstance(entry, str) else " ".join(entry) for entry in content["model"]["merges"]]
            numbers |= {entry["content"]: entry["id"] for entry in content["added_tokens"]}
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{whole}: not a tokenizer of byte-level pieces; copy or download it again"
            ) from error
        return {"tokens": by_number(whole, numbers, num_tokens), "merges": merges}
    pairs = folder / PIECES[1]
    for missing in (each for each in (path, pairs) if not each.is_file()):
        raise CheckpointError(f"{folder}: not a whole model: it has no {missing.name}; copy or download it, too")
    numbers = read_json(path)
    if (folder / VOCABULARY[1]).is_file():
        numbers |= read_json(folder / VOCABULARY[1])
    try:
        lines = pairs.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"{pairs}: cannot be read; copy or download it again") from error
    merges = [line for line in lines if line and not line.startswith("#version")]
    return {"tokens": by_number(path, numbers, num_tokens), "merges": merges}


def by_number(path: Path, numbers: Mapping[str, Any], num_tokens: int) -> list[str]:
    """List the tokens of a vocabulary by their numbers; those that it does not name are unknown."""
    tokens = [UNKNOWN] * num_tokens
    for token, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise CheckpointError(
                f"{path}: the token {token!r} has no number; vocabularies by language cannot be loaded"
            )
        if not 0 <= number < num_tokens:
            raise CheckpointError(
                f"{path}: the token {token!r} has number {number}, and the network writes {num_tokens}"
            )
        tokens[number] = token
    return tokens


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``, or else ``pytorch_model.bin`` by torch's restricted reader; raises
    ``CheckpointError``.
    """
    path = folder / WEIGHTS_NAME
    if path.is_file():
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: not a valid safetensors file; copy or download it again") from error
    if (folder / OLD_WEIGHTS_NAME).is_file():
        return read_state_dict(folder / OLD_WEIGHTS_NAME)
    if (folder / f"{WEIGHTS_NAME}.index.json").is_file():
        raise CheckpointError(f"{folder}: its weights are in several files, which cannot be loaded; save them as one")
    raise CheckpointError(
        f"{folder}: not a whole model: it has no {WEIGHTS_NAME} or {OLD_WEIGHTS_NAME}; copy or download it, too"
    )


class Settings:
    """The values of a JSON file, each checked when it is asked for."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def get(self, name: str, default: Any) -> Any:
        """Give a value; ``default`` where there is none."""
        value = self.values.get(name)
        return default if value is None else value

    def take(self, name: str, kind: type, default: Any) -> Any:
        """Give a value of ``kind`` (int, float, str, bool, or list for whole numbers)."""
        value = self.get(name, default)
        allowed: Any = (int, float) if kind is float else kind
        right = isinstance(value, allowed) and not (isinstance(value, bool) and kind is not bool)
        if not right or (kind is list and not all(isinstance(entry, int) for entry in value)):
            raise CheckpointError(f"{self.path}: {name} is {str(value)[:80]}, which it cannot be")
        return float(value) if kind is float else value

    def token(self, name: str, default: str) -> str:
        """Give a token, which may be described by an object."""
        value = self.get(name, default)
        return str(value.get("content", default)) if isinstance(value, dict) else str(value)
