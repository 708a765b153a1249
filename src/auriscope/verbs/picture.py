"""Pictures as files: finding them in folders, and reading them as a classifier of images sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import StrPath, printable, reason

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
"""What counts as a picture in a folder, in lower case."""


def expand_pictures(inputs: StrPath | Iterable[StrPath]) -> list[Path]:
    """List the pictures that inputs stand for: files as given, folders by the pictures in them and below, sorted.

    Pictures that a command wrote beside its record are left out. Raises ``AuriscopeError`` for a folder without any.
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    found: dict[Path, None] = {}
    for path in map(Path, given):
        if not path.is_dir():
            found[path] = None
            continue
        inside = [each for each in sorted(path.rglob("*")) if _is_picture(each.relative_to(path)) and each.is_file()]
        inside = [each for each in inside if not any(each.parent.glob("explain-*.json"))]
        if not inside:
            raise AuriscopeError(f"{printable(path)}: no picture in this folder; give one that holds some")
        found.update(dict.fromkeys(inside))
    return list(found)


def read_picture(path: Path, *, channels: int, height: int, width: int) -> Tensor:
    """Read a picture as (1, channels, height, width) float32 in [0, 1], grey or in colours, fitted to that size.

    The whole picture is shown: what is of another shape gets a border as dark as its darkest corner. Transparent pixels
    are black. Raises ``AuriscopeError`` for what is no picture, or not of one or three channels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if channels not in (1, 3):
        raise AuriscopeError(f"the classifier takes pictures with {channels} channels, but files hold one or three")
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except FileNotFoundError:
        raise AuriscopeError(f"{printable(path)}: no such file; check the path") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({reason(error)})"
        raise AuriscopeError(f"{printable(path)}: is not a picture that can be read{why}; save it as PNG") from None
    mode = "L" if channels == 1 else "RGB"
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert(mode)
    corners = np.asarray(picture)[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(4, -1)
    darkest = tuple(int(value) for value in corners[corners.sum(1).argmin()])
    picture = ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS, color=darkest)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    return (pixels[None] if channels == 1 else pixels.movedim(-1, 0))[None].contiguous()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not any(part.startswith(".") for part in path.parts)
