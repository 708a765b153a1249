"""The files of a checkpoint's folder, and the reading of its ``config.json``, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from auriscope.errors import CheckpointError

FORMAT_VERSION = 3
"""The layout of weights in fewer than eight bits, the newest that is read; eight bits are 2, and all else is 1."""

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
README_NAME = "README.md"
CARD_NAME = "card.json"
CALIBRATION_NAME = "calibration.json"
"""What held-out data say of a speaker model's scores; it goes with the weights that it was made for."""
FILE_NAMES = (CONFIG_NAME, WEIGHTS_NAME, README_NAME, CARD_NAME, CALIBRATION_NAME)
"""Every file that goes with the weights and with no others, and the first that are downloaded from a hub."""


def is_own(folder: Path) -> bool:
    """Whether a folder was written by ``save_pretrained``, whole or damaged, and not by another toolkit.

    Others, too, call files ``config.json`` and ``model.safetensors``; their configuration is an object without the key
    ``format_version``, in transformers' with a ``model_type``.
    """
    try:
        config = read_json(folder / CONFIG_NAME)
    except CheckpointError:
        return (folder / WEIGHTS_NAME).is_file() or (folder / CONFIG_NAME).is_file()
    return "format_version" in config or ("model_type" not in config and (folder / WEIGHTS_NAME).is_file())


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check ``config.json``: the keys of a checkpoint, each of its type.

    ``format_version`` int, ``architecture`` str, ``config`` dict, ``weights_sha256`` str (64 hexadecimal digits),
    ``num_parameters`` int, and ``sample_rate`` int in hertz or null. Raises ``CheckpointError``.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    config = read_json(path)
    version = config.get("format_version")
    if version not in range(1, FORMAT_VERSION + 1) or isinstance(version, bool):
        raise CheckpointError(
            f"{path}: format_version is {version!r}, and this auriscope reads 1 to {FORMAT_VERSION}; "
            "a newer auriscope may read it"
        )
    kinds: dict[str, type] = {"architecture": str, "config": dict, "weights_sha256": str, "num_parameters": int}
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise CheckpointError(f"{path}: {key!r} is missing or not {_KIND_NAMES[kind]}; save the model again")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ``CheckpointError`` when the file is missing, damaged or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: not a model: it has no {path.name}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    # RecursionError: thousands of nested brackets, which only a made-up file has.
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: it is not valid JSON; save or download the model again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged: it does not hold a JSON object; save or download the model again")
    return value


_KIND_NAMES: dict[type, str] = {str: "a string", dict: "an object", int: "a whole number"}


def readable_json(value: Any, margin: str = "") -> str:
    """Write JSON with a line for each field of an object; lists, of thousands of words maybe, are in one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = f"{margin}  "
    fields = [f"{inner}{json.dumps(name)}: {readable_json(field, inner)}" for name, field in value.items()]
    return "{\n" + ",\n".join(fields) + f"\n{margin}}}"
