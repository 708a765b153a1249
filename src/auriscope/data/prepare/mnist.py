"""MNIST and Fashion-MNIST: 70,000 grey pictures of 28 x 28 pixels each, of handwritten digits and of clothes.

Y. LeCun et al., "Gradient-based learning applied to document recognition" (Proceedings of the IEEE 1998); H. Xiao, K.
Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (arXiv
1708.07747). Both as distributed: four idx files, as they are or packed by gzip. Neither has a validation part: the last
5,000 training images are taken for it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from auriscope.data.prepare.labelled import ImageLayout
from auriscope.data.prepare.layout import Selection
from auriscope.data.prepared_images import PreparedStretch, read_array
from auriscope.errors import CorpusError

DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_VALID = 5_000


def _find(
    labels: tuple[str, ...],
    folder: str,
    root: Path,
    selection: Selection,  # noqa: ARG001
) -> tuple[tuple[str, ...], list[PreparedStretch]]:
    found = []
    for part in ("train", "t10k"):
        images, classes = (_file(root, folder, f"{part}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        number = len(read_array(root / images))
        if part == "t10k":
            found.append(PreparedStretch(images, "test", 0, number, labels_path=classes))
            continue
        if number <= _VALID:
            raise CorpusError(f"{root / images}: holds {number} images, none beside the {_VALID} for the valid split")
        found.append(PreparedStretch(images, "train", 0, number - _VALID, labels_path=classes))
        found.append(PreparedStretch(images, "valid", number - _VALID, number, labels_path=classes))
    return labels, found


def _file(root: Path, folder: str, name: str) -> str:
    """A file in the root or where torchvision puts it, with a hyphen or a point in its name, packed or not."""
    for place in ("", f"{folder}/raw/", "raw/"):
        for written in (name, name.replace("-idx", ".idx")):
            for suffix in ("", ".gz"):
                if (root / f"{place}{written}{suffix}").is_file():
                    return f"{place}{written}{suffix}"
    raise CorpusError(f"{root / name}: is not there, neither packed; give --root the folder of the four files")


def _official(_: Selection) -> dict[str, int]:
    return {"train": 55_000, "valid": 5_000, "test": 10_000}


LAYOUTS = (
    ImageLayout("mnist", {"condition": ("digits",)}, partial(_find, DIGITS, "MNIST"), _official),
    ImageLayout("fashion-mnist", {"condition": ("clothes",)}, partial(_find, CLOTHES, "FashionMNIST"), _official),
)
