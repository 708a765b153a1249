"""What reading a checkpoint of any other toolkit takes: counting its modules, renaming its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from auriscope.pretrained.foreign import Foreign, read_tensors

__all__ = ["Foreign", "Renames", "count_modules", "read_tensors", "rename"]

Renames = tuple[tuple[str, str], ...]
"""Regular expressions and what replaces them: how the names of another toolkit's weights become ours."""


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
