"""Addresses: how a model is named, found and loaded.

========================================  ==========================================================================
``separation/dprnn.libri-mini``           weights shipped with auriscope: room, system, name of the weights
``runs/dprnn/exported``                   a folder written by ``save_pretrained``
``models/sepformer-wsj02mix``             a folder or file of another toolkit that a room's ``interop`` recognises
``hf://owner/name`` or ``...@revision``   a repository of the Hugging Face hub that holds such a folder
``hf://owner/name/lm.ckpt``               one of its files that is a model by itself
``separation/dprnn``                      an architecture: it has no weights, and loads only with ``random_weights``
========================================  ==========================================================================

A shipped name wins over a folder of the same spelling; write ``./separation/dprnn.libri-mini`` for the folder.
This module imports torch only when a model is loaded, so that listing the shipped models is quick.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auriscope.errors import CheckpointError
from auriscope.pretrained.card import ModelCard
from auriscope.pretrained.files import CONFIG_NAME, FILE_NAMES, WEIGHTS_NAME, is_own, read_config

if TYPE_CHECKING:
    from auriscope.pretrained.foreign import Foreign
    from auriscope.pretrained.model import Model

ROOMS = (
    "separation",
    "recognition",
    "synthesis",
    "speaker",
    "classification",
    "crossmodal",
    "interpretation",
    "quality",
)
"""The rooms that may hold models; those not built yet are passed over."""

WEIGHTS = Path(__file__).parent / "weights"
"""Where the shipped weights lie, as ``<room>/<system>.<name>/``."""

_HUB = re.compile(r"hf://(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>\w[\w.-]*))?(?:@(?P<revision>[\w./-]+))?")
_ARCHITECTURE = re.compile(r"[a-z]\w*/[a-z][\w-]*")
_SHIPPED = re.compile(r"(?P<architecture>[a-z]\w*/[a-z][\w-]*)\.[\w-][\w.-]*")


@dataclass(frozen=True)
class ShippedModel:
    """What is known of shipped weights without reading them.

    ``metrics`` maps a test figure's description to its value, as on the card.
    """

    address: str
    room: str
    num_parameters: int
    sample_rate: int | None
    licence: str
    metrics: dict[str, float] = field(default_factory=dict)


def import_room(room: str) -> Any:
    """Import ``auriscope.<room>``, whose package registers the room's models, and return it.

    This and :func:`import_interop` are the only places where a lower layer reaches a room: by name, when a model of
    that room is asked for. Raises ``CheckpointError`` when there is no such room.
    """
    if room not in ROOMS or importlib.util.find_spec(f"auriscope.{room}") is None:
        raise CheckpointError(f"there is no room {room!r} with models{suggest(room, _present_rooms())}")
    return importlib.import_module(f"auriscope.{room}")


def import_interop(room: str) -> Any:
    """Import ``auriscope.<room>.interop``, which knows other toolkits' files, and return it; None if there is none."""
    import_room(room)
    name = f"auriscope.{room}.interop"
    return None if importlib.util.find_spec(name) is None else importlib.import_module(name)


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Give the end of an error line: the nearest of the candidates, or the list of them when none is near.

    >>> suggest("separation/dprn", ["separation/dprnn", "separation/convtasnet"])
    "; did you mean 'separation/dprnn'?"
    >>> suggest("whatever", ["separation/dprnn", "separation/convtasnet"])
    '; known are separation/convtasnet, separation/dprnn'
    >>> suggest("whatever", [])
    ''
    """
    names = sorted(candidates)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def list_architectures() -> list[str]:
    """List the registered name of every model, ``room/system``, sorted; imports every room that is present."""
    for room in _present_rooms():
        import_room(room)
    from auriscope.pretrained.model import registered

    # A class defined outside auriscope (a user's own, a test's) may be registered too, but is not ours to list.
    return sorted(name for name, cls in registered().items() if cls.__module__.startswith("auriscope."))


def list_shipped() -> list[ShippedModel]:
    """List the shipped weights in the order of their addresses, from their ``config.json`` and ``card.json`` alone."""
    found = []
    for path in sorted(WEIGHTS.glob(f"*/*.*/{CONFIG_NAME}")):
        folder = path.parent
        config = read_config(folder)
        card = ModelCard.read(folder)
        found.append(
            ShippedModel(
                address=f"{folder.parent.name}/{folder.name}",
                room=folder.parent.name,
                num_parameters=config["num_parameters"],
                sample_rate=config.get("sample_rate"),
                licence=card.licence,
                metrics=dict(card.metrics),
            )
        )
    return found


def load(
    address: str | Path,
    *,
    device: Any = "cpu",
    offline: bool | None = None,
    random_weights: bool = False,
) -> Model:
    """Load the model at an address, in evaluation mode, on ``device``.

    ``offline=True`` forbids the network: a ``hf://`` address then loads only what an earlier call has downloaded.
    ``None`` asks the environment variable ``AURISCOPE_OFFLINE``. ``random_weights=True`` makes an architecture's
    address (``separation/dprnn``) give the paper's configuration with freshly drawn weights; no other address takes it.
    Raises ``CheckpointError`` with one line that says what is wrong and, for a wrong name, what is near.
    """
    if random_weights:
        from auriscope.pretrained.checkpoint import to_device
        from auriscope.pretrained.model import model_class

        return to_device(model_class(str(address)).from_config({}), device).eval()
    path = resolve(address, offline=offline)
    from auriscope.pretrained.checkpoint import load_pretrained, to_device

    if is_own(path):
        return load_pretrained(path, device=device)
    try:
        foreign = _recognise(path)
        if foreign is not None:
            return to_device(foreign.build(), device)
    except CheckpointError as error:
        line = str(error)
        raise CheckpointError(line if line.startswith(str(path)) else f"{path}: {line}") from error
    if path.is_file():
        raise CheckpointError(
            f"{path}: a model is a folder with a {CONFIG_NAME}, or a file of weights of another toolkit"
        )
    raise CheckpointError(
        f"{path}: not a model: it has no {CONFIG_NAME} of auriscope's, and no files of another toolkit that are known"
    )


def weights_sha256(address: str | Path, *, offline: bool | None = None) -> str:
    """Give a checksum that changes with the weights at an address; downloads them for ``hf://``, as :func:`load`."""
    path = resolve(address, offline=offline)
    if is_own(path):
        return str(read_config(path)["weights_sha256"])
    from auriscope.pretrained.foreign import files_sha256

    return files_sha256(path, _foreign_patterns())


def _recognise(path: Path) -> Foreign | None:
    """Ask every room in turn whether a folder or file is a checkpoint that it knows from another toolkit."""
    for interop in _interops():
        foreign: Foreign | None = interop.recognise(path)
        if foreign is not None:
            return foreign
    return None


def _interops() -> list[Any]:
    modules = (import_interop(room) for room in _present_rooms())
    return [module for module in modules if module is not None]


def _foreign_patterns() -> tuple[str, ...]:
    return tuple(sorted({pattern for interop in _interops() for pattern in interop.FILE_PATTERNS}))


def resolve(address: str | Path, *, offline: bool | None = None) -> Path:
    """Find the folder or file of the checkpoint at an address, downloading it for ``hf://``; see :func:`load`."""
    text = str(address)
    if text.startswith("hf:"):
        return _download(text, is_offline() if offline is None else offline)
    shipped = WEIGHTS / text
    if _SHIPPED.fullmatch(text) and (shipped / CONFIG_NAME).is_file():
        return shipped
    # Path of an empty address is the current folder, which nobody means.
    if text and Path(text).exists():
        return Path(text)
    raise CheckpointError(_not_found(text))


def is_offline() -> bool:
    """Whether ``AURISCOPE_OFFLINE`` is set to anything but nothing, 0, false or no."""
    return os.environ.get("AURISCOPE_OFFLINE", "").strip().lower() not in {"", "0", "false", "no"}


def _present_rooms() -> list[str]:
    return [room for room in ROOMS if importlib.util.find_spec(f"auriscope.{room}") is not None]


def _not_found(address: str) -> str:
    """Say why nothing was found at an address that is neither shipped, nor a folder, nor on the hub."""
    if not (_SHIPPED.fullmatch(address) or _ARCHITECTURE.fullmatch(address)) and ("/" in address or os.sep in address):
        return f"{address}: there is no such folder, and it is not the name of a model"
    shipped, architectures = [model.address for model in list_shipped()], list_architectures()
    match = _SHIPPED.fullmatch(address)
    architecture = match["architecture"] if match else address
    if architecture not in architectures:
        return f"there is no model {address!r}{suggest(address, [*shipped, *architectures])}"
    weights = [name for name in shipped if name.startswith(f"{architecture}.")]
    known = f"shipped are {', '.join(weights)}" if weights else "none are shipped"
    if match is None:
        return f"{address} is an architecture, not weights: {known}; give those, a folder or a hf:// address"
    near = difflib.get_close_matches(address, weights, n=1)
    return f"there are no weights {address!r}{suggest(address, weights) if near else f': {known}'}"


def _download(address: str, offline: bool) -> Path:
    """Bring a checkpoint's files, and nothing else, from the hub into its cache: ours, or else another toolkit's."""
    match = _HUB.fullmatch(address)
    if match is None:
        raise CheckpointError(
            f"{address}: not an address of the hub; write hf://owner/name, with @revision or /file if need be"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, revision = match["repo"], match["revision"]

    def bring(patterns: Iterable[str]) -> Path:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=list(patterns), local_files_only=offline
        )
        return Path(found)

    try:
        folder = bring(FILE_NAMES)
        if match["file"] is None and is_own(folder):
            return folder
        # Many repositories hold the same weights twice; the safe spelling of them has just come.
        twice = "pytorch_model.bin" if (folder / WEIGHTS_NAME).is_file() else None
        folder = bring(pattern for pattern in _foreign_patterns() if pattern != twice)
        if match["file"] is None:
            return folder
        if not (folder / match["file"]).is_file():
            raise CheckpointError(f"{address}: the repository has no {match['file']}, or it is not a model's")
        return folder / match["file"]
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{address}: the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{address}: there is no such repository on the hub, or it is private") from error
    except LocalEntryNotFoundError as error:
        if offline:
            reason = "--offline (or AURISCOPE_OFFLINE) forbids the network, and it was not downloaded before"
        else:
            reason = "the hub cannot be reached and it was not downloaded before; check the network"
        raise CheckpointError(f"{address}: {reason}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{address}: cannot be downloaded: {str(error).splitlines()[0]}") from error
