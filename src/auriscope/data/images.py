"""Images with their classes: batches for training, and fixed sets to measure on.

The sets, by name:

- ``mnist``: handwritten digits, ``mnist_train_10k`` and ``mnist_10k``; the test split is of ``mnist_10k`` alone, which
  are images of the test set of MNIST, so that nobody's test image is another's training image.
- ``fashion-mnist``: ``fashion_mnist_900``, pieces of clothing.

A folder that ``prepare`` wrote of MNIST, Fashion-MNIST or Quick, Draw! takes the place of a set
(:mod:`auriscope.data.prepared_images`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.data.ahead import made_ahead
from auriscope.data.corpora import corpora_root
from auriscope.data.labelled import Order
from auriscope.data.manifest import SPLITS, read_manifest
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_images import open_images
from auriscope.errors import CorpusError, RecipeError
from auriscope.pretrained.addresses import suggest

IMAGE_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {
        "train": ("mnist_train_10k", "mnist_10k"),
        "valid": ("mnist_train_10k", "mnist_10k"),
        "test": ("mnist_10k",),
    },
    "fashion-mnist": dict.fromkeys(SPLITS, ("fashion_mnist_900",)),
}
"""The sets: the corpora of each split."""


class ImageSet:
    """A fixed sequence of images of one size, all in memory.

    ``images`` (images, height, width) uint8, ``numbers`` (images,) int64, the class of each, and ``ids``; ``labels``
    are the names of the classes. ``name`` is a set or a prepared folder. Raises ``CorpusError`` when there is none of
    this name and split, or its corpora are missing.
    """

    def __init__(self, name: str, split: str = "test", *, root: Path | None = None) -> None:
        self.name, self.split = name, split
        if split not in SPLITS:
            raise CorpusError(f"split {split!r} must be one of {', '.join(SPLITS)}")
        if is_prepared(name):
            self.labels, self.images, self.numbers = open_images(name, split)
            self.ids = [f"{Path(name).name}:{split}:{number}" for number in range(len(self.images))]
            return
        if name not in IMAGE_SETS:
            raise CorpusError(f"there is no set of images {name!r}{suggest(name, IMAGE_SETS)}")
        labels: dict[int, str] = {}
        parts, numbers, self.ids = [], [], []
        for corpus in IMAGE_SETS[name][split]:
            images, own, names = _read(corpus, split, root)
            labels |= names
            parts.append(images)
            numbers += own
            self.ids += [f"{corpus}:{number}" for number in range(len(own))]
        self.images = np.concatenate(parts)
        self.labels = tuple(labels[number] for number in sorted(labels))
        self.numbers = np.array(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Give all images in order as batches: ``image`` (batch, 1, height, width), ``label`` (batch,) and ``id``."""
        for first in range(0, len(self), batch_size):
            chosen = slice(first, first + batch_size)
            yield {
                "image": as_image(self.images[chosen]),
                "label": torch.from_numpy(self.numbers[chosen]),
                "id": self.ids[chosen],
            }


def as_image(images: NDArray[np.uint8]) -> Tensor:
    """Turn grey images (batch, height, width) of bytes into (batch, 1, height, width) with values in [0, 1]."""
    return torch.from_numpy(images)[:, None].float() / 255.0


@dataclass(frozen=True)
class ImagesConfig:
    """What batches of images are made from. Ranges are symmetric and drawn from uniformly, for each image anew.

    Args:
        set: the set's name; or ``prepared``, a folder of images that ``prepare`` wrote.
        prepared: see there.
        batch_size: images in a batch.
        balance: as of :class:`~auriscope.data.labelled.LabelledConfig`.
        shift: up, down and to the sides, as a share of the image's size.
        rotation_degrees: either way.
        scale: larger and smaller, by at most this share.
        shear: sidewards, at most this share of the height.
        flip_probability: how often an image is mirrored at its upright axis.
    """

    set: str = "mnist"
    prepared: str | None = None
    batch_size: int = 128
    balance: float = 0.0
    shift: float = 0.0
    rotation_degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    flip_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise RecipeError(f"data.batch_size must be at least 1, not {self.batch_size}")
        if not 0.0 <= self.flip_probability <= 1.0 or not 0.0 <= self.balance <= 1.0:
            raise RecipeError("data.flip_probability and data.balance must lie between 0 and 1")
        if min(self.shift, self.rotation_degrees, self.scale, self.shear) < 0.0 or self.scale >= 1.0:
            raise RecipeError("data: shift, rotation_degrees, scale and shear must not be negative, and scale below 1")


class ImageBatches:
    """Endless batches of images, each fully determined by its index; ``labels`` are the names of the classes."""

    def __init__(
        self,
        config: ImagesConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        self._set = ImageSet(config.prepared or config.set, split, root=root)
        self.labels = self._set.labels
        self._order = Order(self._set.numbers.tolist(), config.balance, seed)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._set)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``image`` (batch, 1, height, width), ``label`` (batch,), ``id`` and ``index``."""
        chosen = self._order.numbers(index, self.config.batch_size)
        image = as_image(self._set.images[chosen])
        return {
            "image": moved(image, self._drawn(index)),
            "label": torch.from_numpy(self._set.numbers[chosen]),
            "id": [self._set.ids[number] for number in chosen],
            "index": index,
        }

    def _drawn(self, index: int) -> Tensor | None:
        """How the images of a batch are moved, (batch, 2, 3); None: not at all."""
        config = self.config
        if not any((config.shift, config.rotation_degrees, config.scale, config.shear, config.flip_probability)):
            return None
        rng: Any = np.random.default_rng([self.seed, 2, index])
        shares = rng.uniform(-1.0, 1.0, (5, config.batch_size))
        angle = np.deg2rad(config.rotation_degrees) * shares[0]
        size = 1.0 + config.scale * shares[1]
        side = np.where(rng.random(config.batch_size) < config.flip_probability, -1.0, 1.0)
        cos, sin = np.cos(angle) / size, np.sin(angle) / size
        shear = config.shear * shares[2]
        # In the coordinates of the grid, the image goes from -1 to 1.
        rows = (
            (side * cos, side * (shear * cos - sin), 2.0 * config.shift * shares[3]),
            (sin, shear * sin + cos, 2.0 * config.shift * shares[4]),
        )
        return torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float()


def moved(image: Tensor, moves: Tensor | None) -> Tensor:
    """Move images (batch, channels, height, width) by affine maps (batch, 2, 3), filling up with zeros."""
    if moves is None:
        return image
    grid = torch.nn.functional.affine_grid(moves, list(image.shape), align_corners=False)
    return torch.nn.functional.grid_sample(image, grid, align_corners=False)


def _read(corpus: str, split: str, root: Path | None) -> tuple[NDArray[np.uint8], list[int], dict[int, str]]:
    """The images of a split of a corpus, their classes, and what these are called."""
    folder = (root or corpora_root()) / corpus
    if not (folder / "manifest.csv").is_file():
        raise CorpusError(f"there is no corpus {corpus!r} in {folder.parent}; copy it there")
    entries = read_manifest(folder / "manifest.csv")
    names = {int(entry.label or ""): entry.text or entry.label or "" for entry in entries}
    chosen = [entry for entry in entries if entry.split == split]
    if not chosen:
        raise CorpusError(f"the corpus {corpus!r} has no entry in the split {split!r}")
    place = folder / chosen[0].path
    try:
        with np.load(place, allow_pickle=False) as archive:
            images = archive["images"]
        picked: NDArray[np.uint8] = images[[int(entry.more["index"]) for entry in chosen]]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise CorpusError(f"{place}: cannot be read as images ({error}); copy it again") from error
    return picked, [int(entry.label or "") for entry in chosen], names
