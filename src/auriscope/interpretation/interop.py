"""SpeechBrain's interpreter ``PIQ-ESC50``: a folder of ``hyperparams.yaml``, ``psi.ckpt`` and the classifier's files.

The interpreter is loaded from the folder, and the classifier that it explains from ``embedding_model.ckpt`` in it.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_parts, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml

_PART = "psi"
_FILES = ("psi", "psi_model")
_CLASSIFIER = "embedding_model.ckpt"
FILE_PATTERNS = (FILE_NAME, *(f"{name}.ckpt" for name in _FILES), _CLASSIFIER)
"""The files of the checkpoints that :func:`recognise` knows."""

PIQ: Renames = ((r"^(?:psi|psi_model)\.", ""), (r"^codebook\.embedding\.weight$", "codebook.codes"))
"""The weights of a ``VectorQuantizedPSI_Audio`` as those of our ``PIQ``."""
_NUM_MAPS = 5


def recognise(path: Path) -> Foreign | None:
    """Read an interpreter of SpeechBrain's from its folder.

    None when it is none; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    if not (path / FILE_NAME).is_file():
        return None
    file = HyperPyYaml.read(path / FILE_NAME)
    members = file.get("modules")
    if not isinstance(members, dict) or _PART not in members:
        return None
    network = file.part("modules", _PART)
    network.require_kind("VectorQuantizedPSI_Audio")
    for name in ("use_vq", "use_mask_output"):
        if file.get(name) not in (None, True):
            raise CheckpointError(f"{file.path}: {name} is {file.get(name)}, and must be true to be loaded")
    network.require("activate_class_partitioning", True, True)
    network.require("use_adapter", True, True)
    dim = network.take("dim", int, 128)
    config = {
        "classifier": str(path / _CLASSIFIER),
        "num_classes": network.take("numclasses", int, 50),
        "hidden_channels": [dim] * _NUM_MAPS,
        "sample_rate": file.part("modules", "compute_stft").take("sample_rate", int),
        "num_codes": network.take("K", int, 512),
        "num_shared": network.take("shared_keys", int, 0),
        "halve": network.take("adapter_reduce_dim", bool, True),
    }
    network.finish()
    name = next((name for name in _FILES if (path / f"{name}.ckpt").is_file()), _FILES[0])
    return Foreign("interpretation/piq", config, rename(read_parts(path, [name]), PIQ))
