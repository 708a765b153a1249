"""Saving and loading a model's folder: ``config.json``, ``model.safetensors``, ``card.json`` and ``README.md``.

A checkpoint holds data, never a pickled class: the weights are parsed by safetensors alone, and the architecture is
looked up by its registered name. What is read is treated as untrusted: every damage ends in one clear line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import auriscope
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained.card import ModelCard
from auriscope.pretrained.files import (
    CARD_NAME,
    CONFIG_NAME,
    FILE_NAMES,
    FORMAT_VERSION,
    README_NAME,
    WEIGHTS_NAME,
    read_config,
    readable_json,
)
from auriscope.pretrained.model import Model, model_class

Module = TypeVar("Module", bound=nn.Module)


_SCALES = ".row_scales"
"""Ending of the names of the tensors by which the rows of others are multiplied."""
_PACKED = ".packed_shape"
"""Ending of the names of the tensors that hold the shapes of others, whose values are packed bit by bit."""
_FEW = 1024
"""Tensors of fewer values are not worth fewer bits."""
_SHARES = torch.linspace(0.6, 1.0, 17)
"""Of the largest value of a row: what the largest whole number may stand for, larger values being cut."""


def save_pretrained(
    model: Model,
    folder: str | Path,
    card: ModelCard | None = None,
    half: bool = False,
    bits: int | None = None,
) -> None:
    """Write a model into ``folder``: configuration, weights, their checksum, and the card when one is given.

    Everything is written into a folder aside, flushed to the disk, and renamed into place: a reader finds the old
    checkpoint or the new one. Other files that lie in an existing folder stay. ``half=True`` stores the weights in
    float16, half the size, and loading gives float32 back; a tensor that float16 cannot hold is stored as it is.
    ``bits``, 4 to 8, stores matrices and larger tensors as whole numbers of so many bits, from -127 to 127 of eight,
    with a scale for each row, and everything else as ``half`` does: a quarter of the size with eight, less with fewer.
    Raises ``CheckpointError`` when the folder cannot be written, ``ValueError`` for other ``bits``.
    """
    if bits not in (None, 4, 5, 6, 7, 8):
        raise ValueError(f"bits must be 4 to 8, not {bits}")
    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if bits and tensor.dtype == torch.float32 and tensor.dim() > 1 and tensor.numel() >= _FEW:
            numbers, tensors[name + _SCALES] = _rows_in_whole_numbers(tensor.detach().cpu(), bits)
            tensors[name] = numbers if bits == 8 else _packed(numbers, bits)
            if bits < 8:
                tensors[name + _PACKED] = torch.tensor(numbers.shape)
        else:
            tensors[name] = _stored(tensor, half or bits is not None)
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    config = {
        "format_version": 1 if bits is None else 2 if bits == 8 else FORMAT_VERSION,
        "auriscope_version": auriscope.__version__,
        "architecture": model.name,
        "config": dataclasses.asdict(model.config),
        "sample_rate": getattr(model.config, "sample_rate", None),
        "num_parameters": model.num_parameters,
        "weights_dtype": f"int{bits}" if bits else "float16" if half else "float32",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    contents = {WEIGHTS_NAME: weights, CONFIG_NAME: (readable_json(config) + "\n").encode()}
    if card is not None:
        contents |= _card_files(card, config)
    _write(folder, contents)


def replace_card(folder: str | Path, card: ModelCard) -> None:
    """Give the model in ``folder`` another card; its weights and configuration stay as they are, to the byte.

    Raises ``CheckpointError`` when there is no model or the folder cannot be written.
    """
    folder = Path(folder)
    config = read_config(folder)
    kept = {name: (folder / name).read_bytes() for name in FILE_NAMES if (folder / name).exists()}
    _write(folder, kept | _card_files(card, config))


def _card_files(card: ModelCard, config: Mapping[str, Any]) -> dict[str, bytes]:
    facts = {"architecture": config["architecture"], "parameters": f"{config['num_parameters']:,}"}
    if config["sample_rate"] is not None:
        facts["sample rate"] = f"{config['sample_rate']} Hz"
    return {CARD_NAME: card.to_json().encode(), README_NAME: card.render(facts).encode()}


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    try:
        _write_folder(folder, contents)
    except OSError as error:
        raise CheckpointError(f"{folder}: the model cannot be written there: {error.strerror or error}") from error


def load_pretrained(folder: str | Path, device: Any = "cpu") -> Model:
    """Load the model that ``save_pretrained`` wrote into ``folder``, in evaluation mode, on ``device``.

    The weights' checksum, names and shapes must be exactly those of the configuration. Raises ``CheckpointError`` with
    one line for a folder or file that is missing, damaged, of a later format, or of an unknown architecture.
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors = _read_weights(folder / WEIGHTS_NAME, config["weights_sha256"])
    try:
        cls = model_class(config["architecture"])
        model = _build(cls, config["config"])
        _fill(model, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    return to_device(model, device).eval()


def to_device(module: Module, device: Any) -> Module:
    """Move a module; raises ``AuriscopeError`` when the device does not exist or cannot be used."""
    try:
        return module.to(torch.device(device))
    # torch answers a missing backend with an AssertionError, a wrong name or a full device with a RuntimeError.
    except (RuntimeError, AssertionError) as error:
        raise AuriscopeError(f"the device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error


def _stored(tensor: Tensor, half: bool) -> Tensor:
    """Give the tensor as it goes into the file: on the CPU, contiguous, sharing no memory, perhaps halved."""
    # safetensors refuses shared memory: tied parameters are stored twice, and loading fills the tie twice.
    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if half and tensor.dtype == torch.float32:
        small = tensor.half()
        if torch.isfinite(small).eq(torch.isfinite(tensor)).all():
            return small
    return tensor


def _rows_in_whole_numbers(tensor: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers (int8) in the tensor's shape, and the scale (rows,) of each of its rows.

    With eight bits the largest value of a row is the largest number. With fewer, each row takes the scale of those that
    are tried that leaves the smallest squared error, the largest values being cut.
    """
    rows, most = tensor.flatten(1), 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1)
    tiny = torch.finfo(torch.float32).tiny
    tried = [(share * largest / most).clamp(min=tiny) for share in (_SHARES if bits < 8 else _SHARES[-1:])]

    def rounded(scales: Tensor) -> Tensor:
        return (rows / scales[:, None]).round().clamp(-most, most)

    errors = [(rounded(scales) * scales[:, None] - rows).square().sum(1) for scales in tried]
    scales = torch.stack(tried)[torch.stack(errors).argmin(0), torch.arange(len(rows))]
    return rounded(scales).to(torch.int8).reshape(tensor.shape), scales


def _packed(numbers: Tensor, bits: int) -> Tensor:
    """Bytes (uint8) that hold the lowest ``bits`` of every number one behind another, lowest first."""
    values = numbers.flatten().numpy().view(np.uint8)
    return torch.from_numpy(np.packbits((values[:, None] >> np.arange(bits, dtype=np.uint8)) & 1, bitorder="little"))


def _unpacked(stored: Tensor, shape: Tensor, path: Path, name: str) -> Tensor:
    """The numbers that :func:`_packed` packed, as float32 of their shape; how many bits they have the size tells."""
    sizes = [int(size) for size in shape.flatten().tolist()]
    count = math.prod(sizes) if min(sizes, default=0) > 0 else 0
    bits = 8 * stored.numel() // count if count else 0
    if stored.dtype != torch.uint8 or bits not in (4, 5, 6, 7) or stored.numel() != -(-count * bits // 8):
        raise CheckpointError(f"{path}: {name!r} is not packed as its shape says; copy or download it again")
    each = np.unpackbits(stored.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    # The highest bit tells negative numbers, as in all whole numbers of processors.
    weights = np.array([*(2**place for place in range(bits - 1)), -(2 ** (bits - 1))], dtype=np.float32)
    return torch.from_numpy(each @ weights).reshape(sizes)


def _in_full(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of a file, those in whole numbers unpacked and multiplied by the scales of their rows."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith((_SCALES, _PACKED))}
    for name, shape in tensors.items():
        own = name.removesuffix(_PACKED)
        if own != name and own in found:
            found[own] = _unpacked(found[own], shape, path, own)
    for name, scales in tensors.items():
        own = name.removesuffix(_SCALES)
        if own == name:
            continue
        stored = found.get(own)
        if stored is None or stored.dim() < 2 or scales.shape != stored.shape[:1]:
            raise CheckpointError(f"{path}: {name!r} are no scales of its rows; copy or download it again")
        found[own] = stored.float() * scales.reshape(-1, *[1] * (stored.dim() - 1))
    return found


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make ``folder`` hold the contents, keeping a former folder's other files, by renaming a finished folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(0, "it is a file")
    # An absolute parent, so that a folder given as "." or "runs/.." has a name to put aside.
    folder = folder.resolve()
    token = secrets.token_hex(4)
    fresh, former = (folder.parent / f".{folder.name}.{kind}-{token}" for kind in ("new", "old"))
    try:
        fresh.mkdir()
        for name, data in contents.items():
            with (fresh / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(former)
        fresh.rename(folder)
    except BaseException:
        if former.exists() and not folder.exists():
            former.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if former.exists():
        for entry in former.iterdir():
            if entry.name not in FILE_NAMES:
                entry.rename(folder / entry.name)
        shutil.rmtree(former)


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file after checking its checksum; nothing in it is ever executed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: not a whole model: it has no {path.name}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    # The same bytes are checked and parsed, so that the file cannot change in between.
    if hashlib.sha256(data).hexdigest() != sha256.lower():
        raise CheckpointError(
            f"{path}: its SHA-256 is not that of {CONFIG_NAME}: truncated or altered; copy or download it again"
        )
    try:
        return _in_full(safetensors.torch.load(data), path)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file; copy or download it again") from error


def _build(cls: type[Model], values: dict[str, Any]) -> Model:
    """Build the network of a configuration from a file."""
    try:
        return cls.from_config(values)
    except CheckpointError:
        raise
    # Values of the right type can still be absurd (a kernel of size -1, 10^12 channels), and what a constructor then
    # raises depends on the layer. They come from a file, so this is the user's problem and not the code's.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{cls.name}: its configuration does not build a network: {reason}") from error


def _fill(model: Model, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into the model, in the model's precision; names and shapes must match exactly."""
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        raise CheckpointError(f"the weights lack {missing[0]!r}{_more(missing)}: they are of another model")
    if extra:
        raise CheckpointError(f"the weights hold {extra[0]!r}{_more(extra)}, unknown to {model.name}")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"the weights' {name!r} has shape {tuple(tensors[name].shape)}, and the configuration "
                f"makes it {tuple(tensor.shape)}"
            )
    model.load_state_dict(tensors)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
