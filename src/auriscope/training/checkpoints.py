"""Checkpoints of a run: one safetensors file with a checksum, written aside, flushed, then renamed.

A checkpoint is a tree of dictionaries and lists whose leaves are tensors or JSON values. The tensors are stored as
such, everything else is one JSON text in the file's header, so that reading a checkpoint can execute nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from auriscope.errors import CheckpointError

LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"
BEST = "best.safetensors"

_TENSOR = "__tensor__"


def save_tree(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree of tensors and JSON values to ``path``; a reader sees the old file or the whole new one."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(tree, "", tensors))
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, aside, metadata={"tree": text, "sha256": _checksum(text, tensors)})
        aside.chmod(0o644)  # the library makes it readable to its owner only
        _flush(aside)
        aside.replace(path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            aside.unlink()
        raise CheckpointError(f"{path}: the checkpoint cannot be written: {error}") from error


def load_tree(path: Path) -> dict[str, Any]:
    """Read what ``save_tree`` wrote, on the CPU; a missing, damaged or foreign file raises ``CheckpointError``."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such checkpoint") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error}") from error
    if "tree" not in metadata:
        raise CheckpointError(f"{path}: not a checkpoint of a training run")
    if metadata.get("sha256") != _checksum(metadata["tree"], tensors):
        raise CheckpointError(f"{path}: the checkpoint is damaged: its checksum does not match")
    tree: dict[str, Any] = _unpack(json.loads(metadata["tree"]), tensors)
    return tree


def save_latest(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write the newest checkpoint of a run and keep the one before it."""
    newest = folder / LAST
    aside = folder / "newest.safetensors"
    save_tree(aside, tree)
    if newest.exists():
        newest.replace(folder / PREVIOUS)
    # A kill between the two renames leaves only the previous one, which load_latest then takes.
    aside.replace(newest)
    _flush(folder)


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint of a run, or the one before if that is damaged; None if the run has none yet.

    ``CheckpointError`` if there are checkpoints and none can be read: starting anew would overwrite them.
    """
    damage: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            tree = load_tree(path)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        if damage:
            warnings.warn(f"{damage[0]}; continuing from {path.name}", stacklevel=2)
        return tree
    if damage:
        raise CheckpointError(f"{damage[0]}; no earlier one is whole: remove {folder} to start anew")
    return None


def save_weights(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a model's weights (the best of a run) with a few facts about them, such as step and metric."""
    save_tree(path, {"weights": dict(weights), "facts": dict(facts)})


def load_weights(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Put the weights of ``best.safetensors`` (or of the run folder that holds it) into ``model``; return its facts."""
    path = Path(path)
    if path.is_dir():
        path = path / BEST
    tree = load_tree(path)
    try:
        model.load_state_dict(tree["weights"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: these weights do not fit the model: {_one_line(error)}") from error
    facts: dict[str, Any] = tree["facts"]
    return facts


def random_state() -> dict[str, Any]:
    """State of every random generator of this process: python, numpy, torch, and torch on every CUDA device."""
    name, keys, position, has_gauss, cached_gauss = np.random.get_state()
    version, values, gauss = random.getstate()
    return {
        "python": [version, list(values), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached_gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set every random generator of this process to what ``random_state`` returned."""
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever is drawn inside changes nothing outside."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        # A copy: tied parameters share memory, which the format refuses, and the run goes on.
        tensors[path] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: path}
    if isinstance(node, Mapping):
        if not all(isinstance(key, str) for key in node):
            raise TypeError(f"{path}: the keys of a checkpoint are strings")
        return {key: _pack(value, f"{path}/{key}", tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}/{index}", tensors) for index, value in enumerate(node)]
    return node


def _unpack(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if node.keys() == {_TENSOR}:
            return tensors[node[_TENSOR]]
        return {key: _unpack(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    return node


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Have the operating system put a file, or the names in a folder, on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
