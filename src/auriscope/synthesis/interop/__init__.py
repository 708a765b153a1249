"""Checkpoints of other toolkits as ours: what configuration they are, and which of our weights each of theirs is.

Nothing of the other toolkits is imported, and nothing is unpickled but plain data and tensors.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.pretrained.foreign import Foreign
from auriscope.synthesis.interop import hifigan, tacotron2

__all__ = ["FILE_PATTERNS", "Foreign", "recognise"]

FILE_PATTERNS = (*hifigan.FILE_PATTERNS, *tacotron2.FILE_PATTERNS)
"""The files of the checkpoints that :func:`recognise` knows."""


def recognise(path: Path) -> Foreign | None:
    """Read another toolkit's synthesiser or vocoder from a folder; None where it is none that is known.

    Raises ``CheckpointError`` for one that is damaged, not whole, or of a model that cannot be loaded.
    """
    found = hifigan.recognise(path)
    return tacotron2.recognise(path) if found is None else found
