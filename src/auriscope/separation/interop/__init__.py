"""Checkpoints of other toolkits as ours: what configuration they are, and which of our weights each of theirs is.

Nothing of the other toolkits is imported, and nothing is unpickled but plain data and tensors.
"""

from __future__ import annotations

from auriscope.pretrained.foreign import Foreign, read_tensors
from auriscope.separation.interop.asteroid import from_asteroid
from auriscope.separation.interop.files import FILE_PATTERNS, recognise
from auriscope.separation.interop.speechbrain import from_speechbrain, from_speechbrain_sepformer
from auriscope.separation.interop.torchaudio import from_torchaudio

__all__ = [
    "FILE_PATTERNS",
    "Foreign",
    "from_asteroid",
    "from_speechbrain",
    "from_speechbrain_sepformer",
    "from_torchaudio",
    "read_tensors",
    "recognise",
]
