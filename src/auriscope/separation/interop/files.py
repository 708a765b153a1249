"""Which toolkit a folder or file is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from auriscope.pretrained.foreign import Foreign, is_state_dict, read_tensors
from auriscope.separation.interop import speechbrain
from auriscope.separation.interop.asteroid import from_asteroid
from auriscope.separation.interop.torchaudio import from_torchaudio, is_torchaudio

_NAMES = ("pytorch_model.bin", "model.pth")
_SUFFIXES = (".bin", ".pth", ".pt", ".th", ".ckpt")

FILE_PATTERNS = (*speechbrain.FILE_PATTERNS, *_NAMES)
"""The files of the checkpoints that :func:`recognise` knows."""


def recognise(path: Path) -> Foreign | None:
    """Read another toolkit's separator from a folder or file; None where it is none that is known.

    SpeechBrain's are folders with ``hyperparams.yaml`` and ``<part>.ckpt``; Asteroid's and torchaudio's are files,
    whatever their name, or folders with ``pytorch_model.bin`` or ``model.pth``. Raises ``CheckpointError`` for one that
    is damaged, not whole, or of a model that cannot be loaded.
    """
    if path.is_dir():
        found = speechbrain.recognise(path)
        files = [path / name for name in _NAMES if (path / name).is_file()]
        if found is not None or not files:
            return found
        path = files[0]
    elif path.suffix not in _SUFFIXES:
        return None
    content = read_tensors(path)
    if isinstance(content, Mapping) and {"model_name", "state_dict"} <= content.keys():
        return from_asteroid(content)
    if is_state_dict(content) and is_torchaudio(content):
        return from_torchaudio(content)
    return None
